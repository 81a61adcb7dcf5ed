//! Attention with every step a place.

use std::sync::Arc;

use candle_core::Tensor;

use super::{Base, Config, HeadNorm, Layer, Left, Linear, Norm, Rotary, Slopes, Tap};
use crate::error::{Error, Result};
use crate::ops;
use crate::site::At;

/// Multi-head attention; under grouped queries, `n_heads / n_kv_heads` heads share each key-value head.
#[derive(Debug, Clone)]
pub struct Attention {
    /// `[d_model, n_heads · d_head]`.
    pub q: Linear,
    /// `[d_model, n_kv_heads · d_head]`.
    pub k: Linear,
    /// `[d_model, n_kv_heads · d_head]`.
    pub v: Linear,
    /// `[n_heads · d_head, d_model]`; its bias is the shared `b_O`.
    pub o: Linear,
    /// Query heads.
    pub n_heads: usize,
    /// Key-value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Scores are multiplied by this (1/√d_head as a rule).
    pub scale: f64,
    /// Whether a query sees only keys at and before its own position.
    pub causal: bool,
    /// How many keys a query sees, its own position the last of them; all if none.
    pub window: Option<usize>,
    /// Rotation of queries and keys, if positions enter that way.
    pub rotary: Option<Rotary>,
    /// What scores lose with distance, if positions enter that way.
    pub slopes: Option<Slopes>,
    /// Queries, keys and values are kept within ± this.
    pub clip: Option<f64>,
    /// Norm of queries.
    pub q_norm: Option<HeadNorm>,
    /// Norm of keys.
    pub k_norm: Option<HeadNorm>,
    /// Scores are bent to stay within ± this.
    pub cap: Option<f64>,
    /// One score for each head that attends to nothing.
    pub sinks: Option<Arc<[f64]>>,
}

impl Attention {
    /// The attention of a layer with these weights; norms of queries and keys, and sinks, are weights too and come later.
    pub fn new(c: &Config, layer: usize, [q, k, v, o]: [Linear; 4]) -> Attention {
        let Layer { scale, window, rotary, slopes, .. } = c.layer(layer);
        Attention {
            q,
            k,
            v,
            o,
            n_heads: c.n_heads,
            n_kv_heads: c.n_kv_heads,
            d_head: c.d_head,
            scale,
            causal: c.causal,
            window,
            rotary,
            slopes,
            clip: c.qkv_clip,
            q_norm: None,
            k_norm: None,
            cap: c.score_cap,
            sinks: None,
        }
    }

    /// x `[batch, pos, d_model]` (the stream before `norm`) → each head's mix of values `[batch, pos, head, d_head]`, of positions
    /// that are still computed.
    /// `learned` `[batch, pos, d_model]` is added to what queries and keys read.
    pub(super) fn mix(
        &self,
        x: &Tensor,
        learned: Option<&Tensor>,
        norm: &Norm,
        left: &mut Left,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        let (heads, kv_heads) = (self.n_heads, self.n_kv_heads);
        let n = norm.forward(x, tap, tap.block(At::Ln1Scale), tap.block(At::Ln1))?;
        // queries stand only where something is read, keys and values everywhere
        tap.only_read(true);
        let (own_x, own_n) = (tap.kept(x)?, tap.kept(&n)?);
        let own_learned = learned.map(|learned| tap.kept(learned)).transpose()?;
        let source = Source { x: &own_x, normed: &own_n, norm, learned: own_learned.as_ref() };
        let q = self.read(&self.q, At::QInput, heads, source, tap)?; // [batch, pos, head, d_head]
        tap.only_read(false);
        let source = Source { x, normed: &n, norm, learned };
        let k = self.read(&self.k, At::KInput, kv_heads, source, tap)?; // [batch, pos, kv_head, d_head]
        let v = self.read(&self.v, At::VInput, kv_heads, Source { learned: None, ..source }, tap)?;
        let q = tap.narrowed(|tap| tap.at(At::Q, q))?;
        let k = tap.at(At::K, k)?;
        let v = tap.at(At::V, v)?;
        let q = tap.narrowed(|tap| normed(self.q_norm.as_ref(), q, At::QNormed, tap))?;
        let k = normed(self.k_norm.as_ref(), k, At::KNormed, tap)?;
        let (q, k) = match &self.rotary {
            None => (q, k),
            Some(rotary) => {
                (tap.narrowed(|tap| turned(rotary, q, At::RotQ, tap))?, turned(rotary, k, At::RotK, tap)?)
            }
        };
        self.attend(&q, k, v, left, tap)
    }

