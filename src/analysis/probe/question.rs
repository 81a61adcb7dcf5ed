//! What is asked: which examples, classes and groups, at which places.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Probe;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::model::Transformer;
use crate::recording;
use crate::site::{At, Axis, Site};
use crate::task::{Example, Place, Task};

/// What examples are held out together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Examples about one subject.
    Subject,
    /// Examples of one group (template).
    Group,
    /// Examples with the same prompt.
    Prompt,
}

impl By {
    fn word(self) -> &'static str {
        match self {
            By::Subject => "subject",
            By::Group => "group",
            By::Prompt => "prompt",
        }
    }
}

/// One site at one position.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) site: Site,
    /// The site's short name: `resid_post`.
    pub(super) name: String,
    pub(super) layer: usize,
    /// Blocks whose output is in the stream here; half when only the attention's is.
    pub(super) depth: f64,
    /// Which of the question's positions.
    pub(super) place: usize,
    /// Numbers per example.
    pub(super) width: usize,
    pub(super) is_embedding: bool,
}

/// A position, and who is held out together there.
pub(super) struct Column {
    pub(super) place: Place,
    /// Each kept example's group.
    pub(super) groups: Vec<usize>,
    /// Each kept example's type, for the control task.
    pub(super) types: Vec<usize>,
}

/// The question, resolved against task and model.
pub(super) struct Question<'a> {
    pub(super) task: &'a Task,
    /// The examples that are asked about: indices into the task's.
    pub(super) kept: Vec<usize>,
    pub(super) label: String,
    /// Names of the classes.
    pub(super) classes: Vec<String>,
    /// Each kept example's class.
    pub(super) y: Vec<usize>,
    pub(super) columns: Vec<Column>,
    pub(super) spots: Vec<Spot>,
    pub(super) by: By,
    pub(super) notes: Vec<String>,
}

impl<'a> Question<'a> {
    pub(super) fn new(probe: &Probe, lab: &Lab, task: &'a Task) -> Result<Question<'a>> {
        let label = label(probe, task)?;
        let of = |example: &Example| example.labels.get(&label.0).cloned();
        let mut kept: Vec<usize> =
            (0..task.examples.len()).filter(|&i| of(&task.examples[i]).is_some()).collect();
        let mut notes = Vec::new();
        if kept.len() < task.examples.len() {
            let without = task.examples.len() - kept.len();
            notes.push(format!("{without} example(s) have no label `{}` and are left out.", label.0));
        }
        let by = held_together(probe, task, &kept)?;
        let key = |i: usize| -> String {
            let example = &task.examples[i];
            match by {
                By::Subject => example.subject.clone().unwrap_or_default(),
                By::Group => example.group.clone(),
                By::Prompt => format!("{:?}", example.clean),
            }
        };

        // classes that cannot be learnt from one group and asked of another
        let mut groups_of: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for &i in &kept {
            groups_of.entry(of(&task.examples[i]).unwrap_or_default()).or_default().push(key(i));
        }
        for groups in groups_of.values_mut() {
            groups.sort_unstable();
            groups.dedup();
        }
        let rare: Vec<&String> =
            groups_of.iter().filter(|(_, g)| g.len() < 2).map(|(class, _)| class).collect();
        if !rare.is_empty() {
            let before = kept.len();
            kept.retain(|&i| of(&task.examples[i]).is_none_or(|class| !rare.contains(&&class)));
            notes.push(format!(
                "{} class(es) occur in one {} only, so that nobody could be asked about them after training: {} ({} \
                 example(s)) are left out.",
                rare.len(),
                by.word(),
                listed(&rare),
                before - kept.len()
            ));
        }
        let mut classes: Vec<String> =
            groups_of.into_iter().filter(|(_, g)| g.len() > 1).map(|(c, _)| c).collect();
        if classes.iter().all(|class| class.parse::<f64>().is_ok()) {
            let value = |class: &String| class.parse::<f64>().unwrap_or(0.0);
            classes.sort_by(|a, b| value(a).total_cmp(&value(b)));
        }
        if classes.len() < 2 {
            return Err(Error::input(
                format!(
                    "a probe of `{}` needs two classes that occur in two {}s each or more, and there are {}",
                    label.0,
                    by.word(),
                    classes.len()
                ),
                "give more prompts (`--n`), another `label`, or hold out by something finer: `by=\"prompt\"`",
            ));
        }
        let class = |i: &usize| of(&task.examples[*i]).and_then(|l| classes.iter().position(|c| *c == l));
        let y = kept.iter().filter_map(class).collect();

        let wanted = if probe.positions.is_empty() { vec![label.1] } else { probe.positions.clone() };
        let mut columns = Vec::new();
        for name in &wanted {
            columns.push(column(task, &kept, name, &key)?);
        }
        let spots = spots(probe, lab, columns.len())?;
        Ok(Question { task, kept, label: label.0, classes, y, columns, spots, by, notes })
    }

    /// The position that a spot is at, in every example of the task.
    pub(super) fn positions(&self, spot: &Spot) -> &[usize] {
        &self.columns[spot.place].place.positions
    }

    /// How a spot's examples are held out.
    pub(super) fn held_out_by(&self) -> &'static str {
        self.by.word()
    }
}

