//! Senders and receivers by name, and between which of them there are paths.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use serde::Deserialize;

use super::Path;
use crate::error::{Error, Result};
use crate::graph::{Graph, Reader, Writer};
use crate::model::Transformer;

/// Who sends or receives, as a user writes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Ends {
    /// Each alone, or several together that are called after their members.
    Listed(Vec<Names>),
    /// Several together, by name.
    Named(BTreeMap<String, Vec<String>>),
}

/// One end, or several as one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Names {
    /// `a9.h6`.
    One(String),
    /// `["a9.h6", "a9.h9"]`.
    Together(Vec<String>),
}

impl From<&str> for Names {
    fn from(name: &str) -> Names {
        Names::One(name.to_owned())
    }
}

impl From<&[&str]> for Names {
    fn from(names: &[&str]) -> Names {
        Names::Together(names.iter().map(|&name| name.to_owned()).collect())
    }
}

/// Writers or readers that send or receive together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// What it is called in tables.
    pub(super) name: String,
    /// Places in the graph's list of writers or readers, in order, each once.
    pub(super) places: Vec<usize>,
}

/// What is sent to whom.
pub(super) struct Plan {
    pub(super) graph: Graph,
    pub(super) senders: Vec<End>,
    /// Each set receives together.
    pub(super) receivers: Vec<End>,
}

impl Plan {
    pub(super) fn new(path: &Path, model: &Transformer) -> Result<Plan> {
        let graph = Graph::of(model);
        let senders = match &path.senders {
            Some(senders) => {
                senders.ends(graph.writers(), |name| graph.writer(Writer::from_str(name)?))?
            }
            None => (0..graph.writers().len())
                .filter(|&writer| graph.writers()[writer] != Writer::Input)
                .map(|writer| End { name: graph.writers()[writer].to_string(), places: vec![writer] })
                .collect(),
        };
        let receivers =
            path.receivers.ends(graph.readers(), |name| graph.reader(Reader::from_str(name)?))?;
        let logits = graph.readers().len().saturating_sub(1);
        if let Some(set) = receivers.iter().find(|set| set.places.len() > 1 && set.places.contains(&logits)) {
            return Err(Error::usage(
                format!("`{}` has the logits receive together with others, who would not be heard", set.name),
                "give the logits a place of their own: `receivers=[\"logits\", [\"a2.h0<q>\", \"a2.h1<q>\"]]`",
            ));
        }
        let plan = Plan { graph, senders, receivers };
        if plan.paths() == 0 {
            return Err(Error::usage(
                "no sender is computed before any of the receivers: there is no path",
                "senders write what receivers in the same place or later read; an MLP reads what heads of its layer \
                 write, where the two are not parallel",
            ));
        }
        Ok(plan)
    }

    /// Whether any of the receivers reads what any of the senders writes.
    pub(super) fn is_path(&self, sender: usize, set: usize) -> bool {
        let (Some(sender), Some(set)) = (self.senders.get(sender), self.receivers.get(set)) else { return false };
        let first = sender.places.first().copied().unwrap_or(usize::MAX);
        set.places.iter().any(|&reader| first < self.graph.reach(reader))
    }

    /// How many pairs of sender and receivers have a path.
    pub(super) fn paths(&self) -> usize {
        self.each(|is_path| is_path).into_iter().flatten().filter(|&is_path| is_path).count()
    }

    /// Something for each pair `[sender][receivers]`, told whether there is a path.
    pub(super) fn each<T>(&self, make: impl Fn(bool) -> T) -> Vec<Vec<T>> {
        let row = |sender| (0..self.receivers.len()).map(|set| make(self.is_path(sender, set))).collect();
        (0..self.senders.len()).map(row).collect()
    }

    /// Where a pass with this sender must begin; the input enters layer 0.
    pub(super) fn start(&self, sender: &End) -> usize {
        let first = sender.places.first().and_then(|&writer| self.graph.writers().get(writer));
        first.and_then(|writer| writer.layer()).unwrap_or(0)
    }

    /// The reader at a place of the graph's list.
    pub(super) fn reader(&self, place: usize) -> Reader {
        self.graph.readers().get(place).copied().unwrap_or(Reader::Logits)
    }
}

