//! Rotary positions as configs write them: `rope_theta` and `rope_scaling` in older ones, both in `rope_parameters` in
//! newer ones.

use serde_json::Value;

use crate::checkpoint::{Keys, POSITIVE};
use crate::error::{Error, Result};
use crate::model::{Config, Pairs, Rotary, RotaryScaling};

/// What holds where a config does not say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    /// θ.
    pub(super) base: f64,
    /// The share of each head that is rotated.
    pub(super) part: f64,
    /// Whether the family can rotate a part of each head at all.
    pub(super) partly: bool,
}

/// The usual ones: θ = 10,000, whole heads and nothing else.
pub(super) const USUAL: Defaults = Defaults { base: 10_000.0, part: 1.0, partly: false };

/// The rotation of heads of this width. `n_ctx` is `max_position_embeddings`.
pub(super) fn rotary(keys: &mut Keys, d_head: usize, n_ctx: usize, defaults: Defaults) -> Result<Rotary> {
    let outer = Outer {
        base: keys.positive_opt("rope_theta")?,
        part: keys.positive_opt("partial_rotary_factor")?,
        original: keys.positive_opt("original_max_position_embeddings")?,
        n_ctx: n_ctx as f64,
    };
    let mut found: Option<Rotary> = None;
    for name in ["rope_scaling", "rope_parameters"] {
        let Some(mut rope) = keys.object_opt(name)? else { continue };
        let rotary = read(&mut rope, d_head, &outer, defaults)?;
        if found.get_or_insert_with(|| rotary.clone()) != &rotary {
            return Err(keys.unsupported(name, &Value::from("another rotation"), "what `rope_scaling` says"));
        }
    }
    match found {
        Some(rotary) => Ok(rotary),
        None => read(&mut Keys::new("rope", serde_json::Map::new()), d_head, &outer, defaults),
    }
}

/// The longest prompt: where a stretched rotation reaches beyond `max_position_embeddings`, what it reaches.
fn reach(rotary: &Rotary, n_ctx: usize) -> usize {
    match rotary.scaling {
        RotaryScaling::Linear { factor } | RotaryScaling::Dynamic { factor, .. } => {
            (n_ctx as f64 * factor) as usize
        }
        RotaryScaling::Yarn { factor, original, .. } => n_ctx.max((original * factor) as usize),
        _ => n_ctx,
    }
}

/// The longest prompt of a model: what the rotations of all its layers reach.
pub(super) fn longest(c: &Config) -> usize {
    let rotated = c.layers.iter().filter_map(|layer| layer.rotary.as_ref());
    rotated.map(|rotary| reach(rotary, c.n_ctx)).min().unwrap_or(c.n_ctx)
}

/// What a config says about rotation outside of the object that is about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outer {
    pub(super) base: Option<f64>,
    pub(super) part: Option<f64>,
    pub(super) original: Option<f64>,
    pub(super) n_ctx: f64,
}

/// More entries of a head than any model rotates: tables are made of them before any tensor bounds them.
const MOST: usize = 1 << 16;

/// One object of rotary parameters.
pub(super) fn read(rope: &mut Keys, d_head: usize, outer: &Outer, defaults: Defaults) -> Result<Rotary> {
    if let Some(known) = outer.base {
        rope.only("rope_theta", known)?;
    }
    if let Some(known) = outer.part {
        rope.only("partial_rotary_factor", known)?;
    }
    let base = outer.base.or(rope.positive_opt("rope_theta")?).unwrap_or(defaults.base);
    let part = outer.part.or(rope.positive_opt("partial_rotary_factor")?).unwrap_or(defaults.part);
    let dims = (d_head as f64 * part) as usize;
    let right = dims > 0 && dims <= d_head.min(MOST) && dims.is_multiple_of(2);
    if !right || !defaults.partly && part != 1.0 {
        let value = Value::from(part);
        let hint = match defaults.partly {
            true => format!("shares of {d_head} that are an even number of entries, up to {MOST}"),
            false => format!("1, and heads of an even width up to {MOST}"),
        };
        return Err(rope.unsupported("partial_rotary_factor", &value, &hint));
    }
    let scaling = scaling(rope, base, dims, outer)?;
    rope.finish()?;
    let rotary = Rotary { base, dims, pairs: Pairs::Halves, scaling };
    let (one, many) = (rotary.frequencies(1), rotary.frequencies(reach(&rotary, outer.n_ctx as usize)));
    if one.into_iter().chain(many).all(f64::is_finite) {
        return Ok(rotary);
    }
    Err(rope.unsupported("rope_theta", &Value::from(base), "numbers of which finite angles come"))
}

