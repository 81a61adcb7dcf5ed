//! The keys and values of a sequence that grows, so that only its new tokens are computed.
//!
//! What is kept is what was attended to, after every edit: an edit at a position that lies in the cache has done its work
//! there and need not be made again.

use candle_core::Tensor;

use super::{Block, Left, Padding, Stream, Transformer};
use crate::error::{Error, Result};
use crate::hook::Hook;

/// Keys (as attended to) and values of every position so far, in every layer.
#[derive(Debug)]
pub struct Cache {
    layers: Vec<KeysValues>,
    pos: usize,
    padding: Padding,
    /// How long the sequence will be, if that was declared.
    end: Option<usize>,
}

/// One layer's keys and values `[batch, room, kv_head, d_head]`, of which the first positions are filled. Tensors that
/// were handed out share the buffers, which is why a cache is written to only behind what they show.
#[derive(Debug, Default)]
pub(crate) struct KeysValues(Option<(Tensor, Tensor)>);

impl Cache {
    /// A cache of nothing, for a sequence that begins.
    pub fn new(model: &Transformer) -> Cache {
        let layers = (0..model.config.n_layers).map(|_| KeysValues::default()).collect();
        Cache { layers, pos: 0, padding: Padding::default(), end: None }
    }

    /// The same for a sequence of this many positions in the end: where a model's rotation depends on the length of the
    /// text, that of the finished text holds from its first token on.
    #[must_use]
    pub fn ending_at(self, pos: usize) -> Cache {
        Cache { end: Some(pos), ..self }
    }

    /// As [`Cache::ending_at`], of a sequence that goes on: right where a text of the new length is rotated like the old one
    /// ([`Transformer::rotates_alike`]).
    pub fn end_at(&mut self, pos: usize) {
        self.end = Some(pos);
    }

    /// How many positions it holds: where the next token stands.
    pub fn pos(&self) -> usize {
        self.pos
    }

    /// A cache with the same content that grows by itself from here on.
    pub fn fork(&self) -> Result<Cache> {
        let copy = |layer: &KeysValues| -> Result<KeysValues> {
            let Some((k, v)) = &layer.0 else { return Ok(KeysValues(None)) };
            Ok(KeysValues(Some((k.copy()?, v.copy()?))))
        };
        let layers = self.layers.iter().map(copy).collect::<Result<_>>()?;
        Ok(Cache { layers, padding: self.padding.clone(), ..*self })
    }

    pub(super) fn layer(&mut self, layer: usize) -> Result<&mut KeysValues> {
        let size = self.layers.len();
        let beyond = Error::OutOfRange { what: "layer", index: layer, size, site: "the cache".into() };
        self.layers.get_mut(layer).ok_or(beyond)
    }
}

impl KeysValues {
    /// All keys and values: the first `pos`, then these.
    pub(super) fn extend(&mut self, pos: usize, k: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
        let end = pos + k.dim(1)?;
        let (all_k, all_v) = match &self.0 {
            Some((k, v)) => (roomy(k, pos, end)?, roomy(v, pos, end)?),
            None => (room(k, end)?, room(v, end)?),
        };
        all_k.slice_set(&k.detach().contiguous()?, 1, pos)?;
        all_v.slice_set(&v.detach().contiguous()?, 1, pos)?;
        let filled = (all_k.narrow(1, 0, end)?, all_v.narrow(1, 0, end)?);
        self.0 = Some((all_k, all_v));
        Ok(filled)
    }
}

/// An empty buffer for at least `end` positions of such keys or values.
fn room(like: &Tensor, end: usize) -> Result<Tensor> {
    let (batch, _, heads, d_head) = like.dims4()?;
    Ok(Tensor::zeros((batch, end.next_power_of_two(), heads, d_head), like.dtype(), like.device())?)
}

/// The buffer itself, or one twice as long with the same first `pos` positions: copies are few.
fn roomy(buffer: &Tensor, pos: usize, end: usize) -> Result<Tensor> {
    if end <= buffer.dim(1)? {
        return Ok(buffer.clone());
    }
    let larger = room(buffer, end)?;
    if pos > 0 {
        larger.slice_set(&buffer.narrow(1, 0, pos)?.contiguous()?, 1, 0)?;
    }
    Ok(larger)
}

impl Transformer {
    /// Whether texts of these two lengths are rotated alike, so that a cache of the one serves the other.
    pub fn rotates_alike(&self, one: usize, other: usize) -> bool {
        let rotations = self.blocks.iter().filter_map(|block| block.attention.rotary.as_ref());
        let mut by_length = rotations.filter(|rotary| rotary.scaling.by_length());
        by_length.all(|rotary| rotary.frequencies(one) == rotary.frequencies(other))
    }

    /// The next tokens `[batch, pos]` of a growing sequence → the stream after the last block at their positions. Keys
    /// and values to the left come from the cache, which takes up the new ones. The window is the new tokens, so that edits of
    /// them stand at their absolute positions. Rows that begin with unequal lengths are padded on the left.
    pub fn grow(&self, tokens: &Tensor, cache: &mut Cache, hook: &mut dyn Hook) -> Result<Stream> {
        if cache.pos == 0 {
            cache.padding = Padding::of(tokens)?;
        }
        if let Some(end) = cache.end {
            cache.padding = cache.padding.clone().ending_at(end);
        }
        let by_length =
            |block: &Block| block.attention.rotary.as_ref().is_some_and(|rotary| rotary.scaling.by_length());
        let length = cache.pos + tokens.dim(1)?;
        if cache.end.is_none_or(|end| end < length) && self.blocks.iter().any(by_length) {
            return Err(Error::usage(
                "this model rotates by how long the whole text is, so its growth needs the final length",
                "declare it, with `Cache::ending_at`, and grow no further",
            ));
        }
        if !cache.padding.is_open() {
            return Err(Error::input(
                "rows that are padded on the right cannot grow there",
                "pad shorter prompts on the left",
            ));
        }
        let from = self.embed_from(tokens, cache.pos, cache.padding.clone(), hook)?;
        let stream = self.run_blocks(from, &mut Left::Cache(cache), self.config.n_layers, hook)?;
        // only now, so that a pass that failed half-way can be made again
        cache.pos += tokens.dim(1)?;
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn numbers(from: usize, count: usize) -> Tensor {
        let range = Tensor::arange(from as f64, (from + 2 * count) as f64, &Device::Cpu).unwrap();
        range.reshape((1, count, 1, 2)).unwrap().to_dtype(DType::F32).unwrap()
    }

    #[test]
    fn what_was_put_in_comes_out_in_order_whatever_the_room() {
        let mut layer = KeysValues::default();
        let (mut pos, mut first) = (0, None);
        for count in [3, 1, 1, 4, 1] {
            let (k, v) = layer.extend(pos, &numbers(2 * pos, count), &numbers(100 + 2 * pos, count)).unwrap();
            pos += count;
            let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(flat(&k), flat(&numbers(0, pos)));
            assert_eq!(flat(&v), flat(&numbers(100, pos)));
            first.get_or_insert(k);
        }
        assert_eq!(first.unwrap().dims(), [1, 3, 1, 2], "what was handed out stays as it was");
    }
}
