//! Faults planted in the engine, and who catches each: `verify`, which sees one model alone, or the reference values.
//!
//! What a model computes differently from its file's maker cannot be seen from the model: a bias left out, heads in
//! another order, a wrong ε are caught by the values of TransformerLens and transformers in `tests/fixtures`. What the
//! engine does differently from what it says is caught by `verify`. Every fault must be caught by one of the two, and among
//! the promises by the one named here.

use candle_core::{DType, Device, Tensor};
use glassbox::Result;
use glassbox::hook::Hook;
use glassbox::lab::Lab;
use glassbox::model::{Base, NormKind, Pad, Stream, Transformer};
use glassbox::ops;
use glassbox::site::{At, Site};
use glassbox::verify::{Engine, Subject, verify_engine};

use crate::parity::{off, tokens, values};
use crate::tiny::checkpoint;

/// What the engine does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// A hook's return value is dropped here.
    Deaf(At),
    /// No hook is called here.
    Skipped(At),
    /// Hooks are called twice here.
    Doubled(At),
    /// Right values, but back-propagation stops here, as in fused operations without a backward.
    NoGradient(At),
    /// Half the gradient is lost here.
    HalfGradient(At),
    /// Heads 0 and 1 in each other's place, in what hooks see and return.
    SwappedHeads(At),
    /// `b_O` is not added.
    NoOutputBias,
    /// A query sees the key after its own.
    MaskOffByOne,
    /// A query does not see itself.
    BlindToItself,
    /// Hooks of a window are told that it begins a position later.
    WindowOffByOne,
    /// Positions of a padded row count from the first column of the batch.
    PaddedPositions,
    /// Padding is attended to.
    VisiblePadding,
}

/// The transformer with one fault.
struct Faulty<'a> {
    model: &'a Transformer,
    fault: Fault,
}

impl Engine for Faulty<'_> {
    fn embed(&self, tokens: &Tensor, hook: &mut dyn Hook) -> Result<Stream> {
        let (model, mut hook) = (self.model, Tampered::new(self, hook));
        match self.fault {
            Fault::PaddedPositions | Fault::VisiblePadding if is_padded(tokens)? => {
                let stream = model.embed(tokens, &mut hook)?;
                // any token of the vocabulary in place of padding: the rows are no longer known to be padded
                let plain = tokens.minimum((model.config.d_vocab - 1) as u32)?;
                let unpadded = model.embed(&plain, &mut ())?;
                Ok(match self.fault {
                    Fault::PaddedPositions => Stream { resid: unpadded.resid, ..stream },
                    _ => Stream { padding: unpadded.padding, ..stream },
                })
            }
            _ => model.embed(tokens, &mut hook),
        }
    }

    fn run(&self, from: Stream, base: Option<&Base>, until: usize, hook: &mut dyn Hook) -> Result<Stream> {
        self.model.run(from, base, until, &mut Tampered::new(self, hook))
    }

    fn unembed(&self, stream: &Stream, hook: &mut dyn Hook) -> Result<Tensor> {
        self.model.unembed(stream, &mut Tampered::new(self, hook))
    }
}

/// Stands between the pass and the hook, and does the fault.
struct Tampered<'a> {
    model: &'a Transformer,
    fault: Fault,
    hook: &'a mut dyn Hook,
    q: Option<Tensor>,
    k: Option<Tensor>,
}

