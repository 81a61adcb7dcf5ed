//! A task's examples as batches of a model.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::{Example, Place, Task};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::model::{Pad, Transformer};
use crate::vocabulary::Vocabulary;

/// Which prompt of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The prompt that shows the behaviour.
    #[default]
    Clean,
    /// Its matched counterpart.
    Corrupt,
}

impl Side {
    /// The name used on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Side::Clean => "clean",
            Side::Corrupt => "corrupt",
        }
    }
}

impl std::str::FromStr for Side {
    type Err = Error;

    fn from_str(name: &str) -> Result<Side> {
        let all = [Side::Clean, Side::Corrupt];
        let found = all.into_iter().find(|side| side.name() == name);
        found.ok_or_else(|| Error::unknown("side", name, all.map(Side::name)))
    }
}

impl Example {
    /// The tokens of one side; a corrupt prompt that is not there is an error.
    pub fn prompt(&self, side: Side) -> Result<&[u32]> {
        match (side, &self.corrupt) {
            (Side::Clean, _) => Ok(&self.clean),
            (Side::Corrupt, Some(corrupt)) => Ok(corrupt),
            (Side::Corrupt, None) => Err(Error::usage(
                format!("`{}` has no corrupt prompt", self.id),
                "give `--corrupt`, the field `corrupt`, or choose the clean side",
            )),
        }
    }
}

impl Task {
    /// The prompts of these examples `[batch, pos]`, shorter ones padded on the right: a position is the same column in
    /// every row.
    pub fn tokens(&self, model: &Transformer, indices: &[usize], side: Side) -> Result<Tensor> {
        let rows: Vec<&[u32]> =
            self.of(indices).map(|example| example.prompt(side)).collect::<Result<Vec<_>>>()?;
        model.padded(&rows, Pad::Right)
    }

    /// Where the answers of these examples are due.
    pub fn ends(&self, indices: &[usize]) -> Vec<usize> {
        self.of(indices).map(Example::end).collect()
    }

    /// Logits `[batch, d_vocab]` where the answers of these examples are due. Only those rows are unembedded.
    pub fn logits(&self, lab: &Lab, indices: &[usize], side: Side) -> Result<Tensor> {
        lab.check()?;
        let model = &lab.model;
        let stream = model.embed(&self.tokens(model, indices, side)?, &mut ())?;
        let stream = model.run(stream, None, model.config.n_layers, &mut ())?;
        let logits = model.unembed(&stream.at(&self.ends(indices))?, &mut ())?;
        Ok(logits.squeeze(1)?)
    }

    /// The token that every prompt begins with, if that is a BOS.
    pub fn first_bos(&self) -> Option<u32> {
        self.examples.first().filter(|_| self.bos).and_then(|example| example.clean.first().copied())
    }

    /// Checks that the model can read every token and predict every answer, and that every prompt fits its context.
    pub fn fits(&self, model: &Transformer) -> Result<()> {
        let (n_ctx, read, said) = (model.config.n_ctx, model.config.d_vocab, model.config.d_vocab_out);
        for example in &self.examples {
            let (id, length) = (&example.id, example.clean.len());
            if length > n_ctx {
                return Err(Error::input(
                    format!("the prompt of `{id}` has {length} tokens, but the model's context is {n_ctx}"),
                    "shorten the prompt",
                ));
            }
            let mut prompts = example.clean.iter().chain(example.corrupt.iter().flatten());
            if let Some(token) = prompts.find(|&&token| token as usize >= read) {
                return Err(Error::input(
                    format!("`{id}`: token id {token} is outside the vocabulary of {read}"),
                    "check that tokenizer and model belong together",
                ));
            }
            let mut answers = example.answers.iter().chain(&example.wrong);
            if let Some(token) = answers.find(|&&token| token as usize >= said) {
                return Err(Error::input(
                    format!(
                        "`{id}`: the answer {token} is outside the vocabulary of {said} that is predicted"
                    ),
                    "check that tokenizer and model belong together",
                ));
            }
        }
        Ok(())
    }

    /// How many examples fit a batch within the memory allowed, when each position of a prompt takes `extra` numbers
    /// beyond those of an ordinary pass.
    pub fn fitting(&self, lab: &Lab, extra: usize) -> usize {
        let c = &lab.model.config;
        let longest = self.examples.iter().map(|example| example.clean.len()).max().unwrap_or(1);
        let neurons = c.d_mlp.max(c.experts.map_or(0, |routing| routing.experts * routing.d_expert));
        let numbers = 8 * c.d_model + 4 * neurons + 3 * c.n_heads * longest + extra;
        let bytes = (longest * numbers * lab.model.dtype().size_in_bytes()) as u64;
        ((lab.memory / 2) / bytes.max(1)).clamp(1, 1 << 16) as usize
    }

    fn of<'a>(&'a self, indices: &'a [usize]) -> impl Iterator<Item = &'a Example> {
        indices.iter().filter_map(|&i| self.examples.get(i))
    }
}

impl Place {
    /// The position, if it is the same in every example.
    pub fn pos(&self) -> Option<usize> {
        let (first, rest) = self.positions.split_first()?;
        rest.iter().all(|pos| pos == first).then_some(*first)
    }

    /// How the column reads: the token, when every clean prompt has the same one there; else the name all examples
    /// give the position; else its label.
    pub fn token(&self, task: &Task, vocabulary: &Vocabulary) -> String {
        let both = || task.examples.iter().zip(&self.positions);
        let mut tokens = both().map(|(example, &pos)| example.clean.get(pos));
        if let Some(Some(&first)) = tokens.next()
            && tokens.all(|token| token == Some(&first))
        {
            return vocabulary.token(first);
        }
        let names = task.examples.first().into_iter().flat_map(|example| example.pos.keys());
        let fits = |name: &&String| both().all(|(example, pos)| example.pos.get(*name) == Some(pos));
        names.into_iter().find(fits).unwrap_or(&self.label).clone()
    }

    /// As [`Place::token`]; `clean→corrupt` where all examples exchange one token for another.
    pub fn exchange(&self, task: &Task, vocabulary: &Vocabulary) -> String {
        let at = |(example, &pos): (&Example, &usize)| {
            let corrupt = example.corrupt.as_ref().and_then(|tokens| tokens.get(pos)).copied();
            (example.clean.get(pos).copied(), corrupt)
        };
        let mut pairs = task.examples.iter().zip(&self.positions).map(at);
        match pairs.next() {
            Some((Some(clean), Some(corrupt)))
                if clean != corrupt && pairs.all(|pair| pair == (Some(clean), Some(corrupt))) =>
            {
                format!("{}→{}", vocabulary.token(clean), vocabulary.token(corrupt))
            }
            _ => self.token(task, vocabulary),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_column_reads_as_its_token_its_name_or_its_number() {
        let example = |clean: &[u32]| Example {
            clean: clean.to_vec(),
            pos: BTreeMap::from([("S".to_owned(), 1), ("end".to_owned(), 3)]),
            ..Example::default()
        };
        let task = Task { examples: vec![example(&[0, 1, 2, 9]), example(&[0, 3, 4, 9])], ..Task::default() };
        let vocabulary = Vocabulary::default();
        let shown: Vec<String> = task.places().iter().map(|place| place.token(&task, &vocabulary)).collect();
        assert_eq!(shown, ["#0", "S", "2", "#9"]);
    }
}
