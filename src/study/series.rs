//! One question put to a model at several steps of its training, or to several models: the same steps for each, and their
//! tables joined under the columns `model` and `step`. The analyses know nothing of it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Outcome, Step, Study};
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::row::{Cell, Rows};
use crate::task::Task;

/// Which steps of training are asked: those whose weights were kept, and the finished model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Words", into = "Words")]
pub enum Checkpoints {
    /// Every one there is.
    All,
    /// These. The finished model is the last step of its recipe.
    Steps(Vec<u64>),
}

/// How checkpoints are written in a study: `"all"`, or a list of steps.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Words {
    Word(String),
    Steps(Vec<u64>),
}

impl TryFrom<Words> for Checkpoints {
    type Error = Error;

    fn try_from(words: Words) -> Result<Checkpoints> {
        match words {
            Words::Word(word) => word.parse(),
            Words::Steps(steps) => Ok(Checkpoints::Steps(steps)),
        }
    }
}

impl From<Checkpoints> for Words {
    fn from(checkpoints: Checkpoints) -> Words {
        match checkpoints {
            Checkpoints::All => Words::Word("all".to_owned()),
            Checkpoints::Steps(steps) => Words::Steps(steps),
        }
    }
}

impl FromStr for Checkpoints {
    type Err = Error;

    /// `all`, or steps with commas.
    fn from_str(word: &str) -> Result<Checkpoints> {
        if word == "all" {
            return Ok(Checkpoints::All);
        }
        let steps = word.split(',').map(|step| step.trim().parse()).collect::<std::result::Result<_, _>>();
        steps.map(Checkpoints::Steps).map_err(|_| {
            Error::usage(
                format!("{word:?} names no steps of training"),
                "write `all`, or steps such as `100,700`",
            )
        })
    }
}

/// One model at one step of its training.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// What to open: `textbook@step300`, `textbook`.
    pub word: String,
    /// The model, as the column `model` has it.
    pub model: String,
    /// Updates done; none where steps are not asked for.
    pub step: Option<u64>,
}

impl Study {
    /// Whether the study is put to more than the model itself.
    pub fn is_series(&self) -> bool {
        self.checkpoints.is_some() || !self.compare.is_empty()
    }

    /// Every model at every step asked for, models in the order they are named, steps rising. The finished model of the
    /// study is among them.
    pub fn stages(&self) -> Result<Vec<Stage>> {
        let mut stages: Vec<Stage> = Vec::new();
        for word in std::iter::once(&self.model).chain(&self.compare) {
            let directory = checkpoint::locate(word)?;
            let model = directory.name().to_owned();
            if stages.iter().any(|stage| stage.model == model) {
                return Err(Error::usage(format!("{model} is asked twice"), "name each model once"));
            }
            let Some(asked) = &self.checkpoints else {
                stages.push(Stage { word: word.clone(), model, step: None });
                continue;
            };
            let (known, last) = (directory.steps(), directory.last_step()?);
            let finished =
                last.map(|step| Stage { word: word.clone(), model: model.clone(), step: Some(step) });
            let kept = |&step: &u64| Stage {
                word: format!("{word}@step{step}"),
                model: model.clone(),
                step: Some(step),
            };
            let all: Vec<Stage> = known.iter().map(kept).chain(finished).collect();
            if known.is_empty() || last.is_none() {
                let lacks = if known.is_empty() {
                    "no weights of the steps of its training (checkpoints/step-<N>.safetensors)"
                } else {
                    "no recipe.toml whose `[training] steps` says at which step its weights are"
                };
                return Err(Error::input(
                    format!("{model} holds {lacks}"),
                    "`glassbox train` writes both; leave `--checkpoints` out for the finished model",
                ));
            }
            stages.extend(match asked {
                Checkpoints::All => all,
                // of models that are compared, each has its own steps: those asked for that it has
                Checkpoints::Steps(steps) => self.chosen(&model, steps, all)?,
            });
        }
        if let Some(Checkpoints::Steps(steps)) = &self.checkpoints {
            let unknown = |step: &&u64| !stages.iter().any(|stage| stage.step == Some(**step));
            if let Some(step) = steps.iter().find(unknown) {
                return Err(Error::usage(
                    format!("none of these models has a checkpoint of step {step}"),
                    "`glassbox list models` names those there are",
                ));
            }
        }
        Ok(stages)
    }

