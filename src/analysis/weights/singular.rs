//! Singular vectors read in tokens (Millidge & Black 2022): which tokens a direction is read from, and which it turns into.

use super::circuit::Circuits;
use super::composition::{Composition, Kind};
use super::tokens::{Poles, Side, poles};
use crate::component::Component;
use crate::error::{Error, Result};
use crate::factored::{Factored, Svd};
use crate::lab::Lab;
use crate::row;

row! {
    /// One end of one singular direction of a head's map.
    pub struct Singular {
        /// Layer.
        pub layer: usize,
        /// Head.
        pub head: usize,
        /// `ov`: from what is read to what is written; `qk`: from what asks to what is asked for.
        pub circuit: String,
        /// Which direction, the strongest being 0.
        pub index: usize,
        /// Its singular value.
        pub value: f64,
        /// Its share of the sum of squares of all.
        pub share: f64,
        /// A direction has two ends: `+`, where the tokens lie that are read most, and `-`.
        pub end: String,
        /// The tokens whose embeddings lie furthest toward this end: read (ov), or asking (qk).
        pub read: String,
        /// What they turn into: the tokens whose logits rise most (ov), or that are asked for (qk).
        pub written: String,
    }
}

row! {
    /// One end of one singular direction of the map that two heads make together.
    pub struct Virtual {
        /// The head that writes.
        pub from: String,
        /// The head that reads.
        pub to: String,
        /// What it reads with: `q` (queries), `k` (keys) or `v` (values).
        pub kind: String,
        /// Frobenius norm of the product of their maps.
        pub norm: f64,
        /// Which direction, the strongest being 0.
        pub index: usize,
        /// Its singular value.
        pub value: f64,
        /// Its share of the sum of squares of all.
        pub share: f64,
        /// A direction has two ends: `+`, where the tokens lie that are read most, and `-`.
        pub end: String,
        /// The tokens that the first head reads toward this end.
        pub read: String,
        /// What stands across: tokens whose logits rise (v), keys that are then asked for (q), queries that then ask (k).
        pub written: String,
    }
}

/// Where tokens stand at the two ends of one map's directions.
struct Reading {
    index: usize,
    value: f64,
    share: f64,
    /// `+` and `-`: what is read, what is written.
    ends: [(String, String); 2],
}