    /// q `[batch, pos, head, d_head]`, k and v `[batch, key, kv_head, d_head]` of the parts' own positions → z, shaped like q.
    ///
    /// Scores and patterns are made for those who want them; only one that was changed is looked up by, so that watching changes
    /// nothing.
    fn attend(&self, q: &Tensor, k: Tensor, v: Tensor, left: &mut Left, tap: &mut Tap) -> Result<Tensor> {
        let graded = [q, &k, &v].into_iter().any(Tensor::track_op);
        // a sequence that grows has all its keys in one place
        let grown = match left {
            Left::Cache(_) => Some(left.of(self, tap, 0)?.extend(k.clone(), v.clone())?),
            Left::Base(_) => None,
        };
        let at_once = match &grown {
            _ if graded || !q.device().is_cpu() => None,
            Some((k, v)) => Some(self.at_once(q, k, v, None, tap)?),
            None => Some(self.at_once(q, &k, &v, left.base(), tap)?),
        };
        let watched = |tap: &Tap, i| [At::Scores, At::Pattern].into_iter().any(|at| tap.part_wants(i, at));
        if let (Some(z), false) = (&at_once, (0..tap.begun().count()).any(|i| watched(tap, i))) {
            return Ok(z.clone());
        }
        let (ks, vs) = (tap.split(&k)?, tap.split(&v)?);
        tap.only_read(true);
        let qs = tap.split(q)?;
        let mut each = at_once.as_ref().map(|z| tap.split(z)).transpose()?.unwrap_or_default();
        for (i, ((q, k), v)) in qs.iter().zip(ks).zip(vs).enumerate() {
            if !each.is_empty() && !watched(tap, i) {
                continue;
            }
            // [batch, key, kv_head, d_head]
            let (k, v) = match &grown {
                Some(grown) => grown.clone(),
                None => left.of(self, tap, i)?.extend(k, v)?,
            };
            let z = self.looked_up(q, &k, &v, i, at_once.is_some(), tap)?;
            match (z, each.get_mut(i)) {
                (Some(z), Some(place)) => *place = z,
                (Some(z), None) => each.push(z),
                (None, _) => {}
            }
        }
        tap.joined(&each)
    }

    /// The same in one operation, which holds no pattern.
    fn at_once(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        base: Option<&Base>,
        tap: &mut Tap,
    ) -> Result<Tensor> {
        let left = match (base, tap.left_out(k.dim(1)?)) {
            (_, 0) => None,
            (None, first_pos) => {
                return Err(Error::NotRecorded {
                    site: format!("the keys and values left of position {first_pos}"),
                    kept: "no base".into(),
                });
            }
            (Some(base), _) => {
                let k = self.keys(base.kept.block(tap.layer, self.key_site())?)?;
                Some((k, base.kept.block(tap.layer, At::V)?.clone()))
            }
        };
        let rows = left.as_ref().map_or(Ok(1), |(k, _)| k.dim(0))?;
        if !tap.copies(rows) {
            let (what, got) = ("the base run's batch".to_owned(), vec![rows]);
            return Err(Error::Shape { what, got, expected: format!("a divisor of {}", q.dim(0)?) });
        }
        let how = ops::Attend {
            scale: self.scale,
            causal: self.causal,
            window: self.window,
            cap: self.cap,
            sinks: self.sinks.clone(),
            alibi: self.slopes.as_ref().map(|slopes| slopes.table(tap.end())),
            stretches: tap.stretches(rows, k.dim(1)?),
        };
        let flat = |x: &Tensor| x.flatten_to(1);
        let z = ops::attend(&flat(q)?, &flat(k)?, &flat(v)?, left.as_ref().map(|(k, v)| (k, v)), &how)?;
        Ok(z.reshape(q.shape())?)
    }