impl<'a> Tampered<'a> {
    fn new(engine: &Faulty<'a>, hook: &'a mut dyn Hook) -> Tampered<'a> {
        Tampered { model: engine.model, fault: engine.fault, hook, q: None, k: None }
    }

    /// Queries and keys as attention uses them.
    fn used(&self) -> [At; 2] {
        if self.model.pos_embed.is_some() { [At::Q, At::K] } else { [At::RotQ, At::RotK] }
    }

    fn tampers(&self, at: At) -> bool {
        match self.fault {
            Fault::MaskOffByOne => at == At::Scores || self.used().contains(&at),
            Fault::BlindToItself => at == At::Scores,
            Fault::NoOutputBias => at == At::AttnOut,
            Fault::NoGradient(place) | Fault::HalfGradient(place) => at == place,
            _ => false,
        }
    }

    /// The activation as the faulty engine computes it.
    fn wrong(&mut self, layer: usize, at: At, x: Tensor) -> Result<Tensor> {
        Ok(match self.fault {
            Fault::NoGradient(place) if at == place => x.detach(),
            Fault::HalfGradient(place) if at == place => ((&x * 0.5)? + (x.detach() * 0.5)?)?,
            Fault::NoOutputBias if at == At::AttnOut => match &self.model.blocks[layer].attention.o.b {
                Some(bias) => x.broadcast_sub(bias)?,
                None => x,
            },
            Fault::MaskOffByOne if at == At::Scores => self.unmasked(layer, x)?,
            Fault::BlindToItself if at == At::Scores => {
                let (_, _, queries, keys) = x.dims4()?;
                let own = keys - queries;
                let diagonal =
                    (0..queries * keys).map(|i| u8::from(i % keys == i / keys + own && i % keys > 0));
                let mask = Tensor::from_vec(diagonal.collect(), (queries, keys), x.device())?;
                let nothing = x.zeros_like()?.affine(1.0, f64::NEG_INFINITY)?;
                mask.broadcast_as(x.shape())?.where_cond(&nothing, &x)?
            }
            _ => x,
        })
    }

    /// Scores of the window in which the key after a query's own is seen too.
    fn unmasked(&self, layer: usize, x: Tensor) -> Result<Tensor> {
        let (Some(q), Some(k)) = (&self.q, &self.k) else { return Ok(x) };
        let (batch, heads, queries, keys) = x.dims4()?;
        let attention = &self.model.blocks[layer].attention;
        let (kv_heads, d_head) = (attention.n_kv_heads, attention.d_head);
        let k = k.unsqueeze(3)?.broadcast_as((batch, queries, kv_heads, heads / kv_heads, d_head))?;
        let k = k.contiguous()?.reshape((batch, queries, heads, d_head))?;
        let all =
            ops::matmul(&q.transpose(1, 2)?, &k.permute((0, 2, 3, 1))?)?.affine(attention.scale, 0.0)?;
        let all = all.pad_with_zeros(3, keys - queries, 0)?;
        let next = (0..queries * keys).map(|i| u8::from(i % keys == i / keys + keys - queries + 1));
        let mask = Tensor::from_vec(next.collect(), (queries, keys), x.device())?;
        Ok(mask.broadcast_as(x.shape())?.where_cond(&all, &x)?)
    }
}

fn is_padded(tokens: &Tensor) -> Result<bool> {
    Ok(tokens.to_vec2::<u32>()?.concat().contains(&Pad::ID))
}

fn swapped(x: &Tensor, axis: usize) -> Result<Tensor> {
    let mut order: Vec<u32> = (0..x.dim(axis)? as u32).collect();
    order.swap(0, 1);
    Ok(x.contiguous()?.index_select(&Tensor::new(order, x.device())?, axis)?)
}

impl Hook for Tampered<'_> {
    fn wants(&self, site: Site) -> bool {
        match (site, self.fault) {
            (Site::Block(_, at), Fault::Skipped(place)) if at == place => false,
            (Site::Block(_, at), _) if self.tampers(at) => true,
            _ => self.hook.wants(site),
        }
    }

    fn visit(&mut self, site: Site, first_pos: usize, x: Tensor) -> Result<Tensor> {
        let Site::Block(layer, at) = site else { return self.hook.visit(site, first_pos, x) };
        let first_pos = match self.fault {
            Fault::WindowOffByOne if first_pos > 0 => first_pos + 1,
            _ => first_pos,
        };
        let x = self.wrong(layer, at, x)?;
        let mut y = x.clone();
        if self.hook.wants(site) {
            y = match self.fault {
                Fault::SwappedHeads(place) if at == place => {
                    let axis = site.axis(glassbox::site::Axis::Head).unwrap();
                    swapped(&self.hook.visit(site, first_pos, swapped(&x, axis)?)?, axis)?
                }
                Fault::Deaf(place) if at == place => {
                    self.hook.visit(site, first_pos, x.clone())?;
                    x
                }
                Fault::Doubled(place) if at == place => {
                    let once = self.hook.visit(site, first_pos, x)?;
                    self.hook.visit(site, first_pos, once)?
                }
                _ => self.hook.visit(site, first_pos, x)?,
            };
        }
        let [q, k] = self.used();
        if self.tampers(at) && at == q {
            self.q = Some(y.clone());
        } else if self.tampers(at) && at == k {
            self.k = Some(y.clone());
        }
        Ok(y)
    }
}