/// The head's `vectors` strongest directions of both circuits, in tokens.
pub(super) fn singular(
    lab: &Lab,
    layer: usize,
    svds: &[(usize, &'static str, Svd)],
    most: [usize; 2],
) -> Result<Vec<Singular>> {
    let sides = |circuit: &str| if circuit == "ov" { Side::Said } else { Side::Read };
    let maps: Vec<(&Svd, Side)> = svds.iter().map(|(_, circuit, svd)| (svd, sides(circuit))).collect();
    let readings = read(lab, &maps, most)?;
    let rows = svds.iter().zip(readings).flat_map(|((head, circuit, _), readings)| {
        readings.into_iter().flat_map(move |Reading { index, value, share, ends }| {
            ["+", "-"].into_iter().zip(ends).map(move |(end, (read, written))| Singular {
                layer,
                head: *head,
                circuit: (*circuit).to_owned(),
                index,
                value,
                share,
                end: end.to_owned(),
                read,
                written,
            })
        })
    });
    Ok(rows.collect())
}

/// A pair of heads and the ways from the first into the second.
pub(super) struct Pair {
    from: (usize, usize),
    to: (usize, usize),
    kinds: Vec<Kind>,
}

impl Pair {
    /// Two heads by name, in every way.
    pub(super) fn named([from, to]: &[String; 2], lab: &Lab) -> Result<Pair> {
        let c = &lab.model.config;
        let (from, to) = (Component::named_head(from)?, Component::named_head(to)?);
        for (layer, head) in [from, to] {
            lab.model.block(layer)?;
            if head >= c.n_heads {
                let (index, size) = (head, c.n_heads);
                return Err(Error::OutOfRange { what: "head", index, size, site: format!("layer {layer}") });
            }
        }
        if from.0 >= to.0 {
            return Err(Error::usage(
                format!("head {}.{} does not read what head {}.{} writes", to.0, to.1, from.0, from.1),
                "name a head and then one of a later layer: `pairs = [[\"0.0\", \"1.0\"]]`",
            ));
        }
        Ok(Pair { from, to, kinds: Kind::ALL.to_vec() })
    }

    /// The pairs of heads with the largest excess, each in the way that has it.
    pub(super) fn strongest(rows: &[Composition], most: usize) -> Vec<Pair> {
        let heads = rows.iter().filter_map(|row| {
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == row.kind)?;
            let head = |name: &str| Component::named_head(name).ok();
            Some((row.excess?, Pair { from: head(&row.from)?, to: head(&row.to)?, kinds: vec![kind] }))
        });
        let mut heads: Vec<_> = heads.collect();
        heads.sort_by(|(a, _), (b, _)| b.total_cmp(a)); // stable: the earlier of equals first
        heads.into_iter().take(most).map(|(_, pair)| pair).collect()
    }
}

/// What pairs of heads do together, in tokens.
pub(super) fn together(lab: &Lab, pairs: &[Pair], most: [usize; 2]) -> Result<Vec<Virtual>> {
    let mut rows = Vec::new();
    for pair in pairs {
        lab.check()?;
        let first = Circuits::of(&lab.model, pair.from.0)?;
        let second = Circuits::of(&lab.model, pair.to.0)?;
        let Some(ov) = first.ov.get(pair.from.1) else { continue };
        for kind in &pair.kinds {
            let Some(reader) = kind.reader(&second, pair.to.1) else { continue };
            let map: Factored = ov.then(&reader)?;
            let (norm, svd) = (map.norm(), map.svd()?);
            let side = if *kind == Kind::V { Side::Said } else { Side::Read };
            for Reading { index, value, share, ends } in
                read(lab, &[(&svd, side)], most)?.into_iter().flatten()
            {
                for (end, (read, written)) in ["+", "-"].into_iter().zip(ends) {
                    rows.push(Virtual {
                        from: Component::Head(pair.from.0, pair.from.1).to_string(),
                        to: Component::Head(pair.to.0, pair.to.1).to_string(),
                        kind: kind.name().to_owned(),
                        norm,
                        index,
                        value,
                        share,
                        end: end.to_owned(),
                        read,
                        written,
                    });
                }
            }
        }
    }
    Ok(rows)
}

/// The strongest directions of each map (`most`: how many, and how many tokens at an end), their right sides looked for among
/// these tokens. Directions without strength are left out.
fn read(lab: &Lab, maps: &[(&Svd, Side)], [vectors, top]: [usize; 2]) -> Result<Vec<Vec<Reading>>> {
    let column = |x: &crate::factored::Matrix, k: usize| -> Vec<f64> { x.col(k).iter().copied().collect() };
    let kept = |svd: &Svd| {
        let floor = 1e-12 * svd.s.first().copied().unwrap_or(0.0);
        svd.s.iter().take(vectors).filter(|s| **s > floor).count()
    };
    let (mut left, mut said, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    for (svd, side) in maps {
        for k in 0..kept(svd) {
            left.push(column(&svd.u, k));
            let right = if *side == Side::Said { &mut said } else { &mut asked };
            right.push(column(&svd.v, k));
        }
    }
    let mut left = poles(lab, Side::Read, &left, top)?.into_iter();
    let mut said = poles(lab, Side::Said, &said, top)?.into_iter();
    let mut asked = poles(lab, Side::Read, &asked, top)?.into_iter();
    let readings = maps.iter().map(|(svd, side)| {
        let total: f64 = svd.s.iter().map(|s| s * s).sum();
        let own = (0..kept(svd)).zip(&svd.s).map(|(index, &value)| {
            let right = if *side == Side::Said { said.next() } else { asked.next() };
            let ends = ends(lab, left.next().unwrap_or_default(), right.unwrap_or_default());
            Reading { index, value, share: value * value / total, ends }
        });
        own.collect()
    });
    Ok(readings.collect())
}

/// Both ends in words, the one with the token that is read most first.
fn ends(lab: &Lab, left: Poles, right: Poles) -> [(String, String); 2] {
    let words = |tokens: Vec<(u32, f64)>| {
        let words: Vec<String> =
            tokens.iter().map(|(id, _)| format!("{:?}", lab.vocabulary.token(*id))).collect();
        words.join(", ")
    };
    let furthest = |tokens: &[(u32, f64)]| tokens.first().map_or(0.0, |(_, product)| product.abs());
    let turned = furthest(&left.low) > furthest(&left.high);
    let (high, low) = ((words(left.high), words(right.high)), (words(left.low), words(right.low)));
    if turned { [low, high] } else { [high, low] }
}
