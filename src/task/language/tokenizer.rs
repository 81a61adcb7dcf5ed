//! The language's `tokenizer.json`: whole words, split at spaces and punctuation, [`super::BOS`] put before a text.

use serde_json::{Map, Value, json};

use super::{BOS, Language};

impl Language {
    /// The tokenizer file in Hugging Face's format. A word that is not in the vocabulary is an error: there is no
    /// unknown token.
    pub fn tokenizer_json(&self) -> Value {
        let vocabulary: Map<String, Value> =
            self.vocabulary.iter().enumerate().map(|(id, word)| (word.clone(), json!(id))).collect();
        let bos = json!({"SpecialToken": {"id": BOS, "type_id": 0}});
        let text = |id: &str, type_id: u32| json!({"Sequence": {"id": id, "type_id": type_id}});
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [{
                "id": 0, "content": BOS, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true
            }],
            "normalizer": null,
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [bos, text("A", 0)],
                "pair": [bos, text("A", 0), text("B", 1)],
                "special_tokens": {BOS: {"id": BOS, "ids": [0], "tokens": [BOS]}}
            },
            "decoder": null,
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
        })
    }
}