/// The names of the promises that do not hold, and how far the values at every site are from the reference, in units
/// of what parity allows.
fn caught(name: &str, change: &dyn Fn(&mut Transformer), fault: Fault) -> (Vec<String>, f64) {
    let open = |dtype| {
        let mut lab = Lab::open(&checkpoint(name).to_string_lossy(), dtype, &Device::Cpu).unwrap();
        change(&mut lab.model);
        lab
    };
    let lab = open(DType::F64);
    let record = verify_engine(&lab, &Faulty { model: &lab.model, fault }).unwrap();
    let broken = record.promises.iter().filter(|row| row.holds == Some(false));
    let broken: Vec<String> = broken.map(|row| row.promise.clone()).collect();
    assert_eq!(record.check(name).is_err(), !broken.is_empty());

    let lab = open(DType::F32);
    let engine = Faulty { model: &lab.model, fault };
    let (reference, sites) = (values(name), lab.model.sites());
    let subject = Subject::new(&lab, &engine).unwrap();
    let (_, kept) = subject.record(&tokens(&reference, "tokens"), |site| sites.contains(&site)).unwrap();
    // a place that never fired is as far off as can be
    let whole = sites.iter().all(|site| kept.0.contains_key(site));
    (broken, if whole { off(&kept, &reference, &sites).0 } else { f64::INFINITY })
}

#[test]
fn a_sound_engine_is_not_accused() {
    for name in ["gpt2", "llama"] {
        let (broken, off) = caught(name, &|_| {}, Fault::None);
        assert!(broken.is_empty() && off < 1.0, "{name}: {broken:?}, {off}");
    }
}

/// What the engine does otherwise than it says: caught by `verify`, on both families.
#[test]
fn verify_catches_faults_of_the_engine() {
    const WHO: &[(Fault, &[&str])] = &[
        (Fault::Deaf(At::Q), &["sites"]),
        (Fault::Deaf(At::ResidPre), &["sites", "patching"]),
        (Fault::Deaf(At::MlpIn), &["sites"]),
        (Fault::Skipped(At::MlpPost), &["sites"]),
        (Fault::Doubled(At::Z), &["sites"]),
        (Fault::NoGradient(At::Pattern), &["sites"]),
        (Fault::HalfGradient(At::Ln1Scale), &["sites"]),
        (Fault::SwappedHeads(At::Result), &["heads"]),
        (Fault::SwappedHeads(At::Z), &["heads"]),
        (Fault::NoOutputBias, &["stream"]),
        (Fault::MaskOffByOne, &["causality"]),
        (Fault::BlindToItself, &["causality"]),
        (Fault::WindowOffByOne, &["windows"]),
        (Fault::PaddedPositions, &["padding"]),
        (Fault::VisiblePadding, &["padding"]),
    ];
    for name in ["gpt2", "llama"] {
        for &(fault, by) in WHO {
            let rotary_only_relative = name == "llama" && fault == Fault::PaddedPositions;
            let no_bias = name == "llama" && fault == Fault::NoOutputBias;
            if rotary_only_relative || no_bias {
                continue; // a rotary model embeds no positions, and this one has no biases
            }
            let (broken, off) = caught(name, &|_| {}, fault);
            println!("{name}, {fault:?}: verify {broken:?}; parity {off:.1} tolerances off");
            for promise in by {
                assert!(
                    broken.iter().any(|b| b == promise),
                    "{name}, {fault:?}: {promise} holds, {broken:?} not"
                );
            }
        }
    }
}

