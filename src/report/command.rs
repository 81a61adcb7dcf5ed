//! The command that computes a table again, as one types it into a shell.

use super::story::{Run, Story};
use crate::analysis;
use crate::show;
use crate::study::{Prompts, Step, Study};

/// What reruns everything, in the folder of the run: into a folder of its own, whose name is not taken.
pub(super) const ALL: &str = "glassbox run study.toml";

/// Steps that no command of their own computes.
const WITHOUT: [&str; 1] = ["components"];

/// Tables that the report makes, by the beginning of their names, and the table they are made from.
const MADE: [(&str, &str); 5] = [
    ("ablate_head", "ablate_effect"),
    ("ablate_position", "ablate_effect"),
    ("ablate_kinds", "ablate"),
    ("lens_", "lens"),
    ("head_scores_long", "head_scores"),
];

/// The command for a table: its own method with the study's settings, or the whole study where there is none.
///
/// That for `examples_attention` has `{head}` in place of a head: the page fills in which.
pub(super) fn of(story: &Story, table: &str) -> String {
    line(story, table).unwrap_or_else(|| ALL.to_owned())
}

fn line(story: &Story, table: &str) -> Option<String> {
    let (run, study) = (&story.run, story.run.study);
    if let "attention" | "examples_attention" = table {
        // a pattern costs one pass: it is listed beside the scores of heads, whatever the study asked for
        let heads = if table == "attention" { heads(story)? } else { "{head}".to_owned() };
        let start = start(run, &Step::named("heads"))?;
        return Some(format!("{start} --heads {heads} --table attention --format csv"));
    }
    let tables: Vec<(&str, &str)> = run
        .outcomes
        .iter()
        .flat_map(|outcome| {
            outcome.findings.tables.iter().map(|rows| (outcome.name.as_str(), rows.name.as_str()))
        })
        .collect();
    let table = match MADE.iter().find(|(made, _)| table.starts_with(made)) {
        Some((_, from)) if !tables.iter().any(|(_, name)| *name == table) => from,
        _ => table,
    };
    // a view of a table is named after it
    let is_view = |name: &str| table.strip_prefix(name).is_some_and(|rest| rest.starts_with('_'));
    let (step, name) = tables
        .into_iter()
        .filter(|(_, name)| table == *name || is_view(name))
        .max_by_key(|(_, name)| name.len())?;
    if WITHOUT.contains(&step) || step == "circuit" && study.circuit.is_some() {
        return None;
    }
    let step = study.steps.iter().find(|s| s.name == step)?;
    Some(format!("{} --table {} --format csv", start(run, step)?, quoted(name)?))
}

/// The heads whose attention the report shows, `L2H0,L2H1`.
fn heads(story: &Story) -> Option<String> {
    let rows = story.table("attention")?;
    let (layers, heads) = (rows.texts("layer").ok()?, rows.texts("head").ok()?);
    let mut names: Vec<String> = layers.iter().zip(&heads).map(|(l, h)| format!("L{l}H{h}")).collect();
    names.dedup();
    Some(names.join(","))
}

/// `glassbox patch --model … --task …`, up to the table.
fn start(run: &Run, step: &Step) -> Option<String> {
    let study = run.study;
    let entry = analysis::find(&step.name).ok()?;
    let mut words = Words(vec!["glassbox".to_owned(), step.name.clone()]);
    words.flag("model", &run.model())?;
    if study.dtype != "f32" {
        words.flag("dtype", &study.dtype)?;
    }
    if let Some(folding) = &study.fold {
        words.0.push(format!("--fold={}", quoted(&String::from(folding.clone()))?));
    }
    words.prompts(&study.task, run.task.examples.len())?;
    words.flag("seed", &study.seed.to_string())?;
    if entry.takes_metric {
        words.flag("metric", study.metric.name())?;
    }
    words.files(study, entry)?;
    for (key, value) in &step.parameters {
        words.0.push(quoted(&format!("{key}={value}"))?);
    }
    Some(words.0.join(" "))
}

/// The words of a command.
struct Words(Vec<String>);

impl Words {
    fn flag(&mut self, name: &str, value: &str) -> Option<()> {
        // a value that begins with a hyphen would be read as a flag
        let joint = if value.starts_with('-') { "=" } else { " " };
        self.0.push(format!("--{name}{joint}{}", quoted(value)?));
        Some(())
    }

    fn prompts(&mut self, prompts: &Prompts, n: usize) -> Option<()> {
        let ids = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        if prompts.file.is_some() {
            // the folder holds a copy
            self.flag("prompts", "prompts.jsonl")?;
        } else if let Some(text) = &prompts.prompt {
            self.flag("prompt", text)?;
            prompts.corrupt.iter().try_for_each(|text| self.flag("corrupt", text))?;
        } else if !prompts.tokens.is_empty() {
            self.flag("tokens", &ids(&prompts.tokens))?;
            if !prompts.corrupt_tokens.is_empty() {
                self.flag("corrupt-tokens", &ids(&prompts.corrupt_tokens))?;
            }
        } else {
            self.flag("task", prompts.generate.as_deref()?)?;
            self.flag("n", &n.to_string())?;
            prompts.corruption.iter().try_for_each(|word| self.flag("corruption", word))?;
        }
        prompts.answer.iter().try_for_each(|text| self.flag("answer", text))?;
        prompts.wrong.iter().try_for_each(|text| self.flag("wrong", text))?;
        prompts.answer_ids.iter().try_for_each(|id| self.flag("answer-id", &id.to_string()))?;
        prompts.wrong_ids.iter().try_for_each(|id| self.flag("wrong-id", &id.to_string()))?;
        prompts.bos.iter().try_for_each(|word| self.flag("bos", word))?;
        if prompts.chat {
            self.0.push("--chat".to_owned());
            prompts.system.iter().try_for_each(|text| self.flag("system", text))?;
        }
        Some(())
    }

    /// Files beside the prompts, by the names of the folder's copies.
    fn files(&mut self, study: &Study, entry: &analysis::Entry) -> Option<()> {
        if study.reference.is_some() && entry.takes_reference {
            self.flag("reference", "reference.jsonl")?;
        }
        if study.gains.is_some() {
            self.flag("gains", "gains.json")?;
        }
        if let (Some(path), true) = (&study.values, entry.takes_values) {
            self.flag("values", path.to_str()?)?;
        }
        Some(())
    }
}

/// A word as a shell takes it; none for what no one can read before running it.
fn quoted(word: &str) -> Option<String> {
    if word.contains('\n') || show::inert(word) != word {
        return None;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,=@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return Some(word.to_owned());
    }
    Some(format!("'{}'", word.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quoted("logit-diff").as_deref(), Some("logit-diff"));
        assert_eq!(quoted("").as_deref(), Some("''"));
        assert_eq!(quoted("a b; rm -rf $HOME").as_deref(), Some("'a b; rm -rf $HOME'"));
        assert_eq!(quoted("it's").as_deref(), Some("'it'\\''s'"));
        assert_eq!(quoted("a\nb"), None);
        assert_eq!(quoted("a\u{202e}b"), None);
        let mut words = Words(Vec::new());
        words.flag("prompt", "-1 is").unwrap();
        assert_eq!(words.0, ["--prompt='-1 is'"]);
    }
}
