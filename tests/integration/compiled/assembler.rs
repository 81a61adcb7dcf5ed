//! A tiny assembler: from selectors and tables over named parts of the stream to a transformer.
//!
//! The stream is cut into [`Space`]s, each a one-hot symbol or a number. A [`Head`] attends where a table of scores says so
//! and carries a space over; a [`Neuron`] is one ReLU. Nothing else is ever written to a space than what names it, and a
//! reader whose weights on a space are zero cannot see it: so the true edges can be read off the program.

use candle_core::{Device, Tensor};
use glassbox::model::{
    Activation, Attention, Block, Config, Dense, Layer, Linear, Mlp, Norm, NormKind, Transformer,
};

/// A part of the stream.
#[derive(Debug, Clone, Copy)]
pub struct Space {
    first: usize,
    pub size: usize,
}

impl Space {
    /// Where in the stream its entry `i` is.
    pub fn at(self, i: usize) -> usize {
        assert!(i < self.size, "entry {i} of a space of {}", self.size);
        self.first + i
    }

    /// One entry as a space of its own.
    pub fn only(self, i: usize) -> Space {
        Space { first: self.at(i), size: 1 }
    }

    /// Its entries from `i` on.
    pub fn from(self, i: usize) -> Space {
        Space { first: self.at(i), size: self.size - i }
    }
}

/// Deals out the stream.
#[derive(Debug, Default)]
pub struct Layout {
    width: usize,
}

impl Layout {
    pub fn space(&mut self, size: usize) -> Space {
        let first = self.width;
        self.width += size;
        Space { first, size }
    }
}

/// (from, to, weight).
type Entry = (usize, usize, f64);

/// One head, as the entries of its four maps.
#[derive(Debug, Default)]
pub struct Head {
    scored: usize,
    carried: usize,
    q: Vec<Entry>,
    k: Vec<Entry>,
    v: Vec<Entry>,
    o: Vec<Entry>,
}

impl Head {
    /// Adds to the score of a key with symbol k, for a query with symbol q: `score(q, k)`.
    pub fn select(mut self, queries: Space, keys: Space, score: impl Fn(usize, usize) -> f64) -> Head {
        for k in 0..keys.size {
            let asked = (0..queries.size).map(|q| (queries.at(q), self.scored + k, score(q, k)));
            self.q.extend(asked.filter(|(_, _, score)| *score != 0.0));
            self.k.push((keys.at(k), self.scored + k, 1.0));
        }
        self.scored += keys.size;
        self
    }

    /// Writes what it finds in `values` into a space of the same size.
    pub fn carry(self, values: Space, into: Space) -> Head {
        self.sum(values, into, |_| true)
    }

    /// The same, of some symbols alone; into a space of size 1, they are counted.
    pub fn sum(mut self, values: Space, into: Space, which: impl Fn(usize) -> bool) -> Head {
        assert!(into.size == values.size || into.size == 1);
        for i in (0..values.size).filter(|&i| which(i)) {
            self.v.push((values.at(i), self.carried + if into.size == 1 { 0 } else { i }, 1.0));
        }
        (0..into.size).for_each(|i| self.o.push((self.carried + i, into.at(i), 1.0)));
        self.carried += into.size;
        self
    }
}

/// max(0, Σ weight · entry + bias), written into entries with weights.
#[derive(Debug, Default, Clone)]
pub struct Neuron {
    pub reads: Vec<(usize, f64)>,
    pub bias: f64,
    pub writes: Vec<(usize, f64)>,
}

/// 0 until Σ weight · entry is `from`, 1 after it is `to`, a straight line between.
pub fn ramp(reads: &[(usize, f64)], from: f64, to: f64, writes: &[(usize, f64)]) -> [Neuron; 2] {
    let slope = 1.0 / (to - from);
    [(from, 1.0), (to, -1.0)].map(|(knot, sign)| Neuron {
        reads: reads.iter().map(|&(entry, weight)| (entry, weight * slope)).collect(),
        bias: -knot * slope,
        writes: writes.iter().map(|&(entry, weight)| (entry, weight * sign)).collect(),
    })
}

/// The number in `x` as a symbol: symbol i where it is `knots[i]`, between two knots a mixture of both, so that gradients
/// live. Where entry `unless` is 1, no symbol at all.
pub fn lookup(x: Space, knots: &[f64], into: Space, unless: Option<usize>) -> Vec<Neuron> {
    let unless: Vec<(usize, f64)> = unless.map(|entry| (entry, -2.0)).into_iter().collect();
    let reads = [&[(x.at(0), 1.0)], &unless[..]].concat();
    let first = Neuron { reads: unless, bias: 1.0, writes: vec![(into.at(0), 1.0)] };
    let steps = knots.windows(2).enumerate().flat_map(|(i, knots)| {
        ramp(&reads, knots[0], knots[1], &[(into.at(i), -1.0), (into.at(i + 1), 1.0)])
    });
    std::iter::once(first).chain(steps).collect()
}

/// A table from symbols to symbols.
pub fn table(from: Space, into: Space, to: impl Fn(usize) -> usize) -> Vec<Neuron> {
    let neuron =
        |i| Neuron { reads: vec![(from.at(i), 1.0)], bias: 0.0, writes: vec![(into.at(to(i)), 1.0)] };
    (0..from.size).map(neuron).collect()
}

