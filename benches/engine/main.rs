//! What the parts of the engine do of what the machine can: `cargo bench --bench engine`.
//!
//! The yardstick is the product [480×768]·[768×3072], measured in turn with everything else, so that a machine whose speed
//! drifts does not change a share. A model of GPT-2 small's shape with random weights is made in memory; prompts are 8 pairs of 15
//! tokens that differ at position 10. Products and passes are shown with their floating-point operations, activations with the
//! numbers they go over; sweeps with the distance to their floor, which is the arithmetic of their light cones (`cone`) at the
//! yardstick's rate.

use std::hint::black_box;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use glassbox::analysis::Analysis;
use glassbox::analysis::patch::{By, Direction, Patch, PatchSite};
use glassbox::lab::{About, Lab};
use glassbox::model::{Base, Config, Layer, Stream, Transformer};
use glassbox::site::{At, Site};
use glassbox::sweep::{Costs, Enters, cone};
use glassbox::task::{Example, Side, Task};
use glassbox::vocabulary::Vocabulary;
use glassbox::{Result, ops};

const PROMPTS: usize = 8;
const LENGTH: usize = 15;
const DIFFERS_AT: usize = 10;

fn main() -> Result<()> {
    let lab = lab()?;
    let task = task(lab.model.config.d_vocab as u32);
    let bench = Bench::new()?;
    println!(
        "{} threads, f32; times are medians, shares of the rate of [480×768]·[768×3072]",
        rayon::current_num_threads()
    );
    println!("{:<44}{:>11}{:>12}{:>9}", "", "time", "", "share");
    products(&bench)?;
    activations(&bench, &lab)?;
    blocks(&bench, &lab)?;
    passes(&bench, &lab, &task)?;
    sweeps(&bench, &lab, &task)
}

/// Times work in turn with the yardstick.
struct Bench {
    a: Tensor,
    b: Tensor,
}

/// Median seconds of a piece of work, and of the yardstick beside it.
struct Timed {
    seconds: f64,
    rate: f64,
}

impl Bench {
    const FLOPS: f64 = 2.0 * 480.0 * 768.0 * 3072.0;

    fn new() -> Result<Bench> {
        Ok(Bench { a: noise(&[480, 768])?, b: noise(&[768, 3072])? })
    }

    /// Once to warm up, then for about a second and at least five times.
    fn time<T>(&self, work: impl Fn() -> Result<T>) -> Result<Timed> {
        let once = |work: &dyn Fn() -> Result<()>| -> Result<f64> {
            let begin = Instant::now();
            work()?;
            Ok(begin.elapsed().as_secs_f64())
        };
        let own = || work().map(|done| drop(black_box(done)));
        let product = || ops::linear(&self.a, &self.b, None).map(|y| drop(black_box(y))).map_err(Into::into);
        once(&own)?;
        let (mut seconds, mut products, begin) = (Vec::new(), Vec::new(), Instant::now());
        while seconds.len() < 5 || begin.elapsed().as_secs_f64() < 1.0 && seconds.len() < 200 {
            products.push(once(&product)?);
            seconds.push(once(&own)?);
        }
        Ok(Timed { seconds: median(seconds), rate: Self::FLOPS / median(products) })
    }

    /// A line for work of so many operations.
    fn show<T>(&self, what: &str, flops: f64, work: impl Fn() -> Result<T>) -> Result<Timed> {
        let timed = self.time(work)?;
        let rate = flops / timed.seconds;
        line(what, timed.seconds, &format!("{:.0} GFLOP/s", rate / 1e9), Some(rate / timed.rate));
        Ok(timed)
    }
}

fn line(what: &str, seconds: f64, rate: &str, share: Option<f64>) {
    let time = if seconds < 1.0 { format!("{:.2} ms", 1e3 * seconds) } else { format!("{seconds:.2} s") };
    let share = share.map_or_else(String::new, |share| format!("{share:.2}"));
    println!("{what:<44}{time:>11}{rate:>16}{share:>7}");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Numbers that look random and are the same on every machine.
fn noise(shape: &[usize]) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| ((i as f64 * 12.9898).sin() * 43.7) as f32 % 1.0).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

