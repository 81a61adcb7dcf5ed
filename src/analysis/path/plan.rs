//! Senders and receivers by name, and between which of them there are paths.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::Deserialize;

use super::Path;
use crate::component::Component;
use crate::error::{Error, Result};
use crate::graph::{Channel, Graph, Reader, Writer};
use crate::groups::member_parts;
use crate::lab::Lab;
use crate::lesion::Part;
use crate::task::Task;

/// Who receives, as a user writes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Receivers {
    /// Each alone, or several together that are called after their members.
    Listed(Vec<Names>),
    /// Several together, by name.
    Named(BTreeMap<String, Vec<String>>),
}

/// One receiver, or several as one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Names {
    /// `a9.h6<q>`.
    One(String),
    /// `["a9.h6<q>", "a9.h9<q>"]`.
    Together(Vec<String>),
}

impl From<&str> for Names {
    fn from(name: &str) -> Names {
        Names::One(name.to_owned())
    }
}

/// Writers that send, or readers that receive, together.
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
    /// Those that send alone, then the sets, then those members of sets that nobody asked for.
    pub(super) senders: Vec<End>,
    /// How many senders send alone, and how many of the following are sets.
    pub(super) asked: (usize, usize),
    /// Each receives together.
    pub(super) receivers: Vec<End>,
}

impl Plan {
    pub(super) fn new(path: &Path, lab: &Lab, task: &Task) -> Result<Plan> {
        let graph = Graph::of(&lab.model);
        let one = |place: usize| {
            let name = graph.writers().get(place).map_or_else(String::new, Writer::to_string);
            End { name, places: vec![place] }
        };
        let alone: BTreeSet<usize> = match &path.senders {
            Some(names) => {
                let each = names.iter().map(|name| named_writers(name, &graph, lab, task));
                each.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect()
            }
            None => (0..graph.writers().len()).filter(|&w| graph.writers()[w] != Writer::Input).collect(),
        };
        let unasked = path.senders.is_some() && path.sets.is_empty();
        let groups = if unasked { Vec::new() } else { path.sets.groups(lab, task)? };
        let mut sets = Vec::new();
        for group in groups {
            let each = group.parts.iter().map(|part| writers(part, &graph));
            let places: BTreeSet<usize> = each.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
            sets.push(End { name: group.name, places: places.into_iter().collect() });
        }
        let members: BTreeSet<usize> = sets.iter().flat_map(|set| &set.places).copied().collect();
        let asked = (alone.len(), sets.len());
        let senders: Vec<End> = alone
            .iter()
            .map(|&place| one(place))
            .chain(sets)
            .chain(members.difference(&alone).map(|&place| one(place)))
            .collect();
        if senders.is_empty() {
            return Err(Error::usage("there are no senders", "leave `senders` out for every head and MLP"));
        }
        let receivers = path.receivers.ends(&graph, lab, task)?;
        let plan = Plan { graph, senders, asked, receivers };
        if plan.paths() == 0 {
            return Err(Error::usage(
                "no sender is computed before any of the receivers: there is no path",
                "receivers read what was written before them: an MLP what heads of its layer write, where the two are \
                 not parallel; heads only what layers before theirs write",
            ));
        }
        Ok(plan)
    }

