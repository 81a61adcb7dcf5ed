//! Writers, readers and edges, under the names of EAP-IG and MIB: `input`, `a9.h9`, `m3`, `logits`, `a5.h5->a9.h9<q>`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::component::Component;
use crate::error::{Error, Result};
use crate::site::At;

/// Who adds to the residual stream. The order is the order of execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Writer {
    /// The embeddings: what enters layer 0.
    Input,
    /// A head (layer, head), without the bias it shares with the others.
    Head(usize, usize),
    /// The MLP of a layer.
    Mlp(usize),
}

/// Which of the three things that a head reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// Its query.
    Q,
    /// Its key.
    K,
    /// Its value.
    V,
}

impl Channel {
    /// All three.
    pub const ALL: [Channel; 3] = [Channel::Q, Channel::K, Channel::V];

    /// `q`, `k` or `v`.
    pub fn letter(self) -> &'static str {
        match self {
            Channel::Q => "q",
            Channel::K => "k",
            Channel::V => "v",
        }
    }

    /// The place in a block that holds what is read, one copy of the stream for each head.
    pub fn input(self) -> At {
        match self {
            Channel::Q => At::QInput,
            Channel::K => At::KInput,
            Channel::V => At::VInput,
        }
    }

    /// The place of what is read.
    pub fn output(self) -> At {
        match self {
            Channel::Q => At::Q,
            Channel::K => At::K,
            Channel::V => At::V,
        }
    }
}

/// Who reads the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reader {
    /// The query, key or value of a head. Of grouped queries, keys and values are those of a key-value head.
    Head {
        /// Its layer.
        layer: usize,
        /// What is read.
        channel: Channel,
        /// The head; the key-value head where several heads share one.
        head: usize,
        /// How many heads share it: 1 for queries and where every head has its own.
        shared: usize,
    },
    /// The MLP of a layer.
    Mlp(usize),
    /// The final norm and the unembedding.
    Logits,
}

/// From a writer to a reader after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// Who wrote.
    pub from: Writer,
    /// Who reads it.
    pub to: Reader,
}

impl Writer {
    /// Its layer; the embeddings belong to none.
    pub fn layer(self) -> Option<usize> {
        match self {
            Writer::Input => None,
            Writer::Head(layer, _) | Writer::Mlp(layer) => Some(layer),
        }
    }

    /// The component of that name; the embeddings stand for all of what enters layer 0.
    pub fn component(self) -> Component {
        match self {
            Writer::Input => Component::Embed,
            Writer::Head(layer, head) => Component::Head(layer, head),
            Writer::Mlp(layer) => Component::Mlp(layer),
        }
    }
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Writer::Input => f.write_str("input"),
            Writer::Head(layer, head) => write!(f, "a{layer}.h{head}"),
            Writer::Mlp(layer) => write!(f, "m{layer}"),
        }
    }
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reader::Head { layer, channel, head, shared } => {
                let kind = if *shared > 1 { "kv" } else { "h" };
                write!(f, "a{layer}.{kind}{head}<{}>", channel.letter())
            }
            Reader::Mlp(layer) => write!(f, "m{layer}"),
            Reader::Logits => f.write_str("logits"),
        }
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{}", self.from, self.to)
    }
}

impl FromStr for Writer {
    type Err = Error;

    /// Heads may also be written `9.6` or `L9H6`.
    fn from_str(name: &str) -> Result<Writer> {
        match name {
            "input" | "embed" => return Ok(Writer::Input),
            _ => {}
        }
        match name.parse::<Component>() {
            Ok(Component::Head(layer, head)) => Ok(Writer::Head(layer, head)),
            Ok(Component::Mlp(layer)) => Ok(Writer::Mlp(layer)),
            _ => Err(Error::usage(
                format!("`{name}` does not name a writer of the stream"),
                "write `input`, a head as `a9.h6`, an MLP as `m9`",
            )),
        }
    }
}

impl FromStr for Reader {
    type Err = Error;

    fn from_str(name: &str) -> Result<Reader> {
        if name == "logits" {
            return Ok(Reader::Logits);
        }
        let mlp = || name.strip_prefix('m')?.parse().ok().map(Reader::Mlp);
        let head = || {
            let (place, channel) = name.strip_prefix('a')?.strip_suffix('>')?.split_once('<')?;
            let channel = Channel::ALL.into_iter().find(|c| c.letter() == channel)?;
            let (layer, head) = place.split_once('.')?;
            let (head, shared) = match (head.strip_prefix("kv"), head.strip_prefix('h')) {
                (Some(head), _) => (head, 2),
                (None, Some(head)) => (head, 1),
                (None, None) => return None,
            };
            Some(Reader::Head { layer: layer.parse().ok()?, channel, head: head.parse().ok()?, shared })
        };
        mlp().or_else(head).ok_or_else(|| {
            Error::usage(
                format!("`{name}` does not name a reader of the stream"),
                "write `a9.h6<q>`, `a9.h6<k>` or `a9.h6<v>`, an MLP as `m9`, or `logits`",
            )
        })
    }
}

impl FromStr for Edge {
    type Err = Error;

    fn from_str(name: &str) -> Result<Edge> {
        let (from, to) = name.split_once("->").ok_or_else(|| {
            Error::usage(
                format!("`{name}` does not name an edge"),
                "write `a5.h5->a9.h9<q>`, `m0->m3` or `a9.h9->logits`",
            )
        })?;
        Ok(Edge { from: from.trim().parse()?, to: to.trim().parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in [
            "input->a0.h0<q>",
            "a5.h5->a9.h9<k>",
            "a5.h5->a9.kv1<v>",
            "m0->m3",
            "a9.h9->logits",
            "input->logits",
        ] {
            let edge: Edge = name.parse().unwrap();
            assert_eq!(edge.to_string(), name);
        }
        for wrong in ["", "a5.h5", "a5.h5->a9.h9", "a5->m3", "m0->input", "m0->a9.h9<z>", "logits->m3"] {
            assert!(wrong.parse::<Edge>().is_err(), "{wrong}");
        }
    }
}
