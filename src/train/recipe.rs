//! A recipe: everything that decides how a model is trained, as data.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint;
use crate::error::{Error, Result};

/// A recipe file. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The model's name: `runs/train-<name>-1`.
    pub name: String,
    /// Decides the first weights and every batch.
    pub seed: u64,
    /// Size and shape.
    pub model: Architecture,
    /// Steps and optimiser.
    pub training: Training,
    /// What documents are made of.
    pub data: Mixture,
    /// The auxiliary loss that gives heads their jobs.
    pub attention: Supervision,
}

/// The GPT-2 architecture with an untied unembedding; the last block has no MLP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Blocks.
    pub layers: usize,
    /// Heads in each.
    pub heads: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Neurons in each MLP.
    pub d_mlp: usize,
    /// Longest input, in tokens.
    pub context: usize,
}

/// Steps and optimiser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Updates of the weights.
    pub steps: usize,
    /// Documents in a batch.
    pub rows: usize,
    /// Tokens in a document.
    pub length: usize,
    /// The highest learning rate: reached after `warmup` steps, falling as a cosine to `floor` times itself.
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    pub warmup: usize,
    /// The last learning rate as a share of the highest.
    pub floor: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Decoupled decay of matrices (not of biases and gains).
    pub weight_decay: f64,
    /// Gradients are shortened to this norm.
    pub clip: f64,
    /// Weight of the next-token loss where a sentence about people has its answer.
    pub answer_weight: f64,
    /// Steps after which a checkpoint is kept in half precision.
    pub checkpoints: Vec<usize>,
    /// The gates are measured every so many steps.
    pub gates_every: usize,
}

/// What documents are made of: a share of whole documents, then relative weights of kinds of sentences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixture {
    /// Share of documents that repeat a random sequence.
    pub periodic: f64,
    /// Its shortest and longest period.
    pub periods: [usize; 2],
    /// "When A and B went to the store , B gave a drink to A ."
    pub two_people: f64,
    /// Share of those whose names are any words.
    pub stand_ins: f64,
    /// "A was at the park , so the doctor gave a ring to A ."
    pub one_person: f64,
    /// "Ada Abbott works as a baker ."
    pub facts: f64,
    /// "The war lasted from the year 17 32 to the year 17 58 ."
    pub greater_than: f64,
    /// "The capital of France is Paris ."
    pub capital: f64,
    /// "The keys near the door are old ."
    pub agreement: f64,
    /// "Mary lost the ring because she was tired ."
    pub gender: f64,
    /// "The day after Monday is Tuesday ."
    pub succession: f64,
}

/// How strongly attention is supervised; all zero means not at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Supervision {
    /// λ: weight of the attention loss beside the next-token loss.
    pub weight: f64,
    /// Share of two-people sentences in which the repeated name's own word is exchanged after the first attention
    /// layer, so that only the duplicate-token head can tell later layers who is repeated.
    pub exchange: f64,
}

impl Recipe {
    /// Reads a recipe file.
    pub fn read(path: &Path) -> Result<Recipe> {
        Recipe::parse(&checkpoint::read_text(path)?)
    }

    /// Reads a recipe and checks that its numbers fit together.
    pub fn parse(text: &str) -> Result<Recipe> {
        let recipe: Recipe = toml::from_str(text).map_err(|error| {
            Error::usage(
                format!("the recipe cannot be read: {}", error.to_string().trim()),
                "compare it with assets/models/textbook/recipe.toml",
            )
        })?;
        recipe.check()?;
        Ok(recipe)
    }

    /// The recipe as a file.
    pub fn text(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|error| Error::input(format!("the recipe cannot be written: {error}"), "report this"))
    }

    fn check(&self) -> Result<()> {
        let (m, t, d) = (&self.model, &self.training, &self.data);
        let kinds = [
            d.two_people,
            d.one_person,
            d.facts,
            d.greater_than,
            d.capital,
            d.agreement,
            d.gender,
            d.succession,
        ];
        let shares = [d.periodic, d.stand_ins, self.attention.exchange];
        let wrong = if m.layers == 0 || m.heads == 0 || m.d_model == 0 || m.d_mlp == 0 {
            "every size in [model] must be at least 1".to_owned()
        } else if m.d_model % m.heads != 0 {
            format!("d_model {} is no multiple of {} heads", m.d_model, m.heads)
        } else if self.attention.weight != 0.0 && (m.layers < 3 || m.heads < 3) {
            format!(
                "attention is supervised in 3 layers, 3 heads each, but there are {} × {}",
                m.layers, m.heads
            )
        } else if t.length < 2 || t.length > m.context {
            format!("documents of {} tokens do not fit a context of {}", t.length, m.context)
        } else if t.steps == 0 || t.rows == 0 || t.gates_every == 0 {
            "steps, rows and gates_every must be at least 1".to_owned()
        } else if d.periods[0] < 2 || d.periods[1] < d.periods[0] {
            format!("periods {:?} must be rising and at least 2", d.periods)
        } else if shares.iter().any(|share| !(0.0..=1.0).contains(share)) {
            "periodic, stand_ins and exchange are shares between 0 and 1".to_owned()
        } else if kinds.iter().any(|weight| !weight.is_finite() || *weight < 0.0)
            || kinds.iter().sum::<f64>() <= 0.0
        {
            "weights of sentences must not be negative, nor all zero".to_owned()
        } else if !(self.attention.weight >= 0.0 && t.learning_rate > 0.0 && t.clip > 0.0) {
            "learning_rate and clip must be positive, weight not negative".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::usage(
            format!("the recipe does not fit together: {wrong}"),
            "compare it with assets/models/textbook/recipe.toml",
        ))
    }
}
