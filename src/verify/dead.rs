//! Places that cannot matter in a model, and the weights that make them so.

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};
use crate::model::{Block, Linear, Norm, Transformer};
use crate::site::{At, Site};

/// Why a change at this place cannot reach the logits of a prompt of `positions` tokens, if it cannot: every way from
/// there leads through a weight that is zero.
pub fn dead(model: &Transformer, site: Site, positions: usize) -> Result<Option<String>> {
    if site != Site::Logits && is_zero(&model.unembed.w)? {
        return Ok(Some("W_U is zero".into()));
    }
    if site < Site::Logits && is_no_gain(&model.ln_final)? {
        return Ok(Some("the gain of ln_final is zero".into()));
    }
    let Site::Block(layer, at) = site else { return Ok(None) };
    let Some(block) = model.blocks.get(layer) else { return Ok(None) };
    if in_mlp(at) { of_mlp(block, at) } else { of_attention(block, at, positions) }
}

/// Places whose only way on is W_out.
fn in_mlp(at: At) -> bool {
    (At::MlpIn..=At::MlpPost).contains(&at) || matches!(at, At::Ln2PostScale | At::Ln2Post)
}

fn of_mlp(block: &Block, at: At) -> Result<Option<String>> {
    let behind = matches!(at, At::Ln2PostScale | At::Ln2Post);
    let reads_stream = matches!(at, At::MlpIn | At::Ln2Scale | At::Ln2);
    if is_no_gain(&block.ln2_post)? {
        return Ok(Some("the gain of ln2_post is zero".into()));
    }
    if behind {
        return Ok(None);
    }
    let mut mlp = block.mlp.clone();
    let silent = mlp.writers().into_iter().map(|out| is_zero(&out.w)).collect::<Result<Vec<_>>>()?;
    if silent.iter().all(|&silent| silent) {
        return Ok(Some("W_out is zero".into()));
    }
    if let Some(norm) = block.mlp.dense().and_then(|dense| dense.norm.as_ref())
        && at < At::MlpPost
        && is_zero(&norm.gain)?
    {
        return Ok(Some("the gain of the norm over neurons is zero".into()));
    }
    if reads_stream && is_no_gain(&block.ln2)? {
        return Ok(Some("the gain of ln2 is zero".into()));
    }
    let deaf = mlp.readers().into_iter().map(|reader| is_zero(&reader.w)).collect::<Result<Vec<_>>>()?;
    if reads_stream && deaf.iter().all(|&deaf| deaf) {
        return Ok(Some("nothing reads the MLP's input: its weights are zero".into()));
    }
    Ok(None)
}

fn of_attention(block: &Block, at: At, positions: usize) -> Result<Option<String>> {
    let a = &block.attention;
    let queries = matches!(at, At::QInput | At::Q | At::QNormed | At::RotQ);
    let keys = matches!(at, At::KInput | At::K | At::KNormed | At::RotK);
    let routes = queries || keys || at == At::Scores;
    let reads_stream = matches!(at, At::QInput | At::KInput | At::VInput | At::Ln1Scale | At::Ln1);
    let behind = matches!(at, At::Result | At::Ln1PostScale | At::Ln1Post);
    if !(routes || reads_stream || behind || matches!(at, At::V | At::Pattern | At::Z)) {
        return Ok(None);
    }
    if is_no_gain(&block.ln1_post)? {
        return Ok(Some("the gain of ln1_post is zero".into()));
    }
    if behind {
        return Ok(None);
    }
    let nothing = |linear: &Linear| Ok::<_, Error>(is_zero(&linear.w)? && is_nothing(linear.b.as_ref())?);
    // with a sink, how much is attended to at all matters, even where every value is the same
    let whole = a.sinks.is_none();
    let why = if is_zero(&a.o.w)? {
        "W_O is zero"
    } else if (routes && whole || reads_stream) && is_no_gain(&block.ln1)? {
        "the gain of ln1 is zero"
    } else if routes && whole && (positions < 2 || a.window == Some(1)) {
        "a query that sees one key has one place to look"
    } else if (routes || reads_stream) && is_zero(&a.v.w)? && (whole || nothing(&a.v)?) {
        "W_V is zero: every position has the same value"
    } else if at == At::Pattern && nothing(&a.v)? {
        "W_V and b_V are zero"
    } else if at == At::QInput && is_zero(&a.q.w)? {
        "W_Q is zero"
    } else if at == At::KInput && is_zero(&a.k.w)? {
        "W_K is zero"
    } else if queries && at != At::RotQ && whole && a.rotary.is_none() && is_zero(&a.k.w)? {
        "W_K is zero: every position has the same key"
    } else if queries && nothing(&a.k)? {
        "W_K and b_K are zero"
    } else if keys && nothing(&a.q)? {
        "W_Q and b_Q are zero"
    } else {
        return Ok(None);
    };
    Ok(Some(why.into()))
}

/// Whether there is a norm that lets nothing through.
fn is_no_gain(norm: &Norm) -> Result<bool> {
    Ok(norm.is_some() && is_zero(&norm.gain)?)
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
