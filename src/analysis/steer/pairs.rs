//! Which pairs make the direction and which it is tried on, all of them pointing the same way.

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::task::{Example, Task};

/// Pairs whose clean prompt is the positive one, in two parts that share no prompt.
pub(super) struct Pairs {
    /// All pairs, turned so that the clean prompt is positive.
    pub(super) task: Task,
    /// Examples that make the direction.
    pub(super) made: Vec<usize>,
    /// Examples that it is tried on.
    pub(super) tried: Vec<usize>,
    /// How they were turned and split.
    pub(super) notes: Vec<String>,
}

impl Pairs {
    pub(super) fn of(lab: &Lab, task: &Task, toward: Option<&str>, share: f64) -> Result<Pairs> {
        let n = task.examples.len();
        if n < 2 {
            return Err(Error::usage(
                "one pair cannot both make a direction and test it",
                "give several pairs: `--task agreement`, or `--prompts FILE`; `generate --steer` steers by one",
            ));
        }
        if !(share > 0.0 && share < 1.0) {
            return Err(Error::usage(
                format!("`share` is {share}: one of the two parts would be empty"),
                "choose a share between 0 and 1",
            ));
        }
        let mut notes = Vec::new();
        let task = turned(lab, task, toward, &mut notes)?;
        let mut order: Vec<usize> = (0..n).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(lab.seed ^ 0x57EE_2517));
        let (made, tried) = order.split_at(((share * n as f64).round() as usize).clamp(1, n - 1));
        let prompts = |i: &usize| -> Vec<&[u32]> {
            let example = &task.examples[*i];
            std::iter::once(example.clean.as_slice()).chain(example.corrupt.as_deref()).collect()
        };
        let known: BTreeSet<&[u32]> = made.iter().flat_map(prompts).collect();
        let is_new = |i: &&usize| prompts(i).iter().all(|prompt| !known.contains(prompt));
        let mut fresh: Vec<usize> = tried.iter().filter(is_new).copied().collect();
        fresh.sort_unstable();
        notes.push(format!("direction from {} pairs, tried on {} others", made.len(), fresh.len()));
        match tried.len() - fresh.len() {
            0 => {}
            known => notes.push(format!(
                "{known} pairs were left out: a prompt of theirs had part in making the direction"
            )),
        }
        if fresh.is_empty() {
            return Err(Error::input(
                "no pair is left to try the direction on: all share a prompt with those that made it",
                "give more pairs, or pairs of more different prompts",
            ));
        }
        let mut made = made.to_vec();
        made.sort_unstable();
        Ok(Pairs { task, made, tried: fresh, notes })
    }
}

/// The task with every pair pointing the same way: toward the answer that was asked for; or, where the examples exchange
/// one and the same pair of answers, toward the first example's; else as written, clean being positive.
fn turned(lab: &Lab, task: &Task, toward: Option<&str>, notes: &mut Vec<String>) -> Result<Task> {
    let goal: Vec<u32> = match toward {
        Some(word) => vec![lab.vocabulary.single(word)?.0],
        None => {
            let Some(first) = task.examples.first() else { return Ok(task.clone()) };
            let same = |e: &Example| e.answers == first.answers && e.wrong == first.wrong;
            let exchanged = |e: &Example| e.answers == first.wrong && e.wrong == first.answers;
            let all = task.examples.iter().all(|e| same(e) || exchanged(e));
            if !all || !task.examples.iter().any(exchanged) {
                return Ok(task.clone());
            }
            first.answers.clone()
        }
    };
    let mut task = task.clone();
    let mut count = 0;
    for example in &mut task.examples {
        let among = |ids: &[u32]| goal.iter().all(|id| ids.contains(id));
        if among(&example.answers) {
            continue;
        }
        let Some(corrupt) = example.corrupt.take().filter(|_| among(&example.wrong)) else {
            return Err(Error::input(
                format!(
                    "`{}` has {:?} neither as answer nor as wrong answer",
                    example.id,
                    toward.unwrap_or("")
                ),
                "name a token that every pair has on one side",
            ));
        };
        example.corrupt = Some(std::mem::replace(&mut example.clean, corrupt));
        std::mem::swap(&mut example.answers, &mut example.wrong);
        count += 1;
    }
    let words: Vec<String> = goal.iter().map(|&id| format!("{:?}", lab.vocabulary.token(id))).collect();
    notes.push(format!(
        "positive is the prompt whose answer is {}; {count} of {} pairs were turned round for that",
        words.join(" or "),
        task.examples.len()
    ));
    Ok(task)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::About;
    use crate::model::{Config, Transformer};
    use crate::vocabulary::Vocabulary;
    use candle_core::DType;

    fn lab() -> Lab {
        let model = Transformer::random(Config::tiny(), 1, DType::F32).unwrap();
        Lab::new(model, Vocabulary::default(), About::default())
    }

    fn task(exchange: bool) -> Task {
        let example = |i: u32| {
            let swap = exchange && i % 2 == 1;
            let (answer, wrong) = if swap { (8, 7) } else { (7, 8) };
            Example {
                id: format!("e{i}"),
                clean: vec![i, u32::from(swap)],
                corrupt: Some(vec![i, u32::from(!swap)]),
                answers: vec![answer],
                wrong: vec![wrong],
                ..Example::default()
            }
        };
        Task { examples: (0..10).map(example).collect(), ..Task::default() }
    }

    #[test]
    fn pairs_point_one_way_and_parts_share_no_prompt() {
        for exchange in [false, true] {
            let pairs = Pairs::of(&lab(), &task(exchange), None, 0.5).unwrap();
            for example in &pairs.task.examples {
                assert_eq!((&example.answers[..], &example.wrong[..]), (&[7][..], &[8][..]));
                assert_eq!((example.clean[1], example.corrupt.as_ref().unwrap()[1]), (0, 1));
            }
            assert_eq!((pairs.made.len(), pairs.tried.len()), (5, 5));
            assert!(pairs.made.iter().all(|i| !pairs.tried.contains(i)));
        }
        let mut same = task(false);
        same.examples.iter_mut().for_each(|e| e.clean = vec![1, 1]);
        let error = Pairs::of(&lab(), &same, None, 0.5).err().unwrap();
        assert!(error.to_string().contains("no pair is left"), "{error}");
        assert!(Pairs::of(&lab(), &task(false), None, 1.0).is_err());
    }
}
