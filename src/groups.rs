//! Named groups of parts, and what a group does beyond the sum of its parts.
//!
//! The effect of a group is measured, all of its parts changed in one run. Parts that stand in for each other do little alone
//! and much together; parts in a chain do the same alone as together. The interaction is the group's effect minus the sum of
//! its parts', example by example, so that its interval knows that the same prompts were asked.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::lesion::Part;
use crate::site::At;
use crate::stats::{Bootstrap, Estimate, sign_flip};
use crate::task::Task;

/// Groups as a user writes them. A member is a part (`a9.h6`, `9.6`, `a9`, `m9`, `m9.n12`, `embed`), all heads of a layer
/// (`a9.h*`), a layer's attention and MLP (`L9`), or a role that the model's own description gives for the task
/// (`name mover`).
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Sets {
    /// By name.
    Named(BTreeMap<String, Vec<String>>),
    /// Each called after its members: `a2.h0+a2.h1`.
    Listed(Vec<Vec<String>>),
}

impl Default for Sets {
    fn default() -> Self {
        Sets::Listed(Vec::new())
    }
}

/// Parts that are changed together.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// What it is called in tables.
    pub name: String,
    /// Its parts, each once. One may lie inside another (`a9` and `a9.h6`); their sum then counts it twice.
    pub parts: Vec<Part>,
}

impl Sets {
    /// Whether nobody asked for a group.
    pub fn is_empty(&self) -> bool {
        match self {
            Sets::Named(named) => named.is_empty(),
            Sets::Listed(lists) => lists.is_empty(),
        }
    }

    /// The groups asked for; without any, the roles of several parts that the model's own description gives for the task,
    /// and all of its roles together. Every part is one that the model has.
    pub fn groups(&self, lab: &Lab, task: &Task) -> Result<Vec<Group>> {
        let named: Vec<(String, &[String])> = match self {
            Sets::Named(named) => named.iter().map(|(name, list)| (name.clone(), list.as_slice())).collect(),
            Sets::Listed(lists) => lists.iter().map(|list| (list.join("+"), list.as_slice())).collect(),
        };
        let mut groups = Vec::new();
        for (name, members) in named {
            let mut parts = Vec::new();
            for member in members {
                for part in member_parts(member, lab, task)? {
                    if parts.contains(&part) {
                        let message = format!("the set {name:?} names `{part}` twice");
                        return Err(Error::usage(message, "a part can be changed once"));
                    }
                    part.check(&lab.model)?;
                    parts.push(part);
                }
            }
            if parts.is_empty() {
                return Err(Error::usage(format!("the set {name:?} has no parts"), "name at least one"));
            }
            groups.push(Group { name, parts });
        }
        Ok(if self.is_empty() { designed(lab, task) } else { groups })
    }
}

/// The parts that a member of a group means.
fn member_parts(member: &str, lab: &Lab, task: &Task) -> Result<Vec<Part>> {
    let layer = |digits: &str| -> Result<Option<usize>> {
        let size = lab.model.config.n_layers;
        match digits.parse() {
            Ok(index) if index >= size => {
                Err(Error::OutOfRange { what: "layer", index, size, site: format!("`{member}`") })
            }
            found => Ok(found.ok()),
        }
    };
    if let Some(layer) = member.strip_prefix('L').map_or(Ok(None), layer)? {
        let mlp = lab.model.block(layer)?.has(At::MlpOut).then(|| format!("m{layer}").parse());
        return std::iter::once(Ok(Part::Attention(layer))).chain(mlp).collect();
    }
    let heads = member.strip_prefix('a').and_then(|rest| rest.strip_suffix(".h*"));
    if let Some(layer) = heads.map_or(Ok(None), layer)? {
        return (0..lab.model.config.n_heads).map(|head| format!("a{layer}.h{head}").parse()).collect();
    }
    match member.parse() {
        Ok(part) => Ok(vec![part]),
        Err(unknown) => {
            let found = roles(lab, task).into_iter().find(|(role, _)| role == member);
            found.map(|(_, parts)| parts).ok_or(unknown)
        }
    }
}

/// The roles that the model's own description gives for the task.
fn roles(lab: &Lab, task: &Task) -> Vec<(String, Vec<Part>)> {
    let circuit = lab.about.circuit.as_ref();
    let roles = circuit.and_then(|circuit| circuit.get(&task.name)?.get("roles")?.as_object());
    let role = |(role, members): (&String, &serde_json::Value)| {
        let names = members.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
        (role.clone(), names.filter_map(|name| name.parse().ok()).collect())
    };
    roles.into_iter().flatten().map(role).collect()
}

