//! What was said, as tables.

use super::Spoken;
use crate::row::Rows;
use crate::vocabulary::Vocabulary;

crate::row! {
    /// One new token.
    pub struct TokenRow {
        /// The example.
        pub example: String,
        /// `edited`, or `unedited` for the model as it is.
        pub run: String,
        /// Which of several continuations of one prompt.
        pub sample: usize,
        /// Its position in the text, counted from the first token, BOS included.
        pub pos: usize,
        /// The token.
        pub token: String,
        /// Its id.
        pub id: u32,
        /// Its probability under the model.
        pub prob: f64,
        /// Its log-probability (nats).
        pub log_prob: f64,
        /// Entropy of the distribution it was chosen from (nats).
        pub entropy: f64,
        /// The probability that the decision rule picks it.
        pub picked: f64,
        /// Expected utility p·gain − (1 − p)·cost, if gains were given.
        pub expected_gain: Option<f64>,
    }
}

crate::row! {
    /// One continuation.
    pub struct TextRow {
        /// The example.
        pub example: String,
        /// `edited`, or `unedited` for the model as it is.
        pub run: String,
        /// Which of several continuations of one prompt.
        pub sample: usize,
        /// The prompt.
        pub prompt: String,
        /// What was said after it.
        pub text: String,
        /// How many tokens that is.
        pub tokens: usize,
        /// Their log-probability together (nats).
        pub log_prob: f64,
        /// Why it ends: `max-tokens`, `stop`, or `context` when the model can read no more.
        pub stopped: String,
    }
}

/// A continuation with what tells it apart from the others.
#[derive(Debug, Clone)]
pub struct Said {
    /// The example.
    pub example: String,
    /// Whether edits were made.
    pub edited: bool,
    /// Which of several continuations.
    pub sample: usize,
    /// The prompt's tokens.
    pub prompt: Vec<u32>,
    /// What came after.
    pub spoken: Spoken,
}

/// The tables `tokens` and `texts`.
pub fn tables(said: &[Said], vocabulary: &Vocabulary) -> [Rows; 2] {
    let run = |said: &Said| if said.edited { "edited" } else { "unedited" }.to_owned();
    let tokens: Vec<TokenRow> = said
        .iter()
        .flat_map(|said| said.spoken.chosen.iter().map(move |chosen| (said, chosen)))
        .map(|(said, chosen)| TokenRow {
            example: said.example.clone(),
            run: run(said),
            sample: said.sample,
            pos: chosen.pos,
            token: vocabulary.token(chosen.id),
            id: chosen.id,
            prob: chosen.prob,
            log_prob: chosen.log_prob,
            entropy: chosen.entropy,
            picked: chosen.picked,
            expected_gain: chosen.expected_gain,
        })
        .collect();
    let text = |said: &Said| {
        let ids: Vec<u32> = said.spoken.chosen.iter().map(|chosen| chosen.id).collect();
        TextRow {
            example: said.example.clone(),
            run: run(said),
            sample: said.sample,
            prompt: vocabulary.text(&said.prompt),
            text: vocabulary.continuation(&said.prompt, &ids),
            tokens: ids.len(),
            log_prob: said.spoken.chosen.iter().map(|chosen| chosen.log_prob).sum(),
            stopped: said.spoken.stopped.name().to_owned(),
        }
    };
    [Rows::of("tokens", &tokens), Rows::of("texts", &said.iter().map(text).collect::<Vec<_>>())]
}