/// The label's name, and where it is looked for.
fn label(probe: &Probe, task: &Task) -> Result<(String, String)> {
    let found = match &probe.label {
        None => task.labels.first(),
        Some(name) => match task.labels.iter().find(|label| label.name == *name) {
            Some(label) => Some(label),
            None if task.labels.is_empty() => None,
            None => {
                return Err(Error::unknown(
                    "label",
                    name,
                    task.labels.iter().map(|label| label.name.as_str()),
                ));
            }
        },
    };
    let Some(label) = found else {
        return Err(Error::usage(
            format!(
                "the prompts of `{}` have no labels, so that there is nothing for a probe to read",
                task.name
            ),
            "give `--task facts`, `ioi`, `agreement` or `greater-than`, or the field `label` in JSONL",
        ));
    };
    Ok((label.name.clone(), label.at.clone()))
}

fn held_together(probe: &Probe, task: &Task, kept: &[usize]) -> Result<By> {
    let subjects = kept.iter().all(|&i| task.examples[i].subject.is_some());
    match probe.by {
        Some(By::Subject) if !subjects => Err(Error::usage(
            "not every example names its subject",
            "give the field `subject`, or hold out by `group` or `prompt`",
        )),
        Some(by) => Ok(by),
        None => Ok(if subjects { By::Subject } else { By::Prompt }),
    }
}

/// A position with its groups: examples of one key, joined with those that have the same tokens up to the position.
fn column(task: &Task, kept: &[usize], name: &str, key: &dyn Fn(usize) -> String) -> Result<Column> {
    let place = place(task, name)?;
    let mut parent: Vec<usize> = (0..kept.len()).collect();
    let mut first: BTreeMap<(bool, String), usize> = BTreeMap::new();
    for (k, &i) in kept.iter().enumerate() {
        let prefix = format!("{:?}", &task.examples[i].clean[..=place.positions[i]]);
        for (is_prefix, word) in [(false, key(i)), (true, prefix)] {
            let other = *first.entry((is_prefix, word)).or_insert(k);
            let (a, b) = (root(&mut parent, k), root(&mut parent, other));
            parent[a.max(b)] = a.min(b);
        }
    }
    let groups = numbered((0..kept.len()).map(|k| root(&mut parent, k)));
    // what a word type is: the subject where there is one, else the token that stands there
    let subjects = kept.iter().all(|&i| task.examples[i].subject.is_some());
    let types = if subjects {
        numbered(kept.iter().map(|&i| task.examples[i].subject.clone()))
    } else {
        numbered(kept.iter().map(|&i| task.examples[i].clean.get(place.positions[i]).copied()))
    };
    Ok(Column { place, groups, types })
}

fn root(parent: &mut [usize], mut k: usize) -> usize {
    while parent[k] != k {
        parent[k] = parent[parent[k]];
        k = parent[k];
    }
    k
}