    /// The stages at these steps, and the finished model.
    fn chosen(&self, model: &str, steps: &[u64], all: Vec<Stage>) -> Result<Vec<Stage>> {
        let known: Vec<u64> = all.iter().filter_map(|stage| stage.step).collect();
        let missing = steps.iter().find(|step| !known.contains(step));
        if let (Some(step), true) = (missing, self.compare.is_empty()) {
            let known: Vec<String> = known.iter().map(u64::to_string).collect();
            return Err(Error::usage(
                format!("{model} has no checkpoint of step {step}"),
                format!("it has {}", known.join(", ")),
            ));
        }
        let last = known.last().copied();
        Ok(all
            .into_iter()
            .filter(|stage| stage.step == last || stage.step.is_some_and(|step| steps.contains(&step)))
            .collect())
    }

    /// Runs one step of the study on every stage, and joins the tables; dense arrays and files are kept of the study's own model,
    /// finished, whose lab this is.
    pub(super) fn over_stages(&self, step: &Step, lab: &Lab, task: &Task) -> Result<Outcome> {
        let mut joined = Outcome { name: step.name.clone(), ..Outcome::default() };
        let mut skipped: Vec<(String, String)> = Vec::new();
        let mut notes: Vec<(String, Vec<String>)> = Vec::new();
        let stages = self.stages()?;
        for stage in &stages {
            lab.check()?;
            lab.progress.note(&stage.word);
            let other = if stage.word == self.model { None } else { Some(self.sibling(&stage.word, lab)?) };
            let outcome = match (self.on(step, other.as_ref().unwrap_or(lab), task), &other) {
                // early on there may be no effect to take shares of; the study's own model, finished, still has to have one
                (Err(Error::Input { message, hint }), Some(_)) => {
                    skipped.push((stage.word.clone(), format!("{message}; {hint}")));
                    continue;
                }
                (outcome, _) => outcome?,
            };
            if let Some(why) = outcome.skipped {
                skipped.push((stage.word.clone(), why));
                continue;
            }
            for rows in outcome.findings.tables {
                let rows = self.labelled(rows, stage);
                match joined.findings.tables.iter_mut().find(|known| known.name == rows.name) {
                    Some(known) => known.append(rows)?,
                    None => joined.findings.tables.push(rows),
                }
            }
            if other.is_none() {
                joined.findings.tensors = outcome.findings.tensors;
                joined.findings.files = outcome.findings.files;
            }
            notes.push((stage.word.clone(), outcome.findings.notes));
        }
        joined.findings.notes = told(&notes);
        if let (true, Some((_, why))) = (skipped.len() == stages.len(), skipped.first()) {
            joined.skipped = Some(why.clone());
        } else {
            let left_out = skipped.into_iter().map(|(word, why)| format!("{word}{OF}left out: {why}"));
            joined.findings.notes.extend(left_out);
        }
        Ok(joined)
    }

    /// Another stage's lab, which works as this one does and reads the same tokens.
    fn sibling(&self, word: &str, lab: &Lab) -> Result<Lab> {
        let other = self.open(word)?.beside(lab);
        let vocabularies = |lab: &Lab| (lab.model.config.d_vocab, lab.model.config.d_vocab_out);
        if other.about.tokenizer_hash != lab.about.tokenizer_hash || vocabularies(&other) != vocabularies(lab)
        {
            return Err(Error::input(
                format!("{word} and {} have different vocabularies", self.model),
                "the same prompts can be put only to models that read the same tokens",
            ));
        }
        Ok(other)
    }

    /// A stage's table with the columns that say which stage it is.
    fn labelled(&self, mut rows: Rows, stage: &Stage) -> Rows {
        let n = rows.len();
        let mut first = Vec::new();
        if !self.compare.is_empty() {
            let models = vec![stage.model.clone(); n];
            first.push(("model".to_owned(), "The model.".to_owned(), String::column(models.iter())));
        }
        if let Some(step) = stage.step {
            let steps = vec![step as i64; n];
            let about = "Updates of its training done; the largest is the finished model.";
            first.push(("step".to_owned(), about.to_owned(), i64::column(steps.iter())));
        }
        rows.columns.splice(0..0, first);
        rows
    }

