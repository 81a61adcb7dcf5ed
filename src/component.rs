//! The parts that write to the residual stream, with the names the field gives them: `embed`, `pos_embed`, `a9.h6`,
//! `a9.b_O`, `m10`. The stream at any place is the sum of what those before it wrote.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::model::{PositionKind, Transformer};
use crate::site::At;

/// One writer. The order is the order of execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// Token embeddings.
    Embed,
    /// Learned position embeddings, where they are added to the stream.
    PosEmbed,
    /// A head (layer, head): z·W_O, without the shared bias.
    Head(usize, usize),
    /// The shared bias of a layer's attention, with the bias of the norm behind it where there is one.
    Bias(usize),
    /// The MLP of a layer, its bias included.
    Mlp(usize),
}

impl Component {
    /// Every writer this model has, in execution order; biases, MLPs and position embeddings only where they write to the
    /// stream.
    pub fn all(model: &Transformer) -> Vec<Component> {
        let mut all = vec![Component::Embed];
        let added = model.pos_embed.as_ref().filter(|_| model.config.positions == PositionKind::Learned);
        all.extend(added.map(|_| Component::PosEmbed));
        for (layer, block) in model.blocks.iter().enumerate() {
            all.extend((0..block.attention.n_heads).map(|head| Component::Head(layer, head)));
            let bias = block.attention.o.b.as_ref().or(block.ln1_post.bias.as_ref());
            all.extend(bias.map(|_| Component::Bias(layer)));
            all.extend(block.has(At::MlpOut).then_some(Component::Mlp(layer)));
        }
        all
    }

    /// The layer and head that `9.6`, `L9H6` or `a9.h6` names; another component is an error.
    pub fn named_head(name: &str) -> Result<(usize, usize)> {
        match name.parse()? {
            Component::Head(layer, head) => Ok((layer, head)),
            other => Err(Error::usage(format!("{other} is no head"), "heads are written 9.6, L9H6 or a9.h6")),
        }
    }

    /// The layer it belongs to; the embeddings belong to none.
    pub fn layer(self) -> Option<usize> {
        match self {
            Component::Embed | Component::PosEmbed => None,
            Component::Head(layer, _) | Component::Bias(layer) | Component::Mlp(layer) => Some(layer),
        }
    }

    /// Which head of its layer it is, if it is one.
    pub fn head(self) -> Option<usize> {
        match self {
            Component::Head(_, head) => Some(head),
            _ => None,
        }
    }

    /// The roles that a model's own description, its `circuit.json`, gives the component on this task; on a task it does not
    /// know, its roles on all tasks, each with the task's name.
    pub fn role(self, circuit: Option<&serde_json::Value>, task: &str) -> String {
        let Some(circuit) = circuit.and_then(serde_json::Value::as_object) else { return String::new() };
        if circuit.contains_key(task) {
            return self.role_on(circuit, task);
        }
        let each = circuit.keys().map(|task| (task, self.role_on(circuit, task)));
        let named = each.filter(|(_, role)| !role.is_empty()).map(|(task, role)| format!("{role} on {task}"));
        named.collect::<Vec<_>>().join(", ")
    }

    fn role_on(self, circuit: &serde_json::Map<String, serde_json::Value>, task: &str) -> String {
        let roles = circuit.get(task).and_then(|task| task.get("roles")?.as_object());
        let holds = |members: &serde_json::Value| {
            let mut names = members.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
            names.any(|name| name.parse::<Component>().is_ok_and(|named| named == self))
        };
        let found: Vec<&str> = roles
            .into_iter()
            .flatten()
            .filter(|(_, members)| holds(members))
            .map(|(role, _)| role.as_str())
            .collect();
        found.join(", ")
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Component::Embed => f.write_str("embed"),
            Component::PosEmbed => f.write_str("pos_embed"),
            Component::Head(layer, head) => write!(f, "a{layer}.h{head}"),
            Component::Bias(layer) => write!(f, "a{layer}.b_O"),
            Component::Mlp(layer) => write!(f, "m{layer}"),
        }
    }
}

impl FromStr for Component {
    type Err = Error;

    /// Heads may also be written `9.6` or `L9H6`.
    fn from_str(name: &str) -> Result<Component> {
        let pair = |text: &str, between: &str| -> Option<Component> {
            let (layer, head) = text.split_once(between)?;
            Some(Component::Head(layer.parse().ok()?, head.parse().ok()?))
        };
        let found = match name {
            "embed" => Some(Component::Embed),
            "pos_embed" => Some(Component::PosEmbed),
            _ => None,
        };
        let bias = || name.strip_prefix('a')?.strip_suffix(".b_O")?.parse().ok().map(Component::Bias);
        let mlp = || name.strip_prefix('m')?.parse().ok().map(Component::Mlp);
        found
            .or_else(|| pair(name.strip_prefix('a')?, ".h"))
            .or_else(|| pair(name.strip_prefix('L')?, "H"))
            .or_else(|| pair(name, "."))
            .or_else(bias)
            .or_else(mlp)
            .ok_or_else(|| {
                Error::usage(
                    format!("`{name}` does not name a component"),
                    "write a head as `9.6`, `L9H6` or `a9.h6`, an MLP as `m9`, the rest as `embed`, `pos_embed`, `a9.b_O`",
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let all = [
            Component::Embed,
            Component::PosEmbed,
            Component::Head(0, 3),
            Component::Bias(0),
            Component::Mlp(10),
        ];
        for component in all {
            assert_eq!(component.to_string().parse::<Component>().unwrap(), component);
        }
        for written in ["9.6", "L9H6", "a9.h6"] {
            assert_eq!(written.parse::<Component>().unwrap(), Component::Head(9, 6));
        }
        for wrong in ["", "a9", "9", "m", "h6", "9.x", "a9.h6.z"] {
            assert!(wrong.parse::<Component>().is_err(), "{wrong}");
        }
    }
}
