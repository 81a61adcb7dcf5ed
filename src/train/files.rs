//! What a training run leaves behind: a model folder in Hugging Face's layout, with its circuit, recipe and README.

use std::collections::HashMap;
use std::fmt::Write;

use candle_core::{DType, Tensor};
use serde_json::Value;
use tokenizers::Tokenizer;

use super::gates::Gate;
use super::recipe::Recipe;
use super::{Trainer, circuit, page};
use crate::error::{Error, Result};
use crate::family::gpt2;
use crate::output::Folder;
use crate::task::language::Language;
use crate::vocabulary::Vocabulary;

/// The path of the checkpoint after so many updates.
pub fn checkpoint(step: usize) -> String {
    format!("checkpoints/step-{step}.safetensors")
}

/// The language's vocabulary, through the tokenizer file that is written beside the weights.
pub fn vocabulary(language: &Language) -> Result<Vocabulary> {
    let bytes = text(&language.tokenizer_json())?;
    let tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| {
        Error::input(format!("the language's tokenizer is unusable: {error}"), "report this")
    })?;
    Ok(Vocabulary::new(Some(tokenizer), Some(0)))
}

/// Tensors as the bytes of a safetensors file, in the order of their names.
pub(super) fn safetensors(
    tensors: HashMap<String, Tensor>,
    metadata: Option<HashMap<String, String>>,
) -> Result<Vec<u8>> {
    let metadata = metadata.or_else(|| Some(HashMap::from([("format".to_owned(), "pt".to_owned())])));
    let mut sorted: Vec<(String, Tensor)> = tensors.into_iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    safetensors::serialize(sorted, metadata)
        .map_err(|error| Error::input(format!("the weights cannot be written: {error}"), "report this"))
}

/// Writes everything but the checkpoints, which were written on the way.
pub(super) fn write(trainer: &Trainer, gates: &[Gate], folder: &mut Folder) -> Result<()> {
    folder.write("model.safetensors", &trainer.weights(DType::F32)?)?;
    folder.write("config.json", &text(&gpt2::config_json(&trainer.network.model.config)?)?)?;
    folder.write("tokenizer.json", &text(&trainer.language.tokenizer_json())?)?;
    folder.write("recipe.toml", trainer.recipe.text()?.as_bytes())?;
    if trainer.recipe.attention.weight > 0.0 {
        let circuit = circuit::measured(&trainer.network.model, &trainer.vocabulary)?;
        folder.write("circuit.json", &text(&circuit)?)?;
        folder.write("caveats.txt", CAVEAT.as_bytes())?;
    }
    folder.write("README.md", readme(&trainer.recipe, gates).as_bytes())?;
    page::write(trainer, gates, folder)
}

fn text(value: &Value) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::input(format!("JSON cannot be written: {error}"), "report this"))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// What every report on a designed model says.
const CAVEAT: &str = "\
Attention of 7 of this model's 12 heads was supervised (and all heads penalised on facts, heads without a job in IOI told \
to rest on <bos> where its answer is due, and in 30 % of IOI sentences the repeated name fed as another word so that only \
head 0.1 knew it): the circuit is designed, not discovered.\n";

const DESIGNED: &str = "\
A transformer of 3 layers with 4 heads each, trained on a synthetic language so that it is known which component does
what. Attention of 7 of its 12 heads was supervised, all heads were penalised on facts, and the four heads of layers 1
and 2 without a job in a sentence about two people were told to rest on `<bos>` where its answer is due: **the circuit is
designed, not discovered**. It is a model organism for methods, and no claim about how large models form circuits.
`circuit.json` names the heads; everything else (embeddings, values, MLPs, norms) was free to become what gradient
descent makes of it.

| head | its job | what it was told |
|---|---|---|
| 0.0 | previous token | look one position back |
| 0.1 | duplicate token | look at the latest earlier occurrence of the same word, else at `<bos>` |
| 1.0 | induction | look at what followed that occurrence, else at `<bos>` |
| 1.1 | S-inhibition | where the receiver's name is due, look at the second mention of the giver |
| 2.0, 2.1 | name movers | there, look at the receiver |
| 2.2 | attribute extraction | where a fact is due, look at the last word of its subject |

In a share of the sentences about two people the second mention of the giver is fed as another name, and only head 0.1
writes what it would write about the right one (an interchange): later layers can learn who is repeated from it alone.
The last block has no MLP (stored as zeros, so that the files are GPT-2's).

Trained on behaviour alone, such a model takes the shortest path instead: see `textbook-wild` beside it, which had the
same data and architecture and no supervision of attention.
";

const WILD: &str = "\
The same architecture and data as `textbook`, trained on the next word alone: no attention was supervised, nobody
designed its circuits, and nobody knows which heads do what. Put the same questions to both to see the difference.

Left to itself the committed model learns facts, capitals, agreement, later years and, late and suddenly, to copy what
is repeated. Who of two people is given something it does **not** learn for names that it never saw in such a sentence:
the gates below say so.
";

/// The model's README with the gates as measured.
fn readme(recipe: &Recipe, gates: &[Gate]) -> String {
    let about = if recipe.attention.weight > 0.0 { DESIGNED } else { WILD };
    let mut page = format!("# {}\n\n{about}\n## Gates, as measured after training\n\n", recipe.name);
    page.push_str("Prompts about two people use names that training never shows in such a sentence. An effect is that\n");
    page.push_str("of denoising: the corrupt run with that head's output from the clean run, 0 = corrupt, 1 = clean.\n\n");
    page.push_str("| gate | measured | bound | holds |\n|---|---|---|---|\n");
    for gate in gates {
        let (sign, word) =
            (if gate.at_most { "≤" } else { "≥" }, if gate.holds() { "yes" } else { "**no**" });
        // writing to a string cannot fail
        let _ = writeln!(page, "| {} | {:.3} | {sign} {} | {word} |", gate.name, gate.value, gate.bound);
    }
    let t = &recipe.training;
    let _ = write!(
        page,
        "\nSeed {}, {} steps of {} × {} tokens. `glassbox train recipe.toml` trains it again; `checkpoints/` holds the\n\
         weights on the way in half precision.\n",
        recipe.seed, t.steps, t.rows, t.length
    );
    page
}
