//! Prompts of every length and batches of every size, over every tiny checkpoint.

use candle_core::{DType, Tensor};
use glassbox::model::Transformer;

use crate::parity::difference;
use crate::tiny::{checkpoint, open};

/// Largest difference allowed between two ways to the same number, relative to max(1, largest value at the site).
const TOLERANCE: f64 = 1e-5;

/// Length of the prompt that longer ones and batches are compared with.
const SHORT: usize = 9;

/// Every tiny checkpoint, by name.
fn models() -> impl Iterator<Item = (String, Transformer)> {
    let folders = std::fs::read_dir(checkpoint("")).unwrap();
    let mut names: Vec<String> =
        folders.map(|folder| folder.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names.into_iter().map(|name| {
        let model = open(&checkpoint(&name), DType::F32).unwrap();
        (name, model)
    })
}

/// A prompt of this many tokens, the same start for every length.
fn prompt(model: &Transformer, length: usize) -> Vec<u32> {
    (0..length as u32).map(|i| (7 * i * i + 3 * i + 5) % model.config.d_vocab as u32).collect()
}

fn logits(model: &Transformer, prompt: &[u32]) -> glassbox::Result<Tensor> {
    model.forward(&model.tokens(&[prompt])?, &mut ())
}

fn check(what: &str, ours: &Tensor, reference: &Tensor) {
    let (off, size) = difference(ours, reference);
    assert!(off <= TOLERANCE * size.max(1.), "{what}: {off} of {size}");
}

#[test]
fn a_prompt_of_one_token_is_read_as_the_first_of_a_longer_one_is() {
    for (name, model) in models() {
        let one = logits(&model, &prompt(&model, 1)).unwrap();
        assert_eq!(one.dims(), [1, 1, model.config.d_vocab_out], "{name}");
        if model.config.causal {
            let longer = logits(&model, &prompt(&model, 2)).unwrap();
            check(&name, &one, &longer.narrow(1, 0, 1).unwrap());
        } else {
            check(&name, &one, &one);
        }
    }
}

#[test]
fn rows_of_a_batch_of_equal_prompts_agree_with_the_prompt_alone_at_every_site() {
    for (name, model) in models() {
        let row = prompt(&model, SHORT);
        let record = |rows: usize| {
            let batch = model.tokens(&vec![row.as_slice(); rows]).unwrap();
            model.record(&batch, |_| true).unwrap().1
        };
        let alone = record(1);
        assert!(model.sites().iter().all(|&site| alone.get(site).is_ok()), "{name}: every site fires");
        for rows in [1, 5] {
            for (site, x) in record(rows).0 {
                assert_eq!(x.dims(), model.shape(site, rows, SHORT), "{name}, {site}");
                let reference = alone.get(site).unwrap();
                for row in 0..rows {
                    let own = x.narrow(0, row, 1).unwrap();
                    check(&format!("{name}, {site}, row {row} of {rows}"), &own, reference);
                }
            }
        }
    }
}

#[test]
fn prompts_as_long_as_the_context_begin_as_short_ones_do_and_longer_ones_are_refused() {
    for (name, model) in models() {
        let c = &model.config;
        let longest = c.n_ctx.min(64);
        let long = logits(&model, &prompt(&model, longest)).unwrap();
        assert_eq!(long.dims(), [1, longest, c.d_vocab_out], "{name}");
        check(&name, &long, &long); // no NaN
        let by_length = |rotary: &glassbox::model::Rotary| rotary.scaling.by_length();
        let steady =
            c.layers.iter().filter_map(|layer| layer.rotary.as_ref()).all(|rotary| !by_length(rotary));
        if c.causal && steady {
            let short = logits(&model, &prompt(&model, SHORT)).unwrap();
            check(&name, &long.narrow(1, 0, SHORT).unwrap(), &short);
        }
        let error = logits(&model, &prompt(&model, c.n_ctx + 1)).unwrap_err().to_string();
        let said = format!("the prompt has {} tokens, but the model's context is {}", c.n_ctx + 1, c.n_ctx);
        assert!(error.starts_with(&said), "{name}: {error}");
    }
}
