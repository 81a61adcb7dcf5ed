//! Prompts that say nothing: random tokens, as a reference where there is no better one.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::lab::Lab;

/// `count` sequences of `length` tokens drawn evenly from the vocabulary without its special tokens, behind `bos` if there
/// is one; the same for the same seed.
pub fn random_prompts(lab: &Lab, bos: Option<u32>, length: usize, count: usize) -> Result<Vec<Vec<u32>>> {
    check_count(count)?;
    if length == 0 {
        return Err(Error::usage(
            "random sequences of no tokens are no reference",
            "give a prompt of 1 or more",
        ));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(lab.seed ^ 0x5E9E_4CE5);
    let ordinary = lab.vocabulary.ordinary(lab.model.config.d_vocab);
    if ordinary.is_empty() {
        return Err(Error::input("the vocabulary has only special tokens", "give `--reference FILE`"));
    }
    let mut one = || -> Vec<u32> {
        let mut tokens: Vec<u32> =
            (0..length).map(|_| ordinary[rng.random_range(0..ordinary.len())]).collect();
        if let (Some(first), Some(bos)) = (tokens.first_mut(), bos) {
            *first = bos;
        }
        tokens
    };
    Ok((0..count).map(|_| one()).collect())
}

/// Refuses a number of random sequences that says nothing or that no run can hold.
pub fn check_count(sequences: usize) -> Result<()> {
    const MOST: usize = 100_000;
    match sequences {
        0 => Err(Error::usage("`sequences` is 0: nothing would be read", "write `sequences = 16`")),
        1..=MOST => Ok(()),
        _ => Err(Error::usage(
            format!("`sequences` is {sequences}: more than a run can hold"),
            format!("ask for {MOST} at most"),
        )),
    }
}