fn scaling(rope: &mut Keys, base: f64, dims: usize, outer: &Outer) -> Result<RotaryScaling> {
    let old = rope.word_opt("type")?;
    let kind = rope.word_opt("rope_type")?.or(old).unwrap_or_else(|| "default".into());
    if let Some(known) = outer.original {
        rope.only("original_max_position_embeddings", known)?;
    }
    let inner = rope.positive_opt("original_max_position_embeddings")?;
    let original = outer.original.or(inner).unwrap_or(outer.n_ctx);
    Ok(match kind.as_str() {
        "default" => RotaryScaling::None,
        "linear" => RotaryScaling::Linear { factor: rope.positive("factor")? },
        "dynamic" => RotaryScaling::Dynamic { factor: rope.positive("factor")?, original: outer.n_ctx },
        "llama3" => RotaryScaling::Llama3 {
            factor: rope.positive("factor")?,
            low_freq_factor: rope.positive("low_freq_factor")?,
            high_freq_factor: rope.positive("high_freq_factor")?,
            original,
        },
        "yarn" => yarn(rope, base, dims, original)?,
        "longrope" | "su" => {
            let factor = rope.positive_opt("factor")?.unwrap_or(outer.n_ctx / original);
            if original <= 1.0 {
                let value = Value::from(original);
                return Err(rope.unsupported("original_max_position_embeddings", &value, "more than 1"));
            }
            let usual = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() };
            let mut divisors = |name: &str| {
                let list = rope.numbers(name)?;
                if list.len() == dims / 2 && list.iter().all(|x| POSITIVE.contains(x)) {
                    return Ok(list);
                }
                let hint = format!("{} numbers above 0, one for each rotated pair", dims / 2);
                Err(rope.unsupported(name, &Value::from(list), &hint))
            };
            let (short, long) = (divisors("short_factor")?, divisors("long_factor")?);
            let magnitude = rope.positive_opt("attention_factor")?.unwrap_or(usual);
            RotaryScaling::Long { short: short.into(), long: long.into(), original, magnitude }
        }
        _ => {
            let known = "default, linear, dynamic, llama3, yarn, longrope";
            return Err(rope.unsupported("rope_type", &Value::String(kind), known));
        }
    })
}

