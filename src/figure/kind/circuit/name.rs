//! Parts of a model by the names that circuits are written in: `input`, `a9.h9`, `a9.h9<q>`, `m3`, `logits`.

use crate::error::{Error, Result};

/// A part of a model. The order is the order of execution, and so the order of ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The embeddings.
    Input,
    /// Attention of a layer: a head, or keys and values that several heads share.
    Head { layer: usize, shared: bool, head: usize },
    /// The MLP of a layer.
    Mlp(usize),
    /// The output.
    Logits,
}

/// With what a head reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Its query.
    Query,
    /// Its key.
    Key,
    /// Its value.
    Value,
}

impl Part {
    /// The part of this name and, of a reader such as `a9.h9<q>`, the channel.
    pub fn parse(name: &str) -> Result<(Part, Option<Channel>)> {
        let bare = name.trim();
        let (bare, channel) = match bare.strip_suffix('>').and_then(|rest| rest.split_once('<')) {
            Some((part, letter)) => (part, Some(letter)),
            None => (bare, None),
        };
        let part = match bare {
            "input" | "embed" => Some(Part::Input),
            "logits" => Some(Part::Logits),
            _ => head(bare).or_else(|| number(bare.strip_prefix('m')?).map(Part::Mlp)),
        };
        let unknown = || {
            Error::input(
                format!("`{name}` names no part of a model"),
                "write `input`, a head as `a9.h6`, an MLP as `m9`, or `logits`",
            )
        };
        let part = part.ok_or_else(unknown)?;
        let channel = channel.map(|letter| Channel::parse(letter)?.ok_or_else(unknown)).transpose()?;
        if channel.is_some() && !matches!(part, Part::Head { .. }) {
            return Err(unknown());
        }
        Ok((part, channel))
    }

    /// The layer it belongs to.
    pub fn layer(self) -> Option<usize> {
        match self {
            Part::Head { layer, .. } | Part::Mlp(layer) => Some(layer),
            Part::Input | Part::Logits => None,
        }
    }

    /// Parts with equal ranks run side by side: the heads of a layer.
    pub fn rank(self) -> (usize, usize) {
        match self {
            Part::Input => (0, 0),
            Part::Head { layer, .. } => (layer + 1, 0),
            Part::Mlp(layer) => (layer + 1, 1),
            Part::Logits => (usize::MAX, 0),
        }
    }

    /// Its name in a circuit.
    pub fn name(self) -> String {
        match self {
            Part::Input => "input".to_owned(),
            Part::Head { layer, shared: false, head } => format!("a{layer}.h{head}"),
            Part::Head { layer, shared: true, head } => format!("a{layer}.kv{head}"),
            Part::Mlp(layer) => format!("m{layer}"),
            Part::Logits => "logits".to_owned(),
        }
    }
}

/// A number of a layer or head. Those beyond any model are no names.
fn number(digits: &str) -> Option<usize> {
    digits.parse().ok().filter(|n| *n < 100_000)
}

/// `a9.h6`, `a9.kv1`, `9.6` or `L9H6`.
fn head(name: &str) -> Option<Part> {
    let (layer, head, shared) = if let Some(rest) = name.strip_prefix('a') {
        let (layer, rest) = rest.split_once('.')?;
        match rest.strip_prefix("kv") {
            Some(head) => (layer, head, true),
            None => (layer, rest.strip_prefix('h')?, false),
        }
    } else if let Some(rest) = name.strip_prefix('L') {
        let (layer, head) = rest.split_once('H')?;
        (layer, head, false)
    } else {
        let (layer, head) = name.split_once('.')?;
        (layer, head, false)
    };
    Some(Part::Head { layer: number(layer)?, shared, head: number(head)? })
}

impl Channel {
    /// The channel of a letter or word; none where a reader has no channels (an empty cell).
    pub fn parse(letter: &str) -> Result<Option<Channel>> {
        match letter.trim() {
            "" => Ok(None),
            "q" | "Q" | "query" => Ok(Some(Channel::Query)),
            "k" | "K" | "key" => Ok(Some(Channel::Key)),
            "v" | "V" | "value" => Ok(Some(Channel::Value)),
            other => Err(Error::input(
                format!("`{other}` is no channel of a head"),
                "write `q`, `k` or `v`, or leave the cell empty for MLPs and logits",
            )),
        }
    }

    /// `q`, `k` or `v`.
    pub fn letter(self) -> &'static str {
        match self {
            Channel::Query => "q",
            Channel::Key => "k",
            Channel::Value => "v",
        }
    }

    /// As a legend says it.
    pub fn word(self) -> &'static str {
        match self {
            Channel::Query => "query (q)",
            Channel::Key => "key (k)",
            Channel::Value => "value (v)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for name in ["input", "a9.h9", "a0.kv1", "m3", "logits"] {
            assert_eq!(Part::parse(name).unwrap().0.name(), name);
        }
        let (part, channel) = Part::parse("a5.h5<q>").unwrap();
        assert_eq!((part, channel), (Part::parse("L5H5").unwrap().0, Some(Channel::Query)));
        for wrong in ["", "a5", "m", "m-1", "m0<q>", "a5.h5<z>", "b1.h2", "a100000.h0", "logits<k>"] {
            assert!(Part::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranks_follow_execution() {
        let ranks = ["input", "a0.h1", "m0", "a1.h0", "m1", "logits"].map(|name| Part::parse(name).unwrap().0.rank());
        assert!(ranks.is_sorted_by(|a, b| a < b));
    }
}