fn lab() -> Result<Lab> {
    let config = Config {
        n_layers: 12,
        d_model: 768,
        n_heads: 12,
        n_kv_heads: 12,
        d_head: 64,
        d_mlp: 3072,
        d_vocab: 50_257,
        d_vocab_out: 50_257,
        n_ctx: 1024,
        layers: vec![Layer::plain(64)],
        ..Config::default()
    };
    let model = Transformer::random(config, 6, DType::F32)?;
    Ok(Lab::new(model, Vocabulary::unread(None), About::default()))
}

fn task(vocabulary: u32) -> Task {
    let word = |i: usize| (i as u32).wrapping_mul(2_654_435_761) % vocabulary;
    let example = |i: usize| {
        let clean: Vec<u32> = (0..LENGTH).map(|pos| word(1 + i * LENGTH + pos)).collect();
        let mut corrupt = clean.clone();
        corrupt[DIFFERS_AT] = word(1_000 + i);
        let (answers, wrong) = (vec![word(2_000 + i)], vec![word(3_000 + i)]);
        Example { id: i.to_string(), clean, corrupt: Some(corrupt), answers, wrong, ..Example::default() }
    };
    Task { name: "bench".into(), examples: (0..PROMPTS).map(example).collect(), ..Task::default() }
}

fn products(bench: &Bench) -> Result<()> {
    for rows in [2, 40, 120, 480, 1920] {
        for [width, out] in [[768, 768], [768, 3072], [3072, 768]] {
            let (x, w, b) = (noise(&[rows, width])?, noise(&[width, out])?, noise(&[out])?);
            let flops = 2.0 * (rows * width * out) as f64;
            bench.show(&format!("product [{rows}×{width}]·[{width}×{out}] + b"), flops, || {
                Ok(ops::linear(&x, &w, Some(&b))?)
            })?;
        }
    }
    Ok(())
}

/// What stands between products, at 480 positions: time, and numbers gone over.
fn activations(bench: &Bench, lab: &Lab) -> Result<()> {
    let [stream, neurons] = [noise(&[32, LENGTH, 768])?, noise(&[32, LENGTH, 3072])?];
    let scores = noise(&[32, 12, LENGTH, LENGTH])?;
    let norm = &lab.model.blocks[0].ln1;
    let mask = || ops::Mask { causal: true, ..ops::Mask::default() };
    type Work<'a> = &'a dyn Fn() -> Result<Tensor>;
    let all: [(&str, &Tensor, Work); 5] = [
        ("gelu_tanh [480×3072]", &neurons, &|| Ok(ops::gelu_tanh(&neurons)?)),
        ("silu [480×3072]", &neurons, &|| Ok(ops::silu(&neurons)?)),
        ("norm [480×768]", &stream, &|| norm.apply(&stream)),
        ("sum of two [480×768]", &stream, &|| Ok(ops::add(&stream, &stream)?)),
        ("mask and softmax [32×12×15×15]", &scores, &|| {
            Ok(ops::softmax(&ops::masked(&scores, 0.125, mask())?)?)
        }),
    ];
    for (what, x, work) in all {
        let timed = bench.time(work)?;
        let rate = x.elem_count() as f64 / timed.seconds;
        line(what, timed.seconds, &format!("{:.2} Gnumber/s", rate / 1e9), None);
    }
    Ok(())
}

