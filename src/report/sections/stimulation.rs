//! What adding a direction to the stream does.

use crate::report::page::{Block, Inline, Section, Table, Words, say};
use crate::report::story::{Story, figure, number, paragraph};
use crate::row::Rows;

pub(super) fn section(story: &Story) -> Option<Section> {
    let rows = story.table("steer")?;
    let best = Best::of(story)?;
    let mut blocks = vec![
        paragraph(
            "To *stimulate* a model is to add a direction to its residual stream while it runs. The direction is the mean \
             difference between positive and negative prompts over one part of the pairs; it is added, times a strength, to \
             prompts of the other part. Strength 0 is the model as it is. A direction that means something moves the answer \
             both ways, by its sign; random directions of the same norm show what any push of that size does.",
            [],
        ),
        Block::Paragraph(best.sentence(story)),
    ];
    blocks.extend(story.figure("steer", "steer_best"));
    blocks.extend(story.figure("steer_layers", "steer_places"));
    blocks.extend(story.figure("steer_cost", "steer_cost_best"));
    if let Some(removed) = story.table("steer_removed") {
        blocks.push(paragraph(
            "The other way round: is the direction *needed*? Here it is projected out of the stream at every layer and \
             position. What is left of the difference between positive and negative prompts is what the model does without it.",
            [],
        ));
        blocks.extend(story.figure("steer_removed", "steer_removed_best"));
        blocks.push(Block::Table(Table {
            rows: removed.clone(),
            columns: ["site", "norm", "gap", "gap_removed", "ci_lo", "ci_hi", "q", "gap_random", "loss", "n"]
                .map(str::to_owned)
                .to_vec(),
            max_rows: Some(16),
            bars: vec!["gap_removed".to_owned()],
            caption: say(
                "Each direction removed: the gap between positive and negative prompts before and after, after removing a \
                 random direction, and the loss on ordinary text.",
                [],
            ),
        }));
    }
    blocks.push(Block::Table(Table {
        rows: rows.clone(),
        columns: [
            "site",
            "strength",
            "effect",
            "ci_lo",
            "ci_hi",
            "q",
            "prob",
            "random_lo",
            "random_hi",
            "kl",
            "loss",
            "n",
        ]
        .map(str::to_owned)
        .to_vec(),
        max_rows: Some(16),
        bars: vec!["effect".to_owned()],
        caption: say("Every dose at every place.", []),
    }));
    blocks.extend(story.notes("steer"));
    Some(Section { id: "stimulation".to_owned(), title: "Stimulating it".to_owned(), blocks })
}

/// The strongest direction in a sentence.
pub(super) fn lead(story: &Story) -> Option<Words> {
    let best = Best::of(story)?;
    Some(say(
        "Adding {} times a direction found in other prompts at {} moves the probability of the positive answer from {} \
         to {}; {} times it, to {}; random directions of the same norm leave it between {} and {}.",
        [
            number(best.high.strength),
            Inline::Code(best.site.clone()),
            number(best.plain),
            number(best.high.prob),
            number(best.low.strength),
            number(best.low.prob),
            number(best.low.random[0].min(best.high.random[0])),
            number(best.low.random[1].max(best.high.random[1])),
        ],
    ))
}

/// The place with the strongest direction, at the doses nearest to plus and minus one.
struct Best {
    site: String,
    plain: f64,
    low: Dose,
    high: Dose,
}

#[derive(Clone, Copy)]
struct Dose {
    strength: f64,
    prob: f64,
    effect: f64,
    /// Lowest and highest probability by random directions.
    random: [f64; 2],
    /// Lowest and highest change of the metric by random directions.
    moved: [f64; 2],
}

impl Best {
    fn of(story: &Story) -> Option<Best> {
        let rows = story.table("steer_best")?;
        let site = rows.texts("site").ok()?.into_iter().next()?;
        let found = doses(rows)?;
        let nearest = |to: f64| {
            let mut sided: Vec<&Dose> = found.iter().filter(|dose| dose.strength * to > 0.0).collect();
            sided.sort_by(|a, b| (a.strength - to).abs().total_cmp(&(b.strength - to).abs()));
            sided.first().map(|dose| **dose)
        };
        let plain = found.iter().find(|dose| dose.strength == 0.0)?.prob;
        Some(Best { site, plain, low: nearest(-1.0)?, high: nearest(1.0)? })
    }

    fn sentence(&self, story: &Story) -> Words {
        let one = |dose: &Dose| {
            format!(
                "{} times the direction changes {} by {} (random directions: {} to {})",
                figure(dose.strength),
                story.run.study.metric,
                figure(dose.effect),
                figure(dose.moved[0]),
                figure(dose.moved[1])
            )
        };
        say(
            "The direction with the largest effect is that at {}: {}, {}.",
            [Inline::Code(self.site.clone()), Inline::Text(one(&self.high)), Inline::Text(one(&self.low))],
        )
    }
}

/// Each strength, with what the steering vector and the random directions do.
fn doses(rows: &Rows) -> Option<Vec<Dose>> {
    let (vector, random) =
        (rows.only("direction", "steering vector").ok()?, rows.only("direction", "random directions").ok()?);
    let numbers = |rows: &Rows, name: &str| -> Option<Vec<f64>> {
        Some(rows.numbers(name).ok()?.into_iter().map(|x| x.unwrap_or(f64::NAN)).collect())
    };
    let (strengths, probs, effects) =
        (numbers(&vector, "strength")?, numbers(&vector, "prob")?, numbers(&vector, "effect")?);
    let ends = |name: &str| -> Option<Vec<[f64; 2]>> {
        let (lo, hi) = (numbers(&random, &format!("{name}_lo"))?, numbers(&random, &format!("{name}_hi"))?);
        Some(lo.into_iter().zip(hi).map(|(lo, hi)| [lo, hi]).collect())
    };
    let (by_prob, by_effect) = (ends("prob")?, ends("effect")?);
    let dose = |i: usize| {
        let (random, moved) = (*by_prob.get(i)?, *by_effect.get(i)?);
        Some(Dose { strength: strengths[i], prob: probs[i], effect: effects[i], random, moved })
    };
    (0..strengths.len()).map(dose).collect()
}