    /// Of what [`Study::step`] joined, what belongs to the study's own model, finished; of any other study, all of it.
    pub fn own(&self, outcome: &Outcome) -> Result<Outcome> {
        let mut own = outcome.clone();
        if !self.is_series() {
            return Ok(own);
        }
        let stages = self.stages()?;
        let Some(stage) = stages.iter().find(|stage| stage.word == self.model) else { return Ok(own) };
        for rows in &mut own.findings.tables {
            if !self.compare.is_empty() {
                *rows = rows.only("model", &stage.model)?;
            }
            if let Some(step) = stage.step {
                *rows = rows.only("step", &step.to_string())?;
            }
            rows.columns.retain(|(name, _, _)| name != "model" && name != "step");
        }
        own.findings.tables.retain(|rows| !rows.is_empty());
        let others: Vec<String> = stages.iter().map(|stage| format!("{}{OF}", stage.word)).collect();
        let mine = format!("{}{OF}", self.model);
        own.findings.notes.retain(|note| {
            note.starts_with(&mine) || !others.iter().any(|other| note.starts_with(other.as_str()))
        });
        for note in &mut own.findings.notes {
            if let Some(rest) = note.strip_prefix(&mine) {
                *note = rest.to_owned();
            }
        }
        Ok(own)
    }
}

/// Between a stage and what is noted of it.
const OF: &str = ": ";

/// The notes of all stages: once where all say the same, else each with its stage.
fn told(notes: &[(String, Vec<String>)]) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for (word, own) in notes {
        for note in own {
            let shared = notes.iter().all(|(_, other)| other.contains(note));
            let note = if shared { note.clone() } else { format!("{word}{OF}{note}") };
            if !told.contains(&note) {
                told.push(note);
            }
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_written_as_they_are_read() {
        for text in ["checkpoints = \"all\"\n", "checkpoints = [100, 300]\n"] {
            let study = Study::parse(text, "test", None).unwrap();
            assert!(study.text().unwrap().contains(text), "{}", study.text().unwrap());
        }
        assert_eq!("100, 300".parse::<Checkpoints>().unwrap(), Checkpoints::Steps(vec![100, 300]));
        for wrong in ["", "some", "1,,2", "-3"] {
            assert!(wrong.parse::<Checkpoints>().is_err(), "{wrong}");
        }
        assert!(Study::parse("checkpoints = \"most\"", "test", None).is_err());
    }

    #[test]
    fn notes_are_told_once_or_with_their_stage() {
        let notes = [("a", vec!["same", "one"]), ("b", vec!["same", "two"])];
        let notes =
            notes.map(|(word, list)| (word.to_owned(), list.into_iter().map(str::to_owned).collect()));
        assert_eq!(told(&notes), ["same", "a: one", "b: two"]);
    }

    #[test]
    fn stages_are_the_steps_that_were_kept_and_the_finished_model() {
        let study = |text: &str| Study::parse(text, "test", None).unwrap();
        let words = |text: &str| -> Vec<String> {
            study(text).stages().unwrap().into_iter().map(|stage| stage.word).collect()
        };
        assert_eq!(words("model = \"textbook\""), ["textbook"]);
        let all = words("checkpoints = \"all\"");
        assert_eq!(all.first().unwrap(), "textbook@step100");
        assert_eq!(all.last().unwrap(), "textbook");
        assert_eq!(words("checkpoints = [300]"), ["textbook@step300", "textbook"]);
        let both = study("checkpoints = [300]\ncompare = [\"textbook-wild\"]").stages().unwrap();
        let both: Vec<_> = both.iter().map(|stage| (stage.model.as_str(), stage.step)).collect();
        let expected =
            [("textbook", 300), ("textbook", 2000), ("textbook-wild", 300), ("textbook-wild", 3600)];
        assert_eq!(both, expected.map(|(model, step)| (model, Some(step))));
        let said = study("checkpoints = [301]").stages().unwrap_err().to_string();
        assert!(said.contains("301") && said.contains("100, 300"), "{said}");
        assert!(study("compare = [\"textbook\"]").stages().is_err());
        assert!(study("model = \"textbook@step300\"\ncheckpoints = \"all\"").stages().is_err());
    }
}