/// The roles of several parts, and all roles together.
fn designed(lab: &Lab, task: &Task) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut all: Vec<Part> = Vec::new();
    for (role, parts) in roles(lab, task) {
        all.extend(parts.iter().filter(|part| !all.contains(part)).copied().collect::<Vec<_>>());
        if parts.len() > 1 {
            groups.push(Group { name: format!("{role}s"), parts });
        }
    }
    if all.len() > 1 && groups.iter().all(|group| group.parts != all) {
        groups.push(Group { name: "designed circuit".to_owned(), parts: all });
    }
    // nobody asked for these: what the description has and the model has not is no reason to stop
    groups.retain(|group| group.parts.iter().all(|part| part.check(&lab.model).is_ok()));
    groups
}

/// A group beside its parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Together {
    /// The group's own effect.
    pub whole: Estimate,
    /// The sum of its parts' effects.
    pub sum: f64,
    /// The first minus the second.
    pub interaction: Estimate,
    /// Sign-flip p-value of the interaction being 0.
    pub p: Option<f64>,
}

impl Together {
    /// From the effect of the group and of each part on every example; `over` is what effects are shares of. `units` numbers
    /// what each example belongs to, as in `bootstrap`.
    pub fn of(
        whole: &[f64],
        parts: &[&[f64]],
        over: Option<&[f64]>,
        bootstrap: &Bootstrap,
        (units, seed): (&[usize], u64),
    ) -> Together {
        let mut sum = vec![0.0; whole.len()];
        for part in parts {
            sum.iter_mut().zip(*part).for_each(|(sum, x)| *sum += x);
        }
        let rest: Vec<f64> = whole.iter().zip(&sum).map(|(whole, sum)| whole - sum).collect();
        // a part alone is its own sum: there is nothing to test
        let p = if parts.len() > 1 { sign_flip(&rest, units, seed) } else { None };
        Together {
            whole: bootstrap.ratio(whole, over),
            sum: bootstrap.ratio(&sum, over).value,
            interaction: bootstrap.ratio(&rest, over),
            p,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::About;
    use crate::model::{Config, Transformer};
    use crate::vocabulary::Vocabulary;
    use candle_core::DType;

    fn lab() -> (Lab, Task) {
        let model = Transformer::random(Config::tiny(), 1, DType::F64).unwrap();
        let circuit = serde_json::json!({"t": {"roles": {"mover": ["0.1", "a1.h2"], "carrier": ["m1"]}}});
        let about = About { circuit: Some(circuit), ..About::default() };
        (Lab::new(model, Vocabulary::default(), about), Task { name: "t".into(), ..Task::default() })
    }

    fn groups(text: &str) -> Result<Vec<Group>> {
        #[derive(Deserialize)]
        struct Asked {
            sets: Sets,
        }
        let (lab, task) = lab();
        toml::from_str::<Asked>(text).unwrap().sets.groups(&lab, &task)
    }

    fn names(group: &Group) -> String {
        group.parts.iter().map(Part::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn members_are_parts_layers_heads_of_a_layer_and_roles() {
        let found = groups("sets = {x = ['L1', '0.3'], y = ['a0.h*', 'mover']}");
        let said = found.unwrap_err().to_string();
        assert!(said.contains("\"y\"") && said.contains("a0.h1") && said.contains("twice"), "{said}");
        let found = groups("sets = {x = ['L1', '0.3'], y = ['a0.h*'], z = ['mover']}").unwrap();
        let all: Vec<String> = found.iter().map(names).collect();
        assert_eq!(all, ["a1 m1 a0.h3", "a0.h0 a0.h1 a0.h2 a0.h3", "a0.h1 a1.h2"]);
        assert_eq!(groups("sets = [['m0', 'a1']]").unwrap()[0].name, "m0+a1");
        for wrong in ["L2", "a7.h*", "m9", "mouse", "0.4", "L"] {
            assert!(groups(&format!("sets = [['{wrong}']]")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_a_word_the_roles_of_the_model_are_the_groups() {
        let found = groups("sets = []").unwrap();
        let all: Vec<(&str, String)> = found.iter().map(|g| (g.name.as_str(), names(g))).collect();
        let expected =
            [("movers", "a0.h1 a1.h2".to_owned()), ("designed circuit", "a0.h1 a1.h2 m1".to_owned())];
        assert_eq!(all, expected);
    }

    #[test]
    fn an_interaction_is_what_is_left_of_the_whole() {
        let (whole, a, b) = ([3.0, 5.0], [1.0, 1.0], [1.0, 2.0]);
        let bootstrap = Bootstrap::new(2, 1);
        let found = Together::of(&whole, &[&a, &b], Some(&[2.0, 2.0]), &bootstrap, (&[0, 1], 1));
        assert_eq!((found.whole.value, found.sum, found.interaction.value), (2.0, 1.25, 0.75));
        assert_eq!((found.interaction.lo, found.interaction.hi, found.p), (Some(0.5), Some(1.0), None));
    }
}