    /// The same of one part, with keys and values of all positions, step by step; nothing if `known` and no hook changes a thing.
    fn looked_up(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        part: usize,
        known: bool,
        tap: &mut Tap,
    ) -> Result<Option<Tensor>> {
        let ((batch, pos, heads, d_head), keys, kv_heads) = (q.dims4()?, k.dim(1)?, self.n_kv_heads);
        // Heads of one group are rows of one product with their shared keys: head = kv_head · group + member.
        let group = heads / kv_heads;
        let q = q.transpose(1, 2)?.reshape((batch, kv_heads, group * pos, d_head))?;
        let scores = ops::matmul(&q, &k.permute((0, 2, 3, 1))?)?.reshape((batch, heads, pos, keys))?;
        let own = self.masked(&scores, part, tap)?;
        let scores = tap.part_at(part, tap.block(At::Scores), own.clone())?;
        let own_pattern = match &self.sinks {
            None => ops::softmax(&scores)?,
            Some(sinks) => ops::softmax_with_sinks(&scores, sinks)?,
        };
        let pattern = tap.part_at(part, tap.block(At::Pattern), own_pattern.clone())?; // [batch, head, query, key]
        if known && scores.id() == own.id() && pattern.id() == own_pattern.id() {
            return Ok(None);
        }
        let pattern = pattern.reshape((batch, kv_heads, group * pos, keys))?;
        let z = ops::matmul(&pattern, &v.transpose(1, 2)?)?; // [batch, kv_head, group·pos, d_head]
        Ok(Some(z.reshape((batch, heads, pos, d_head))?.transpose(1, 2)?.contiguous()?))
    }

    /// q·k `[batch, head, query, key]` → scores: scaled, capped, with the biases of distance, −∞ where a query sees nothing.
    fn masked(&self, products: &Tensor, part: usize, tap: &Tap) -> Result<Tensor> {
        let keys = products.dim(3)?;
        let mask = ops::Mask {
            causal: self.causal,
            first_query: tap.extent(part).1,
            own: tap.parts[part].padding.ranges(),
            window: self.window,
            alibi: self.slopes.as_ref().map(|slopes| slopes.table(keys)),
        };
        Ok(match self.cap {
            None => ops::masked(products, self.scale, mask)?,
            Some(cap) => ops::masked(&ops::softcap(&products.affine(self.scale, 0.0)?, cap)?, 1.0, mask)?,
        })
    }

    /// Queries, keys or values: from the shared norm, or, when the reader's own input is wanted, from that.
    fn read(&self, weights: &Linear, input: At, heads: usize, from: Source, tap: &mut Tap) -> Result<Tensor> {
        let (batch, pos, d_model) = from.x.dims3()?;
        let read = if tap.wants(tap.block(input)) {
            let copies =
                |x: &Tensor| x.unsqueeze(2)?.broadcast_as((batch, pos, heads, d_model))?.contiguous();
            let own = from.norm.apply(&tap.at(input, copies(from.x)?)?)?; // [batch, pos, head, d_model]
            let own = match from.learned {
                Some(learned) => ops::add(&own, &copies(learned)?)?,
                None => own,
            };
            weights.forward_by_head(&own)?
        } else {
            let shared = match from.learned {
                Some(learned) => ops::add(from.normed, learned)?,
                None => from.normed.clone(),
            };
            weights.forward(&shared)?.reshape((batch, pos, heads, self.d_head))?
        };
        self.clipped(read)
    }