impl End {
    /// The one that it is, if it is not several.
    pub(super) fn alone(&self) -> Option<usize> {
        match self.places.as_slice() {
            [one] => Some(*one),
            _ => None,
        }
    }
}

impl Ends {
    /// The ends, each member found by `find` in the list of `known`.
    fn ends<T: Display>(&self, known: &[T], find: impl Fn(&str) -> Result<usize>) -> Result<Vec<End>> {
        let asked: Vec<(Option<&String>, &[String])> = match self {
            Ends::Named(named) => named.iter().map(|(name, list)| (Some(name), list.as_slice())).collect(),
            Ends::Listed(listed) => listed
                .iter()
                .map(|names| match names {
                    Names::One(name) => (None, std::slice::from_ref(name)),
                    Names::Together(list) => (None, list.as_slice()),
                })
                .collect(),
        };
        let mut ends: Vec<End> = Vec::new();
        for (name, members) in asked {
            // several heads may read one key that they share
            let mut places = members.iter().map(|member| find(member)).collect::<Result<Vec<_>>>()?;
            places.sort_unstable();
            places.dedup();
            let called = || {
                let each = places.iter().filter_map(|&place| known.get(place)).map(T::to_string);
                each.collect::<Vec<_>>().join("+")
            };
            let name = name.cloned().unwrap_or_else(called);
            if places.is_empty() {
                return Err(Error::usage(
                    "a list of senders or receivers has no members",
                    "name at least one: `a9.h6`, `m9`; `a9.h6<q>`, `m9`, `logits`",
                ));
            }
            if ends.iter().any(|end| end.name == name) {
                return Err(Error::usage(format!("`{name}` is named twice"), "name it once"));
            }
            ends.push(End { name, places });
        }
        if ends.is_empty() {
            return Err(Error::usage(
                "there are no senders or no receivers",
                "leave the list out for every head and MLP to the logits",
            ));
        }
        Ok(ends)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::model::Config;

    fn plan(config: Config, text: &str) -> Result<Plan> {
        let model = Transformer::random(config, 0, DType::F32).unwrap();
        Plan::new(&toml::from_str(text).unwrap(), &model)
    }

    fn names(ends: &[End]) -> Vec<&str> {
        ends.iter().map(|end| end.name.as_str()).collect()
    }

    #[test]
    fn ends_are_written_alone_together_and_by_name() {
        let found = plan(Config::tiny(), "").unwrap();
        assert_eq!((names(&found.receivers), found.senders.len()), (vec!["logits"], 2 * 5));
        let found = plan(
            Config::tiny_rotary(),
            "senders = ['input', ['m0', '0.1']]\nreceivers = ['m1', ['a1.h3<k>', 'a1.h2<k>', 'a1.h0<q>']]",
        )
        .unwrap();
        assert_eq!(names(&found.senders), ["input", "a0.h1+m0"]);
        // heads 2 and 3 share their key
        assert_eq!(names(&found.receivers), ["m1", "a1.h0<q>+a1.kv1<k>"]);
        let found = plan(Config::tiny(), "senders = {pair = ['a0.h0', 'a1.h0']}").unwrap();
        assert_eq!((names(&found.senders), found.start(&found.senders[0])), (vec!["pair"], 0));
    }

    #[test]
    fn paths_go_forward() {
        let found = plan(Config::tiny(), "senders = ['a1.h0', 'm1', ['m0', 'm1']]\nreceivers = ['m1', 'logits']");
        let found = found.unwrap().each(|is_path| is_path);
        assert_eq!(found, [[true, true], [false, true], [true, true]]);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (text, words) in [
            ("receivers = [['logits', 'a1.h0<q>']]", "would not be heard"),
            ("senders = ['m1']\nreceivers = ['a0.h0<q>']", "no path"),
            ("senders = []", "no senders"),
            ("senders = [[]]", "no members"),
            ("senders = ['a0.h0', '0.0']", "twice"),
            ("senders = ['a7.h0']", "no a7.h0"),
            ("receivers = ['a0.h0']", "reader of the stream"),
            ("receivers = ['a0.h4<q>']", "no a0.h4<q>"),
        ] {
            let error = plan(Config::tiny(), text).err().unwrap().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