/// The ramp runs between the frequencies that turn `beta_fast` and `beta_slow` times in the original context.
fn yarn(rope: &mut Keys, base: f64, dims: usize, original: f64) -> Result<RotaryScaling> {
    let factor = rope.positive("factor")?;
    let longer = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
    let given = rope.positive_opt("attention_factor")?;
    rope.ignore(&["finetuned"]); // how it was trained
    // 0 is as good as absent
    let mut some = |name: &str| Ok::<_, Error>(rope.number_opt(name)?.filter(|&number| number != 0.0));
    let magnitude = match (given, some("mscale")?, some("mscale_all_dim")?) {
        (Some(given), ..) => given,
        (None, Some(some), Some(all)) => longer(some) / longer(all),
        _ => longer(1.0),
    };
    let turning =
        |turns: f64| dims as f64 * (original / (turns * std::f64::consts::TAU)).ln() / (2.0 * base.ln());
    if base == 1.0 {
        return Err(rope.unsupported(
            "rope_theta",
            &Value::from(base),
            "other bases than 1, of which all turn alike",
        ));
    }
    let low = turning(rope.positive_opt("beta_fast")?.unwrap_or(32.0));
    let high = turning(rope.positive_opt("beta_slow")?.unwrap_or(1.0));
    let (low, high) = if rope.flag_or("truncate", true)? { (low.floor(), high.ceil()) } else { (low, high) };
    let (low, high) = (low.max(0.0), high.min(dims as f64 - 1.0));
    let high = if low == high { high + 0.001 } else { high };
    Ok(RotaryScaling::Yarn { factor, low, high, original, magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Published settings, and what transformers 5.24 makes of them:
    ///
    /// ```python
    /// config = LlamaConfig(hidden_size=d_head, num_attention_heads=1, head_dim=d_head, max_position_embeddings=n_ctx,
    ///                      rope_parameters=rope)
    /// frequencies, magnitude = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, "cpu", seq_len=length)
    /// print(magnitude, [float("%.8g" % frequencies[i]) for i in at])
    /// ```
    #[test]
    fn frequencies_of_published_models_are_those_of_transformers() {
        let llama = json!({"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                           "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
        let gpt_oss = json!({"rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "beta_fast": 32.0,
                             "beta_slow": 1.0, "truncate": false, "original_max_position_embeddings": 4096});
        let qwen = json!({"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 4.0,
                          "original_max_position_embeddings": 32768});
        let deepseek = json!({"rope_type": "yarn", "rope_theta": 10000.0, "factor": 40.0, "beta_fast": 32.0,
                              "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 0.707,
                              "original_max_position_embeddings": 4096});
        let dynamic = json!({"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0});
        let series = |step: f64| (0..48).map(|i| 1.0 + step * f64::from(i)).collect::<Vec<f64>>();
        let phi = json!({"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": series(0.05),
                         "long_factor": series(1.25), "original_max_position_embeddings": 4096});
        /// A name, the parameters, [n_ctx, d_head, length], the magnitude, and some of the frequencies.
        type Case<'a> = (&'a str, &'a Value, [usize; 3], f64, [(usize, f64); 6]);
        let cases: &[Case] = &[
            (
                "Llama-3.1-8B",
                &llama,
                [131_072, 128, 1],
                1.0,
                [
                    (0, 1.0),
                    (16, 0.037606031),
                    (32, 0.00052484602),
                    (42, 2.2748929e-05),
                    (48, 6.6478697e-06),
                    (63, 3.0689259e-07),
                ],
            ),
            (
                "gpt-oss-20b",
                &gpt_oss,
                [131_072, 64, 1],
                1.3465735902799727,
                [
                    (0, 1.0),
                    (8, 0.050813273),
                    (10, 0.019335),
                    (16, 0.00045648392),
                    (21, 1.253257e-05),
                    (31, 3.0235114e-07),
                ],
            ),
            (
                "Qwen2.5 with YaRN",
                &qwen,
                [32_768, 128, 1],
                1.138629436111989,
                [
                    (0, 1.0),
                    (16, 0.031622779),
                    (32, 0.00060294115),
                    (42, 2.8869548e-05),
                    (48, 7.9056936e-06),
                    (63, 3.1023444e-07),
                ],
            ),
            (
                "two scales",
                &deepseek,
                [163_840, 64, 1],
                1.0857263992561355,
                [
                    (0, 1.0),
                    (8, 0.1),
                    (10, 0.056234129),
                    (16, 0.0055000004),
                    (21, 0.00041499041),
                    (31, 3.3338035e-06),
                ],
            ),
            (
                "within the original context",
                &dynamic,
                [2048, 64, 2048],
                1.0,
                [
                    (0, 1.0),
                    (8, 0.1),
                    (10, 0.056234129),
                    (16, 0.0099999998),
                    (21, 0.0023713738),
                    (31, 0.00013335215),
                ],
            ),
            (
                "one token beyond it",
                &dynamic,
                [2048, 64, 2049],
                1.0,
                [
                    (0, 1.0),
                    (8, 0.099974811),
                    (10, 0.056216426),
                    (16, 0.0099949632),
                    (21, 0.0023698062),
                    (31, 0.00013322204),
                ],
            ),
            (
                "four times as long",
                &dynamic,
                [2048, 64, 8192],
                1.0,
                [
                    (0, 1.0),
                    (8, 0.060521569),
                    (10, 0.030018415),
                    (16, 0.0036628603),
                    (21, 0.00063462072),
                    (31, 1.9050307e-05),
                ],
            ),
            (
                "as Phi-3-mini-128k",
                &phi,
                [131_072, 96, 4096],
                1.1902380714238083,
                [
                    (0, 1.0),
                    (12, 0.0625),
                    (16, 0.025786603),
                    (24, 0.0045454544),
                    (36, 0.00035714285),
                    (47, 3.6165002e-05),
                ],
            ),
            (
                "as Phi-3-mini-128k, long",
                &phi,
                [131_072, 96, 4097],
                1.1902380714238083,
                [
                    (0, 1.0),
                    (12, 0.0062500001),
                    (16, 0.0022102802),
                    (24, 0.00032258066),
                    (36, 2.173913e-05),
                    (47, 2.0276611e-06),
                ],
            ),
        ];
        for (name, rope, [n_ctx, d_head, length], magnitude, expected) in cases {
            let map = serde_json::Map::from_iter([("rope_parameters".to_owned(), (*rope).clone())]);
            let rotary = rotary(&mut Keys::new("config.json", map), *d_head, *n_ctx, USUAL).unwrap();
            let frequencies = rotary.frequencies(*length);
            assert_eq!(frequencies.len(), d_head / 2);
            for &(i, expected) in expected {
                // theirs are float32
                assert!(
                    (frequencies[i] / expected - 1.0).abs() < 1e-6,
                    "{name}, {i}: {} {expected}",
                    frequencies[i]
                );
            }
            let ours = match rotary.scaling {
                RotaryScaling::Yarn { magnitude, .. } | RotaryScaling::Long { magnitude, .. } => magnitude,
                _ => 1.0,
            };
            assert!((ours - magnitude).abs() < 1e-12, "{name}: {ours} {magnitude}");
        }
    }

    #[test]
    fn rotations_without_finite_angles_are_refused() {
        let factors = json!([1.0, 1.0]);
        for rope in [
            json!({"rope_type": "yarn", "rope_theta": 1.0, "factor": 2.0}),
            json!({"rope_type": "linear", "factor": 1e-300}),
            json!({"rope_type": "linear", "factor": 0}),
            json!({"rope_type": "linear", "factor": 1e300}),
            json!({"rope_type": "default", "rope_theta": 1e-300}),
            json!({"rope_type": "longrope", "short_factor": factors, "long_factor": factors,
                   "original_max_position_embeddings": 1}),
            json!({"rope_type": "longrope", "short_factor": factors, "long_factor": [1.0, 1e-300]}),
            json!({"rope_type": "yarn", "factor": 2.0, "partial_rotary_factor": 1e-9}),
        ] {
            let map = serde_json::Map::from_iter([("rope_scaling".to_owned(), rope.clone())]);
            let refusal = rotary(&mut Keys::new("config.json", map), 4, 16, USUAL);
            assert!(refusal.is_err(), "{rope}: {refusal:?}");
        }
    }
}