    /// Whether any of the receivers reads what any of the senders writes.
    pub(super) fn is_path(&self, sender: usize, set: usize) -> bool {
        let (Some(sender), Some(set)) = (self.senders.get(sender), self.receivers.get(set)) else {
            return false;
        };
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

    /// The writer at a place of the graph's list.
    pub(super) fn writer(&self, place: usize) -> Writer {
        self.graph.writers().get(place).copied().unwrap_or(Writer::Input)
    }

    /// The reader at a place of the graph's list.
    pub(super) fn reader(&self, place: usize) -> Reader {
        self.graph.readers().get(place).copied().unwrap_or(Reader::Logits)
    }
}

/// The writers that a name means: one, all heads of a layer, a layer, a role.
fn named_writers(name: &str, graph: &Graph, lab: &Lab, task: &Task) -> Result<Vec<usize>> {
    match Writer::from_str(name) {
        Ok(writer) => Ok(vec![graph.writer(writer)?]),
        Err(_) => {
            let parts = member_parts(name, lab, task)?;
            let each = parts.iter().map(|part| writers(part, graph)).collect::<Result<Vec<_>>>()?;
            Ok(each.into_iter().flatten().collect())
        }
    }
}

/// The places of the writers that a part is.
fn writers(part: &Part, graph: &Graph) -> Result<Vec<usize>> {
    let one = |writer| Ok(vec![graph.writer(writer)?]);
    match *part {
        Part::Writer(Component::Embed) => one(Writer::Input),
        Part::Writer(Component::Head(layer, head)) => one(Writer::Head(layer, head)),
        Part::Writer(Component::Mlp(layer)) => one(Writer::Mlp(layer)),
        Part::Attention(layer) => {
            let writers = graph.writers().iter().enumerate();
            let own = writers.filter(|(_, writer)| matches!(writer, Writer::Head(own, _) if *own == layer));
            Ok(own.map(|(place, _)| place).collect())
        }
        Part::Writer(Component::PosEmbed | Component::Bias(_)) | Part::Neuron(..) => Err(Error::usage(
            format!("`{part}` is no sender"),
            "senders are heads (`a9.h6`), MLPs (`m9`), layers (`L9`) and the `input`",
        )),
    }
}

/// The readers that a name means: one, or a channel of all heads of a layer or of a role.
fn named_readers(name: &str, graph: &Graph, lab: &Lab, task: &Task) -> Result<Vec<usize>> {
    let unknown = match Reader::from_str(name) {
        Ok(reader) => return Ok(vec![graph.reader(reader)?]),
        Err(unknown) => unknown,
    };
    let whose = name.strip_suffix('>').and_then(|name| name.rsplit_once('<'));
    let channel = |letter: &str| Channel::ALL.into_iter().find(|channel| channel.letter() == letter);
    let Some((whose, channel)) = whose.and_then(|(whose, letter)| Some((whose, channel(letter)?))) else {
        return Err(unknown);
    };
    let mut readers = Vec::new();
    for part in member_parts(whose, lab, task).map_err(|_| unknown)? {
        match part {
            Part::Writer(Component::Head(layer, head)) => {
                readers.push(graph.reader(Reader::Head { layer, channel, head, shared: 1 })?);
            }
            other => {
                return Err(Error::usage(
                    format!("`{name}` asks for the {} of {other}, which is no head", channel.letter()),
                    "heads have queries, keys and values; an MLP receives as `m9`",
                ));
            }
        }
    }
    Ok(readers)
}

impl Receivers {
    fn ends(&self, graph: &Graph, lab: &Lab, task: &Task) -> Result<Vec<End>> {
        let asked: Vec<(Option<&String>, &[String])> = match self {
            Receivers::Named(named) => {
                named.iter().map(|(name, list)| (Some(name), list.as_slice())).collect()
            }
            Receivers::Listed(listed) => listed
                .iter()
                .map(|names| match names {
                    Names::One(name) => (None, std::slice::from_ref(name)),
                    Names::Together(list) => (None, list.as_slice()),
                })
                .collect(),
        };
        let mut ends: Vec<End> = Vec::new();
        for (name, members) in asked {
            let (mut places, mut called) = (BTreeSet::new(), Vec::new());
            for member in members {
                let meant = named_readers(member, graph, lab, task)?;
                let own = match meant.as_slice() {
                    [one] => graph.readers().get(*one).map_or_else(String::new, Reader::to_string),
                    _ => member.clone(),
                };
                // several heads may read one key that they share
                if !called.contains(&own) {
                    called.push(own);
                }
                places.extend(meant);
            }
            let name = name.cloned().unwrap_or_else(|| called.join("+"));
            if places.is_empty() {
                return Err(Error::usage(
                    format!("the receivers `{name}` are nobody"),
                    "name at least one: `logits`, `m9`, `a9.h6<q>`",
                ));
            }
            if places.len() > 1 && places.last() == Some(&graph.readers().len().saturating_sub(1)) {
                return Err(Error::usage(
                    format!("`{name}` has the logits receive together with others, who would not be heard"),
                    "give the logits a place of their own: `receivers=[\"logits\",[\"a2.h0<q>\",\"a2.h1<q>\"]]`",
                ));
            }
            if ends.iter().any(|end| end.name == name) {
                return Err(Error::usage(
                    format!("the receivers `{name}` are named twice"),
                    "name them once",
                ));
            }
            ends.push(End { name, places: places.into_iter().collect() });
        }
        if ends.is_empty() {
            return Err(Error::usage("there are no receivers", "leave `receivers` out for the logits"));
        }
        Ok(ends)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::lab::About;
    use crate::model::{Config, Transformer};
    use crate::vocabulary::Vocabulary;

    fn plan(config: Config, text: &str) -> Result<Plan> {
        let model = Transformer::random(config, 0, DType::F32).unwrap();
        let circuit = serde_json::json!({"t": {"roles": {"mover": ["a0.h1", "a1.h2"], "carrier": ["m1"]}}});
        let about = About { circuit: Some(circuit), ..About::default() };
        let lab = Lab::new(model, Vocabulary::default(), about);
        Plan::new(&toml::from_str(text).unwrap(), &lab, &Task { name: "t".into(), ..Task::default() })
    }

    fn names(ends: &[End]) -> Vec<&str> {
        ends.iter().map(|end| end.name.as_str()).collect()
    }

    #[test]
    fn senders_are_written_alone_and_in_sets() {
        let found = plan(Config::tiny(), "").unwrap();
        assert_eq!((names(&found.receivers), found.asked), (vec!["logits"], (10, 2)));
        assert_eq!(names(&found.senders[10..]), ["movers", "designed circuit"]);
        let found =
            plan(Config::tiny(), "senders = ['input', '0.1', 'L1']\nsets = [['m0', 'mover']]").unwrap();
        let alone = ["input", "a0.h1", "a1.h0", "a1.h1", "a1.h2", "a1.h3", "m1"];
        // the member that nobody asked for is there for the sum
        assert_eq!(
            (names(&found.senders), found.asked),
            ([&alone[..], &["m0+mover", "m0"]].concat(), (7, 1))
        );
        let set = &found.senders[7];
        let members: Vec<String> = set.places.iter().map(|&place| found.writer(place).to_string()).collect();
        assert_eq!((members.join(" "), found.start(set)), ("a0.h1 m0 a1.h2".to_owned(), 0));
        assert_eq!(plan(Config::tiny(), "senders = ['m0']").unwrap().asked, (1, 0));
    }

    #[test]
    fn receivers_are_written_alone_together_and_by_name() {
        let receivers =
            |text: &str| plan(Config::tiny_rotary(), &format!("receivers = {text}")).unwrap().receivers;
        // heads 2 and 3 share their key
        let found = receivers("['m1', ['a1.h3<k>', 'a1.h2<k>', 'a1.h0<q>'], 'a1.h*<v>', ['mover<q>', 'm1']]");
        assert_eq!(names(&found), ["m1", "a1.kv1<k>+a1.h0<q>", "a1.h*<v>", "mover<q>+m1"]);
        let sizes: Vec<usize> = found.iter().map(|set| set.places.len()).collect();
        assert_eq!(sizes, [1, 2, 2, 3]);
        assert_eq!(names(&receivers("{queries = ['a1.h0<q>', 'a1.h1<q>']}")), ["queries"]);
    }

    #[test]
    fn paths_go_forward() {
        let text = "senders = ['a1.h0', 'm1']\nsets = [['m0', 'm1']]\nreceivers = ['m1', 'logits']";
        let found = plan(Config::tiny(), text).unwrap().each(|is_path| is_path);
        assert_eq!(found, [[true, true], [false, true], [true, true], [true, true]]);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (text, words) in [
            ("receivers = [['logits', 'a1.h0<q>']]", "would not be heard"),
            ("senders = ['m1']\nreceivers = ['a0.h0<q>']", "no path"),
            ("senders = []", "no senders"),
            ("receivers = []", "no receivers"),
            ("receivers = [[]]", "are nobody"),
            ("receivers = ['m1', 'm1']", "twice"),
            ("senders = ['a7.h0']", "no a7.h0"),
            ("senders = ['m0.n1']", "no sender"),
            ("receivers = ['a0.h0']", "reader of the stream"),
            ("receivers = ['carrier<q>']", "no head"),
            ("receivers = ['nobody<q>']", "reader of the stream"),
            ("receivers = ['a0.h4<q>']", "no a0.h4<q>"),
        ] {
            let error = plan(Config::tiny(), text).err().unwrap().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
