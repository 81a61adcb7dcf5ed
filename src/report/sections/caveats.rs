//! What a reader must know before believing the page: only the caveats that apply.

use crate::report::page::{Block, Section, Words, say};
use crate::report::story::{Story, plain};

pub(super) fn section(story: &Story) -> Option<Section> {
    let (task, lab) = (story.run.task, story.run.lab);
    let has = |name: &str| story.table(name).is_some();
    let mut points: Vec<Words> = lab.about.caveats.iter().map(|caveat| plain(caveat)).collect();
    if !lab.about.folded.is_empty() {
        points.push(say(
            "Weights were folded: log-probabilities and differences of logits are those of the model's own weights; \
             activations and single logits are those of the folded ones.",
            [],
        ));
    }
    if story.run.study.fold.clone().map(String::from).as_deref() == Some("all") {
        let left_out = |(step, why)| plain(&format!("Folding left out {step}: {why}."));
        points.extend(lab.not_folded().into_iter().map(left_out));
    }
    let mut point = |applies: bool, text: &str| {
        if applies {
            points.push(say(text, []));
        }
    };
    let n = task.examples.len();
    point(n == 1, "One prompt is an anecdote: there is no interval. Use `--task` or `--prompts` for many.");
    point((2..32).contains(&n), "Fewer than 32 prompts: intervals are wide, and small effects may be noise.");
    point(
        has("attribution"),
        "Direct attribution holds the final norm's scale fixed, and says nothing of what a component makes possible \
         later.",
    );
    point(
        has("components"),
        "Components can stand in for each other: a small total effect does not prove that a component is not used, and \
         totals of single components need not add up.",
    );
    point(
        has("components") && !task.is_paired(),
        "Mean ablation replaces a component by an average that the model may never meet; a matched corrupt prompt \
         (`--corrupt`) makes a better comparison.",
    );
    point(
        has("patch_head"),
        "Many cells are tested at once: they are outlined by `q`, which counts all of them, and by size. Where there is no `q` \
         (below 13 prompts), 95 % intervals decide, of which one in twenty excludes 0 by chance.",
    );
    point(
        has("patch_head"),
        "Effects belong to this corruption: what stays the same in both prompts cannot show.",
    );
    point(
        has("ablate"),
        "An ablation shows what the model does without a part, not what the part computes: others may stand in for it, and \
         what all reference prompts share at a position, resampling and means by position leave in place.",
    );
    point(has("attention"), "Attention weights show where a head looks, not what it takes from there.");
    (!points.is_empty()).then(|| Section {
        id: "caveats".to_owned(),
        title: "What to keep in mind".to_owned(),
        blocks: vec![Block::List(points)],
    })
}
