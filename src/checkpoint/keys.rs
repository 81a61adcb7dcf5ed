//! `config.json`, read strictly: a key that nobody asked for is an error, for it may change the numbers.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The keys of an object, and which of them were used. A key whose value is `null` counts as absent.
#[derive(Debug)]
pub struct Keys {
    place: String,
    map: Map<String, Value>,
    used: BTreeSet<String>,
}

/// Keys of every Hugging Face config that cannot change a logit: bookkeeping, dropout (off outside training), how text is
/// generated, heads of other tasks, and ways of computing the same sum.
const HARMLESS: &[&str] = &[
    // bookkeeping
    "_attn_implementation_autoset",
    "_name_or_path",
    "_num_labels",
    "architectures",
    "auto_map",
    "dtype",
    "finetuning_task",
    "model_type",
    "name_or_path",
    "task_specific_params",
    "tf_legacy_loss",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    // training
    "activation_dropout",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "classifier_dropout",
    "dropout",
    "embd_pdrop",
    "embed_dropout",
    "embedding_dropout",
    "gradient_checkpointing",
    "hidden_dropout",
    "hidden_dropout_prob",
    "init_std",
    "initializer_range",
    "layerdrop",
    "output_router_logits",
    "resid_dropout",
    "resid_pdrop",
    "residual_dropout",
    "router_aux_loss_coef",
    "router_jitter_noise",
    // ways of computing the same numbers
    "_attn_implementation",
    "attention_softmax_in_fp32",
    "attn_implementation",
    "cache_implementation",
    "chunk_size_feed_forward",
    "pretraining_tp",
    "use_cache",
    // what a pass returns
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "return_dict",
    "return_dict_in_generate",
    // special tokens and generation
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "cls_token_id",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "is_decoder",
    "length_penalty",
    "mask_token_id",
    "max_length",
    "max_new_tokens",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "pad_token_id",
    "prefix",
    "remove_invalid_values",
    "repetition_penalty",
    "sep_token_id",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "unk_token_id",
    // heads of other tasks, whose tensors would be left over
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
];

/// Numbers above 0 as configs have them. Beyond these, squares and quotients leave the range of f32, and logits are NaN.
pub const POSITIVE: RangeInclusive<f64> = 1e-15..=1e15;

impl Keys {
    /// A reader of an object; `place` is where it stands, for error messages.
    pub fn new(place: impl Into<String>, map: Map<String, Value>) -> Keys {
        Keys { place: place.into(), map, used: BTreeSet::new() }
    }

    /// A count of at least 1.
    pub fn size(&mut self, name: &str) -> Result<usize> {
        let size = self.size_opt(name)?;
        size.ok_or_else(|| self.absent(name))
    }

    /// A count of at least 1, if the key is there.
    pub fn size_opt(&mut self, name: &str) -> Result<Option<usize>> {
        /// So that the product of two sizes is still a number.
        const MOST: u64 = 1 << 31;
        self.whole(name, MOST)
    }

    /// A count of layers, heads or experts: one that lists are made of before any tensor bounds it.
    pub fn few(&mut self, name: &str) -> Result<usize> {
        let count = self.few_opt(name)?;
        count.ok_or_else(|| self.absent(name))
    }

    /// A count of layers, heads or experts, if the key is there.
    pub fn few_opt(&mut self, name: &str) -> Result<Option<usize>> {
        /// More than any model has, and no burden.
        const MOST: u64 = 1 << 16;
        self.whole(name, MOST)
    }