/// One block, whole prompts, at several widths of the batch.
fn blocks(bench: &Bench, lab: &Lab) -> Result<()> {
    for prompts in [1, 8, 32, 128] {
        let resid = noise(&[prompts, LENGTH, 768])?;
        let tokens = Tensor::zeros((prompts, LENGTH), DType::U32, &Device::Cpu)?;
        let from = Stream { resid, ..lab.model.embed(&tokens, &mut ())? };
        let flops = prompts as f64 * pass(&lab.model.config, 1);
        bench.show(&format!("block 0, {prompts} prompts of {LENGTH}"), flops, || {
            lab.model.run(from.clone(), None, 1, &mut ())
        })?;
    }
    Ok(())
}

/// Operations of one prompt through so many blocks.
fn pass(c: &Config, layers: usize) -> f64 {
    let Costs { queries, keys, each_key, heads, mlp, .. } = Costs::of(c);
    let seen = (LENGTH * (LENGTH + 1) / 2) as u64;
    (layers as u64 * (LENGTH as u64 * (queries + keys + heads + mlp) + seen * each_key)) as f64
}

fn passes(bench: &Bench, lab: &Lab, task: &Task) -> Result<()> {
    let (model, c) = (&lab.model, &lab.model.config);
    let every: Vec<usize> = (0..PROMPTS).collect();
    let tokens = task.tokens(model, &every, Side::Clean)?;
    let unembed = 2.0 * (c.d_model * c.d_vocab_out) as f64;
    let [all, one] = [LENGTH as f64, 1.0].map(|rows| PROMPTS as f64 * (pass(c, c.n_layers) + rows * unembed));
    bench.show("forward, all logits", all, || model.forward(&tokens, &mut ()))?;
    bench.show("forward, recording all but hook_result", all, || {
        model.record(&tokens, |site| !matches!(site, Site::Block(_, At::Result)))
    })?;
    let read = task.ends(&every);
    bench.show("forward, logits where they are read", one, || model.read(&tokens, &read, |_| false))?;
    Ok(())
}

/// Patching by head and by layer and position, base runs included, and how far the sweep alone is from its floor.
fn sweeps(bench: &Bench, lab: &Lab, task: &Task) -> Result<()> {
    let (c, read, end) = (&lab.model.config, LENGTH - 1, LENGTH - 1);
    let heads = |layer| c.n_heads as u64 * cone(c, Enters::Head, layer, [DIFFERS_AT, end], read);
    let stream = |layer| -> u64 {
        // before the first block only what differs in its token changes anything
        let differ = if layer == 0 { DIFFERS_AT..=DIFFERS_AT } else { DIFFERS_AT..=end };
        differ.map(|pos| cone(c, Enters::Stream, layer, [pos, pos], read)).sum()
    };
    let every: Vec<usize> = (0..PROMPTS).collect();
    let base = |side, site| -> Result<Base> {
        let tokens = task.tokens(&lab.model, &every, side)?;
        Base::record(&lab.model, &tokens, |s| matches!(s, Site::Block(_, at) if at == site))
    };
    let works: [(&str, PatchSite, By, At, u64); 2] = [
        ("144 heads", PatchSite::Z, By::Head, At::Z, (0..c.n_layers).map(heads).sum()),
        (
            "180 positions of the stream",
            PatchSite::ResidPre,
            By::Position,
            At::ResidPre,
            (0..c.n_layers).map(stream).sum(),
        ),
    ];
    for (what, site, by, at, each) in works {
        let patch = Patch {
            sites: Some(vec![site]),
            by: vec![by],
            direction: Direction::Denoise,
            ..Patch::default()
        };
        let whole = bench.time(|| patch.run(lab, task))?;
        let bases = bench.time(|| Ok([base(Side::Clean, at)?, base(Side::Corrupt, at)?]))?;
        let (alone, flops) = (whole.seconds - bases.seconds, (PROMPTS as u64 * each) as f64);
        line(&format!("{what}, base runs included"), whole.seconds, "", None);
        line(
            &format!("{what}, without two base runs"),
            alone,
            &format!("{:.0} GFLOP/s", flops / alone / 1e9),
            Some(flops / alone / whole.rate),
        );
    }
    Ok(())
}