/// What the model does otherwise than its maker's: every promise holds of it, and the reference values do not.
#[test]
fn reference_values_catch_faults_of_the_model() {
    type Change = (&'static str, &'static str, fn(&mut Transformer));
    fn no_bias(linear: &mut glassbox::model::Linear) {
        assert!(linear.b.take().is_some());
    }
    fn heads_swapped(w: &mut Tensor, axis: usize, heads: usize) {
        let mut order: Vec<u32> = (0..w.dim(axis).unwrap() as u32).collect();
        let width = order.len() / heads;
        order[..2 * width].rotate_left(width);
        *w = w.contiguous().unwrap().index_select(&Tensor::new(order, w.device()).unwrap(), axis).unwrap();
    }
    let changes: &[Change] = &[
        ("gpt2", "no b_Q", |m| no_bias(&mut m.blocks[0].attention.q)),
        ("gpt2", "no b_K", |m| no_bias(&mut m.blocks[1].attention.k)),
        ("gpt2", "no b_V", |m| no_bias(&mut m.blocks[2].attention.v)),
        ("gpt2", "no b_O", |m| no_bias(&mut m.blocks[0].attention.o)),
        ("gpt2", "no b_in", |m| no_bias(&mut m.blocks[1].mlp.dense_mut().unwrap().pre)),
        ("gpt2", "no b_out", |m| no_bias(&mut m.blocks[2].mlp.dense_mut().unwrap().out)),
        ("gpt2", "no bias of ln1", |m| m.blocks[0].ln1.bias = None),
        ("gpt2", "no bias of ln2", |m| m.blocks[1].ln2.bias = None),
        ("gpt2", "no bias of ln_final", |m| m.ln_final.bias = None),
        ("gpt2", "RMSNorm for LayerNorm", |m| m.blocks[1].ln1.kind = NormKind::Rms),
        ("gpt2", "ε of ln1", |m| m.blocks[0].ln1.eps = 1e-5),
        ("gpt2", "ε of ln_final", |m| m.ln_final.eps = 1e-5),
        ("gpt2", "heads of W_O swapped", |m| heads_swapped(&mut m.blocks[1].attention.o.w, 0, 4)),
        ("gpt2", "heads of W_Q swapped", |m| heads_swapped(&mut m.blocks[1].attention.q.w, 1, 4)),
        ("gpt2", "scores not scaled", |m| m.blocks[0].attention.scale = 1.0),
        ("gpt2", "positions off by one", |m| {
            let table = m.pos_embed.as_mut().unwrap();
            let rolled: Vec<u32> = (1..table.dim(0).unwrap() as u32).chain([0]).collect();
            *table = table.index_select(&Tensor::new(rolled, table.device()).unwrap(), 0).unwrap();
        }),
        ("llama", "ε of ln2", |m| m.blocks[1].ln2.eps = 1e-5),
        ("llama", "key-value heads swapped", |m| heads_swapped(&mut m.blocks[0].attention.k.w, 1, 2)),
        ("llama", "heads of W_O swapped", |m| heads_swapped(&mut m.blocks[0].attention.o.w, 0, 4)),
        ("llama", "gate and linear branch swapped", |m| {
            let mlp = m.blocks[1].mlp.dense_mut().unwrap();
            std::mem::swap(&mut mlp.pre, mlp.linear.as_mut().unwrap());
        }),
        ("llama", "rotation of half the entries", |m| {
            m.blocks[0].attention.rotary.as_mut().unwrap().dims = 4;
        }),
    ];
    for &(name, what, change) in changes {
        let (broken, off) = caught(name, &change, Fault::None);
        println!("{name}, {what}: verify {broken:?}; parity {off:.1} tolerances off");
        assert!(off > 1.0, "{name}, {what}: {off} tolerances off");
        assert!(broken.is_empty(), "{name}, {what}: {broken:?}");
    }
    // a mask that the configuration does not ask for is caught by both
    let (broken, off) = caught("gpt2", &|m| m.blocks[1].attention.causal = false, Fault::None);
    assert!(broken.contains(&"causality".to_owned()) && off > 10.0, "{broken:?}, {off}");
}
