//! Places that cannot matter in a model, and the weights that make them so.

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};
use crate::model::{Block, Linear, Transformer};
use crate::site::{At, Site};

/// Why a change at this place cannot reach the logits of a prompt of `positions` tokens, if it cannot: every way from
/// there leads through a weight that is zero.
pub fn dead(model: &Transformer, site: Site, positions: usize) -> Result<Option<String>> {
    if site != Site::Logits && is_zero(&model.unembed.w)? {
        return Ok(Some("W_U is zero".into()));
    }
    if site < Site::Logits && is_zero(&model.ln_final.gain)? {
        return Ok(Some("the gain of ln_final is zero".into()));
    }
    let Site::Block(layer, at) = site else { return Ok(None) };
    let Some(block) = model.blocks.get(layer) else { return Ok(None) };
    if in_mlp(at) { of_mlp(block, at) } else { of_attention(block, at, positions) }
}

/// Places whose only way on is W_out.
fn in_mlp(at: At) -> bool {
    matches!(at, At::MlpIn | At::Ln2Scale | At::Ln2 | At::MlpPre | At::MlpLinear | At::MlpPost)
}

fn of_mlp(block: &Block, at: At) -> Result<Option<String>> {
    let reads_stream = matches!(at, At::MlpIn | At::Ln2Scale | At::Ln2);
    let mlp = &block.mlp;
    Ok(if is_zero(&mlp.out.w)? {
        Some("W_out is zero".into())
    } else if reads_stream && is_zero(&block.ln2.gain)? {
        Some("the gain of ln2 is zero".into())
    } else if reads_stream && is_zero(&mlp.pre.w)? && is_nothing(mlp.linear.as_ref().map(|l| &l.w))? {
        Some("nothing reads the MLP's input: its weights are zero".into())
    } else {
        None
    })
}

fn of_attention(block: &Block, at: At, positions: usize) -> Result<Option<String>> {
    let a = &block.attention;
    let routes = matches!(at, At::QInput | At::KInput | At::Q | At::K | At::RotQ | At::RotK | At::Scores);
    let reads_stream = matches!(at, At::QInput | At::KInput | At::VInput | At::Ln1Scale | At::Ln1);
    if !(routes || reads_stream || matches!(at, At::V | At::Pattern | At::Z)) {
        return Ok(None);
    }
    let nothing = |linear: &Linear| Ok::<_, Error>(is_zero(&linear.w)? && is_nothing(linear.b.as_ref())?);
    let why = if is_zero(&a.o.w)? {
        "W_O is zero"
    } else if (routes || reads_stream) && is_zero(&block.ln1.gain)? {
        "the gain of ln1 is zero"
    } else if routes && positions < 2 {
        "a prompt of one token has one place to look"
    } else if (routes || reads_stream) && is_zero(&a.v.w)? {
        "W_V is zero: every position has the same value"
    } else if at == At::Pattern && nothing(&a.v)? {
        "W_V and b_V are zero"
    } else if at == At::QInput && is_zero(&a.q.w)? {
        "W_Q is zero"
    } else if at == At::KInput && is_zero(&a.k.w)? {
        "W_K is zero"
    } else if matches!(at, At::QInput | At::Q) && a.rotary.is_none() && is_zero(&a.k.w)? {
        "W_K is zero: every position has the same key"
    } else if matches!(at, At::QInput | At::Q | At::RotQ) && nothing(&a.k)? {
        "W_K and b_K are zero"
    } else if matches!(at, At::KInput | At::K | At::RotK) && nothing(&a.q)? {
        "W_Q and b_Q are zero"
    } else {
        return Ok(None);
    };
    Ok(Some(why.into()))
}

/// Whether a tensor is zero or not there.
fn is_nothing(x: Option<&Tensor>) -> Result<bool> {
    x.map_or(Ok(true), is_zero)
}

/// Whether every number is 0; looks no further than the first that is not.
fn is_zero(x: &Tensor) -> Result<bool> {
    if x.rank() > 1 {
        for i in 0..x.dim(0)? {
            if !is_zero(&x.get(i)?)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    Ok(x.to_dtype(DType::F64)?.to_vec1::<f64>()?.iter().all(|&x| x == 0.0))
}
