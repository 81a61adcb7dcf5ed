//! Rotary positions as configs write them: `rope_theta` and `rope_scaling` in older ones, both in `rope_parameters` in
//! newer ones.

use serde_json::Value;

use crate::checkpoint::{Keys, POSITIVE};
use crate::error::Result;
use crate::model::Pairs;
use crate::model::{Rotary, RotaryScaling};

/// What holds where a config does not say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    /// θ.
    pub(super) base: f64,
    /// The share of each head that is rotated.
    pub(super) part: f64,
}

/// The usual ones: θ = 10,000, whole heads.
pub(super) const USUAL: Defaults = Defaults { base: 10_000.0, part: 1.0 };

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
pub(super) fn reach(rotary: &Rotary, n_ctx: usize) -> usize {
    match rotary.scaling {
        RotaryScaling::Linear { factor } | RotaryScaling::Dynamic { factor, .. } => {
            (n_ctx as f64 * factor) as usize
        }
        _ => n_ctx,
    }
}

/// What a config says about rotation outside of the object that is about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outer {
    pub(super) base: Option<f64>,
    pub(super) part: Option<f64>,
    pub(super) original: Option<f64>,
    pub(super) n_ctx: f64,
}

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
    if dims == 0 || dims > d_head || !dims.is_multiple_of(2) {
        let value = Value::from(part);
        let hint = format!("shares of {d_head} that are an even number of entries");
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
    // the config's own word on the original context comes first
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
        "yarn" => yarn(rope, base, dims, original, outer)?,
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
fn yarn(rope: &mut Keys, base: f64, dims: usize, original: f64, outer: &Outer) -> Result<RotaryScaling> {
    let factor = rope.positive_opt("factor")?.unwrap_or(outer.n_ctx / original);
    let longer = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
    let given = rope.positive_opt("attention_factor")?;
    let magnitude = match (given, rope.positive_opt("mscale")?, rope.positive_opt("mscale_all_dim")?) {
        (Some(given), ..) => given,
        (None, Some(some), Some(all)) => longer(some) / longer(all),
        _ => longer(1.0),
    };
    let turning =
        |turns: f64| dims as f64 * (original / (turns * std::f64::consts::TAU)).ln() / (2.0 * base.ln());
    if base == 1.0 {
        return Err(rope.unsupported("rope_theta", &Value::from(base), "other bases than 1, of which all turn alike"));
    }
    let low = turning(rope.positive_opt("beta_fast")?.unwrap_or(32.0));
    let high = turning(rope.positive_opt("beta_slow")?.unwrap_or(1.0));
    let (low, high) = if rope.flag_or("truncate", true)? { (low.floor(), high.ceil()) } else { (low, high) };
    let (low, high) = (low.max(0.0), high.min(dims as f64 - 1.0));
    let high = if low == high { high + 0.001 } else { high };
    Ok(RotaryScaling::Yarn { factor, low, high, magnitude })
}