    fn whole(&mut self, name: &str, most: u64) -> Result<Option<usize>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_u64() {
            Some(size) if (1..=most).contains(&size) => Ok(Some(size as usize)),
            _ => Err(self.wrong(name, &value, &format!("a whole number from 1 to {most}"))),
        }
    }

    /// A count of at least 1: the default if the key is absent, nothing if it is `null`.
    pub fn size_or_null(&mut self, name: &str, default: usize) -> Result<Option<usize>> {
        if self.has(name) { self.size_opt(name) } else { Ok(Some(default)) }
    }

    /// A count that may be 0, or the default.
    pub fn count_or(&mut self, name: &str, default: usize) -> Result<usize> {
        match self.get(name) {
            Some(value) if value.as_u64() == Some(0) => Ok(0),
            _ => Ok(self.size_opt(name)?.unwrap_or(default)),
        }
    }

    /// A number above 0: the default if the key is absent, nothing if it is `null`.
    pub fn positive_or_null(&mut self, name: &str, default: f64) -> Result<Option<f64>> {
        if self.has(name) { self.positive_opt(name) } else { Ok(Some(default)) }
    }

    /// A number above 0, or the default.
    pub fn positive_or(&mut self, name: &str, default: f64) -> Result<f64> {
        Ok(self.positive_opt(name)?.unwrap_or(default))
    }

    /// A number above 0.
    pub fn positive(&mut self, name: &str) -> Result<f64> {
        let number = self.positive_opt(name)?;
        number.ok_or_else(|| self.absent(name))
    }

    /// A number above 0, if the key is there.
    pub fn positive_opt(&mut self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if POSITIVE.contains(&number) => Ok(Some(number)),
            Some(number) if number > 0.0 => Err(self.wrong(name, &value, "a number from 1e-15 to 1e15")),
            _ => Err(self.wrong(name, &value, "a number above 0")),
        }
    }

    /// `true` or `false`, or the default.
    pub fn flag_or(&mut self, name: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.wrong(name, &value, "true or false"))
    }

    /// A number of any sign, if the key is there.
    pub fn number_opt(&mut self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(self.wrong(name, &value, "a number")),
        }
    }

    /// Whether the key is there and not `null`.
    pub fn given(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    /// Whether the key is there, whatever its value.
    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// A word: the default if the key is absent, nothing if it is `null`.
    pub fn word_or_null(&mut self, name: &str, default: &str) -> Result<Option<String>> {
        if self.has(name) { self.word_opt(name) } else { Ok(Some(default.to_owned())) }
    }

    /// A word, if the key is there.
    pub fn word_opt(&mut self, name: &str) -> Result<Option<String>> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value {
            Value::String(word) => Ok(Some(word)),
            _ => Err(self.wrong(name, &value, "a word in quotation marks")),
        }
    }

    /// A list of numbers.
    pub fn numbers(&mut self, name: &str) -> Result<Vec<f64>> {
        let value = self.get(name).ok_or_else(|| self.absent(name))?;
        let numbers: Option<Vec<f64>> =
            value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
        numbers.ok_or_else(|| self.wrong(name, &value, "a list of numbers"))
    }

    /// A list, if the key is there.
    pub fn list_opt(&mut self, name: &str) -> Result<Option<Vec<Value>>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(value) => Err(self.wrong(name, &value, "a list")),
        }
    }

    /// An object within, with a reader of its own, if the key is there.
    pub fn object_opt(&mut self, name: &str) -> Result<Option<Keys>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Keys::new(format!("{}: {name}", self.place), map))),
            Some(value) => Err(self.wrong(name, &value, "an object in braces")),
        }
    }

    /// A key of which only one value is supported: absent or that value, or an error.
    pub fn only(&mut self, name: &str, supported: impl Into<Value>) -> Result<()> {
        let supported = supported.into();
        match self.get(name) {
            None => Ok(()),
            Some(value) if value == supported => Ok(()),
            Some(value) if value.as_f64().is_some() && value.as_f64() == supported.as_f64() => Ok(()),
            Some(value) => Err(self.unsupported(name, &value, &supported.to_string())),
        }
    }

    /// A value that is understood but not supported.
    pub fn unsupported(&self, name: &str, value: &Value, supported: &str) -> Error {
        let message = format!("{}: `{name}` is {value}, which is not supported", self.place);
        Error::input(message, format!("supported: {supported}; another value means other numbers than ours"))
    }

    /// Keys that cannot change the numbers of this family.
    pub fn ignore(&mut self, names: &[&str]) {
        self.used.extend(names.iter().map(|&name| name.to_owned()));
    }

    /// An error that lists the keys nobody asked for.
    pub fn finish(&self) -> Result<()> {
        let unknown: Vec<String> = (self.map.iter())
            .filter(|(name, value)| !value.is_null() && !self.used.contains(*name))
            .filter(|(name, _)| !HARMLESS.contains(&name.as_str()))
            .map(|(name, _)| match self.near(name) {
                Some(near) => format!("`{name}` (did you mean `{near}`?)"),
                None => format!("`{name}`"),
            })
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let (s, they) = if unknown.len() == 1 { ("", "it changes") } else { ("s", "they change") };
        let message = format!("{}: unknown key{s} {}", self.place, unknown.join(", "));
        Err(Error::input(
            message,
            format!("a key nobody reads may mean other numbers than ours; remove it if {they} none"),
        ))
    }

    /// The value of a key, which counts as used from now on.
    fn get(&mut self, name: &str) -> Option<Value> {
        self.used.insert(name.to_owned());
        self.map.get(name).filter(|value| !value.is_null()).cloned()
    }

    /// A key that was asked for, is absent, and reads like this one.
    fn near(&self, name: &str) -> Option<&str> {
        let absent = self.used.iter().filter(|used| !self.map.contains_key(*used));
        let scored = absent.map(|used| (strsim::jaro_winkler(name, used), used.as_str()));
        scored.filter(|(score, _)| *score > 0.9).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, used)| used)
    }

    /// A key that is needed and absent.
    pub fn absent(&self, name: &str) -> Error {
        let message = format!("{}: the key `{name}` is missing", self.place);
        Error::input(message, "config.json must be the one that was saved with the weights")
    }

    fn wrong(&self, name: &str, value: &Value, needed: &str) -> Error {
        let message = format!("{}: `{name}` is {value}, but {needed} is needed", self.place);
        Error::input(message, "config.json must be the one that was saved with the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn keys(value: Value) -> Keys {
        match value {
            Value::Object(map) => Keys::new("config.json", map),
            _ => Keys::new("config.json", Map::new()),
        }
    }

    #[test]
    fn values_of_the_wrong_kind_are_named() {
        let mut keys = keys(json!({"n": 0, "x": "two", "f": 1, "w": 3, "o": [], "big": 1e300, "neg": -1.0}));
        for error in [
            keys.size("n").unwrap_err(),
            keys.size("absent").unwrap_err(),
            keys.size("big").unwrap_err(),
            keys.positive("x").unwrap_err(),
            keys.positive("neg").unwrap_err(),
            keys.flag_or("f", true).unwrap_err(),
            keys.word_opt("w").unwrap_err(),
            keys.object_opt("o").unwrap_err(),
            keys.only("w", false).unwrap_err(),
        ] {
            assert!(error.to_string().starts_with("config.json: "), "{error}");
            assert_eq!(error.exit_code(), 1);
        }
    }

    #[test]
    fn null_is_absent_and_numbers_compare_by_value() {
        let mut keys = keys(json!({"n_inner": null, "factor": 1, "nobody": null, "top_k": 50}));
        assert_eq!(keys.size_opt("n_inner").unwrap(), None);
        keys.only("factor", 1.0).unwrap();
        keys.finish().unwrap();
    }

    #[test]
    fn left_over_keys_are_listed_with_what_they_may_mean() {
        let mut keys = keys(json!({"n_layers": 3, "zeta": true, "fine": 1}));
        keys.size_opt("n_layer").unwrap();
        keys.ignore(&["fine"]);
        let text = keys.finish().unwrap_err().to_string();
        assert!(text.contains("`n_layers` (did you mean `n_layer`?), `zeta`"), "{text}");
    }
}