    /// The weights that make queries, keys or values ([`At::Q`], [`At::K`], [`At::V`]).
    pub(crate) fn reader(&self, at: At) -> &Linear {
        match at {
            At::Q => &self.q,
            At::K => &self.k,
            _ => &self.v,
        }
    }

    /// Queries, keys or values ([`At::Q`], [`At::K`], [`At::V`]) `[batch, pos, head, d_head]` from what they are read from `[batch, pos,
    /// d_model]`, behind the norm.
    pub(crate) fn project(&self, at: At, x: &Tensor) -> Result<Tensor> {
        let (batch, pos, _) = x.dims3()?;
        self.clipped(self.reader(at).forward(x)?.reshape((batch, pos, (), self.d_head))?)
    }

    fn clipped(&self, x: Tensor) -> Result<Tensor> {
        Ok(match self.clip {
            Some(bound) => ops::clamp(&x, -bound, bound)?,
            None => x,
        })
    }

    /// z `[batch, pos, head, d_head]` → Σ_head z·W_O + b_O `[batch, pos, d_model]`.
    pub(super) fn write(&self, z: Tensor, tap: &mut Tap) -> Result<Tensor> {
        let z = tap.at(At::Z, z)?;
        let (batch, pos, heads, d_head) = z.dims4()?;
        if !tap.wants(tap.block(At::Result)) {
            return self.o.forward(&z.reshape((batch, pos, heads * d_head))?);
        }
        let result = tap.at(At::Result, self.results(&z)?)?.sum(2)?;
        Ok(match &self.o.b {
            Some(b) => ops::shift_rows(&result, b)?,
            None => result,
        })
    }

    /// What each head writes: z `[batch, pos, head, d_head]` → z·W_O `[batch, pos, head, d_model]`, without `b_O`.
    pub fn results(&self, z: &Tensor) -> Result<Tensor> {
        let (batch, pos, heads, d_head) = z.dims4()?;
        let rows = z.permute((2, 0, 1, 3))?.reshape((heads, batch * pos, d_head))?;
        let w = self.o.w.reshape((heads, d_head, self.o.w.dim(1)?))?;
        let each = ops::matmul(&rows, &w)?.reshape((heads, batch, pos, w.dim(2)?))?;
        Ok(each.permute((1, 2, 0, 3))?.contiguous()?)
    }

    /// The place that holds keys as they are attended to, but for the gain of their norm where that is [`At::KNormed`].
    pub(super) fn key_site(&self) -> At {
        match (&self.rotary, &self.k_norm) {
            (Some(_), _) => At::RotK,
            (None, Some(_)) => At::KNormed,
            (None, None) => At::K,
        }
    }

    /// Keys as attended to, from what was recorded at [`Attention::key_site`].
    pub(super) fn keys(&self, recorded: &Tensor) -> Result<Tensor> {
        match (&self.rotary, &self.k_norm) {
            (None, Some(norm)) => norm.gained(recorded),
            _ => Ok(recorded.clone()),
        }
    }
}

/// What queries, keys and values are read from.
#[derive(Clone, Copy)]
struct Source<'a> {
    /// The stream `[batch, pos, d_model]`.
    x: &'a Tensor,
    /// The same after the norm.
    normed: &'a Tensor,
    /// The norm, for readers with an input of their own.
    norm: &'a Norm,
    /// Added after the norm.
    learned: Option<&'a Tensor>,
}

fn normed(norm: Option<&HeadNorm>, x: Tensor, at: At, tap: &mut Tap) -> Result<Tensor> {
    match norm {
        Some(norm) => norm.forward(&x, tap, at),
        None => Ok(x),
    }
}

/// Queries or keys, turned by their positions.
fn turned(rotary: &Rotary, x: Tensor, at: At, tap: &mut Tap) -> Result<Tensor> {
    let (cos, sin) = tap.rotations(rotary, &x)?;
    tap.at(at, ops::rotate(&x, &cos, &sin, rotary.pairs)?)
}