/// Distinct values as numbers from 0, in order of first appearance.
fn numbered<T: Ord>(values: impl Iterator<Item = T>) -> Vec<usize> {
    let mut numbers: BTreeMap<T, usize> = BTreeMap::new();
    values
        .map(|value| {
            let next = numbers.len();
            *numbers.entry(value).or_insert(next)
        })
        .collect()
}

/// A position that every example has: by name, `last`, or a number.
fn place(task: &Task, name: &str) -> Result<Place> {
    let shared = || {
        let names = task.examples.first().into_iter().flat_map(|example| example.pos.keys());
        names.filter(|name| task.examples.iter().all(|example| example.pos.contains_key(*name)))
    };
    let at = |example: &Example| -> Option<usize> {
        let last = example.clean.len().checked_sub(1)?;
        match name {
            "last" => Some(last),
            _ => match name.parse::<usize>() {
                Ok(number) => (number <= last).then_some(number),
                Err(_) => example.pos.get(name).copied(),
            },
        }
    };
    match task.examples.iter().map(at).collect::<Option<Vec<usize>>>() {
        Some(positions) => Ok(Place { label: name.to_owned(), positions }),
        None if name.parse::<usize>().is_ok() => Err(Error::usage(
            format!("position {name} lies outside of some prompts"),
            "positions count from 0, BOS included; `last` is the last of each",
        )),
        None => Err(Error::unknown(
            "position in every prompt",
            name,
            shared().map(String::as_str).chain(["last"]),
        )),
    }
}

/// The sites, the embeddings first, at every position.
fn spots(probe: &Probe, lab: &Lab, places: usize) -> Result<Vec<Spot>> {
    let model = &lab.model;
    let globs: Vec<String> = probe.sites.iter().map(|word| glob(model, word)).collect();
    let mut sites = recording::sites(model, &globs)?;
    let embedding = Site::Block(0, At::ResidPre);
    sites.retain(|&site| site != embedding);
    sites.insert(0, embedding);
    let mut spots = Vec::new();
    for place in 0..places {
        for &site in &sites {
            let Site::Block(layer, at) = site else {
                return Err(unreadable(site, "it is not inside a block"));
            };
            let axes = site.axes();
            let by_position = axes.get(1) == Some(&Axis::Pos) && !axes.contains(&Axis::One);
            if !by_position {
                return Err(unreadable(site, &format!("its axes are {}", site.shape_words())));
            }
            let depth = match at {
                At::ResidPre => 0.0,
                at if at <= At::ResidMid => 0.5,
                _ => 1.0,
            };
            spots.push(Spot {
                site,
                name: at.name().rsplit("hook_").next().unwrap_or(at.name()).to_owned(),
                layer,
                depth: layer as f64 + depth,
                place,
                width: model.shape(site, 1, 1).iter().product(),
                is_embedding: site == embedding,
            });
        }
    }
    Ok(spots)
}

/// A short name as the glob it stands for: of places of one name, one that the model has, and not the experts' if there is
/// another.
fn glob(model: &Transformer, word: &str) -> String {
    let short = |at: &&At| at.name().rsplit("hook_").next() == Some(word);
    let order =
        |at: &&At| (!model.blocks.iter().any(|block| block.has(**at)), at.axes().contains(&Axis::Expert));
    match At::ALL.iter().filter(short).min_by_key(order) {
        Some(at) if !word.contains('.') => format!("blocks.*.{}", at.name()),
        _ => word.to_owned(),
    }
}

fn unreadable(site: Site, why: &str) -> Error {
    Error::usage(
        format!("{site} has no vector per position for a probe to read: {why}"),
        "choose the stream (`resid_post`), what is added to it (`attn_out`, `mlp_out`), `z`, or neurons (`mlp.hook_post`)",
    )
}

/// A few names, and how many more.
fn listed(names: &[&String]) -> String {
    let shown: Vec<&str> = names.iter().take(5).map(|name| name.as_str()).collect();
    let more = names.len() - shown.len();
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}
