//! What a position may not attend to.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::model::Transformer;
use crate::task::{Place, Task};

/// Positions that are cut off together.
pub(super) struct Source {
    /// As it was asked for.
    pub(super) label: String,
    /// The positions in each example, those alone that the asking position could see.
    pub(super) positions: Vec<Vec<usize>>,
}

/// The sources asked for, or by default every place that all examples share, the asking position itself, and the rest.
pub(super) fn sources(
    asked: &[String],
    model: &Transformer,
    task: &Task,
    from: &[usize],
) -> Result<Vec<Source>> {
    let seen = |i: usize, pos: usize| !model.config.causal || pos <= from[i];
    let (mut named, given) = (Vec::new(), !asked.is_empty());
    if given {
        for words in asked.iter().filter(|words| *words != "rest") {
            let of = |(i, example): (usize, &crate::task::Example)| {
                let all = if words == "self" { vec![from[i]] } else { example.span(words)? };
                Ok(all.into_iter().filter(|&pos| seen(i, pos)).collect())
            };
            let positions = task.examples.iter().enumerate().map(of).collect::<Result<_>>()?;
            named.push(Source { label: words.clone(), positions });
        }
    } else {
        let others = task.places().into_iter().filter(|place| place.positions != from);
        let listed = |Place { label, positions }: Place| {
            let positions = positions.into_iter().enumerate();
            let seen = |(i, pos)| if seen(i, pos) { vec![pos] } else { Vec::new() };
            Source { label, positions: positions.map(seen).collect() }
        };
        named.extend(others.map(listed));
        let own = from.iter().map(|&pos| vec![pos]).collect();
        named.push(Source { label: "self".to_owned(), positions: own });
    }
    let rest = (!given || asked.iter().any(|words| words == "rest")).then(|| {
        let rest = |(i, example): (usize, &crate::task::Example)| {
            let taken: BTreeSet<usize> =
                named.iter().flat_map(|source| &source.positions[i]).copied().collect();
            (0..example.clean.len()).filter(|pos| seen(i, *pos) && !taken.contains(pos)).collect()
        };
        let positions = task.examples.iter().enumerate().map(rest).collect();
        Source { label: "rest".to_owned(), positions }
    });
    named.extend(rest);
    // the default list leaves out what some prompt does not have
    named.retain(|source| given || source.positions.iter().all(|positions| !positions.is_empty()));
    for source in &named {
        if let Some(i) = source.positions.iter().position(Vec::is_empty) {
            return Err(Error::usage(
                format!(
                    "in `{}` there is no `{}` that position {} could attend to",
                    task.examples[i].id, source.label, from[i]
                ),
                "a position sees itself and, unless the model looks both ways, what stands before it",
            ));
        }
    }
    Ok(named)
}