/// 1 where both entries are.
pub fn both(a: usize, b: usize, writes: &[(usize, f64)]) -> Neuron {
    Neuron { reads: vec![(a, 1.0), (b, 1.0)], bias: -1.0, writes: writes.to_vec() }
}

/// A program: what `assemble` makes a transformer of.
pub struct Program {
    pub layout: Layout,
    /// What the embedding writes: the token, the position.
    pub token: Space,
    pub position: Space,
    /// Heads and neurons of each layer; as many heads in each.
    pub layers: Vec<(Vec<Head>, Vec<Neuron>)>,
    /// What the unembedding reads, a symbol for each token, and with which weight.
    pub out: Space,
    pub gain: f64,
    pub causal: bool,
    /// Whether norms stand where they usually do, each the identity to the last bit: their ε of 2^100 and gain of 2^50 lose the
    /// stream's mean square.
    pub normed: bool,
}

impl Program {
    pub fn assemble(&self) -> Transformer {
        let d_model = self.layout.width;
        let heads = || self.layers.iter().flat_map(|(heads, _)| heads);
        let d_head = heads().map(|head| head.scored.max(head.carried)).max().unwrap();
        let d_mlp = self.layers.iter().map(|(_, neurons)| neurons.len()).max().unwrap();
        let config = Config {
            d_model,
            n_layers: self.layers.len(),
            n_heads: self.layers[0].0.len(),
            n_kv_heads: self.layers[0].0.len(),
            d_head,
            d_mlp,
            d_vocab: self.token.size,
            d_vocab_out: self.token.size,
            n_ctx: self.position.size,
            norm: if self.normed { NormKind::Rms } else { NormKind::None },
            norm_eps: 2f64.powi(100),
            norm_bias: false,
            final_norm: self.normed,
            layers: vec![Layer { scale: 1.0, ..Layer::plain(d_head) }],
            activation: Activation::Relu,
            causal: self.causal,
            ..Config::default()
        };
        let one_hot = |space: Space| {
            linear([space.size, d_model], (0..space.size).map(|i| (i, space.at(i), 1.0)), None).w
        };
        let block = |layer: usize, (heads, neurons): &(Vec<Head>, Vec<Neuron>)| {
            assert_eq!(heads.len(), config.n_heads, "layer {layer}");
            let attention = Attention::new(&config, layer, attention(heads, d_model, d_head));
            Block::new(config.wiring, self.norm(), attention, self.norm(), mlp(neurons, d_model, d_mlp))
                .unwrap()
        };
        let out = (0..self.out.size).map(|i| (self.out.at(i), i, self.gain));
        Transformer {
            embed: one_hot(self.token),
            pos_embed: Some(one_hot(self.position)),
            blocks: self.layers.iter().enumerate().map(|(i, layer)| block(i, layer)).collect(),
            ln_final: self.norm(),
            unembed: linear([d_model, self.token.size], out, None),
            config,
        }
    }

    fn norm(&self) -> Norm {
        let gain = Tensor::full(2f64.powi(50), self.layout.width, &Device::Cpu).unwrap();
        let identity = Norm { kind: NormKind::Rms, eps: 2f64.powi(100), gain, bias: None };
        if self.normed { identity } else { Norm::none(&identity.gain).unwrap() }
    }
}

/// A map from its entries; those at one place add up.
fn linear([d_in, d_out]: [usize; 2], entries: impl Iterator<Item = Entry>, b: Option<Vec<f64>>) -> Linear {
    let mut w = vec![0.0; d_in * d_out];
    entries.for_each(|(from, to, weight)| w[from * d_out + to] += weight);
    let b = b.map(|b| Tensor::from_vec(b, d_out, &Device::Cpu).unwrap());
    Linear { w: Tensor::from_vec(w, (d_in, d_out), &Device::Cpu).unwrap(), b }
}

fn attention(heads: &[Head], d_model: usize, d_head: usize) -> [Linear; 4] {
    let all = heads.len() * d_head;
    let read = |of: fn(&Head) -> &Vec<Entry>| {
        let of_head = |(h, head)| of(head).iter().map(move |&(from, to, w)| (from, h * d_head + to, w));
        linear([d_model, all], heads.iter().enumerate().flat_map(of_head), None)
    };
    let written = |(h, head): (usize, &Head)| {
        head.o.iter().map(|&(from, to, w)| (h * d_head + from, to, w)).collect::<Vec<_>>()
    };
    let o = linear([all, d_model], heads.iter().enumerate().flat_map(written), None);
    [read(|head| &head.q), read(|head| &head.k), read(|head| &head.v), o]
}

fn mlp(neurons: &[Neuron], d_model: usize, d_mlp: usize) -> Mlp {
    let each = || neurons.iter().enumerate();
    let reads = each().flat_map(|(i, n)| n.reads.iter().map(move |&(from, weight)| (from, i, weight)));
    let writes = each().flat_map(|(i, n)| n.writes.iter().map(move |&(to, weight)| (i, to, weight)));
    let mut bias: Vec<f64> = neurons.iter().map(|neuron| neuron.bias).collect();
    bias.resize(d_mlp, 0.0);
    let pre = linear([d_model, d_mlp], reads, Some(bias));
    Mlp::Dense(Dense::plain(pre, linear([d_mlp, d_model], writes, None), Activation::Relu))
}
