//! `glassbox generate`: what the model says, also while parts of it are taken out, exchanged or pushed.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::flags::{ChatFlags, FormatFlags, ModelFlags};
use super::print;
use crate::checkpoint;
use crate::decide::{Rule, Sampling};
use crate::edit::Edit;
use crate::error::{Error, Result};
use crate::generate::request::{self, Graft, Lesion, Push, Request, When};
use crate::generate::{Growing, Said, Settings, tables};
use crate::lab::Lab;
use crate::lesion::{Sums, random_prompts};
use crate::show;
use crate::steering;
use crate::study::{Prompts, Study};
use crate::table::{self, Format};
use crate::task::{self, Example};
use crate::vocabulary::Bos;

/// Continue prompts, also with parts taken out, activations exchanged or directions added while the model speaks
///
/// The model gives each next token a probability; a rule chooses one: the most probable by default, a draw with
/// --temperature, --top-k, --top-p or --min-p, or with --gains the one of highest expected gain. With edits the model
/// speaks twice, without and with them, by the same rule and draws.
///
/// Where an edit acts is written `all`, `new` (wherever a new token is chosen: the prompt's last position and all after),
/// `prompt`, `end` (the prompt's last position) or as a position, counted from 0 with BOS.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  glassbox generate --prompt 'When Mary and John went to the store , John gave a drink to'
  glassbox generate --prompt 'When Mary and John went to the store , John gave a drink to' --ablate a2.h0,a2.h1
  glassbox generate --prompt 'The capital of France is' --patch m0@end --from 'The capital of Italy is' --max-tokens 2
  glassbox generate --prompt 'The key beside the table' --steer 'The lamp => The lamps' --position 2 --max-tokens 4
  glassbox generate --prompt 'The keys beside the table' --steer 'The lamp => The lamps' --remove --max-tokens 1
  glassbox generate --prompt 'Yesterday' --temperature 0.8 --top-p 0.9 --samples 3 --seed 1
  glassbox generate --task facts --n 4 --stop . --format csv")]
pub(super) struct Generate {
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    choice: ChoiceArgs,
    #[command(flatten)]
    edits: EditArgs,
    #[command(flatten)]
    format: FormatFlags,
    /// Print this table instead of the first: tokens, texts
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    table: Option<String>,
    /// With edits: only what the edited model says
    #[arg(long, help_heading = "Output")]
    no_compare: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Prompts")]
struct PromptArgs {
    /// One prompt
    #[arg(long, short, conflicts_with_all = ["prompts", "task", "tokens"])]
    prompt: Option<String>,
    /// The prompt as token ids, to which no BOS is added
    #[arg(long, value_delimiter = ',', value_name = "IDS", conflicts_with_all = ["prompts", "task"])]
    tokens: Vec<u32>,
    /// Prompts from a JSONL file, the field `clean` of each line
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    prompts: Option<PathBuf>,
    /// Generated prompts: ioi, induction, greater-than, capital, facts, agreement
    #[arg(long)]
    task: Option<String>,
    /// How many prompts to generate (64), or lines of the file to read (all)
    #[arg(long)]
    n: Option<usize>,
    /// Whether prompts begin with the beginning-of-sequence token: auto (as the tokenizer does), yes, no
    #[arg(long, default_value = "auto")]
    bos: String,
    #[command(flatten)]
    chat: ChatFlags,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Choice of the next token")]
struct ChoiceArgs {
    /// New tokens at most
    #[arg(long, default_value_t = 20, value_name = "N")]
    max_tokens: usize,
    /// How to choose; by default greedy, or what the other flags say
    #[arg(long, value_enum)]
    rule: Option<RuleName>,
    /// Draw, with logits divided by this; 0 is greedy
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Draw among the k most probable tokens
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw among the fewest tokens whose probabilities reach p
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,
    /// Draw among tokens at least this times as probable as the first
    #[arg(long, value_name = "P")]
    min_p: Option<f64>,
    /// Choose by expected gain: JSON {"default": {"gain": 1, "cost": 0}, " Mary": …}
    #[arg(long, value_name = "FILE")]
    gains: Option<PathBuf>,
    /// End after this token, given as text or as #ID; repeatable
    #[arg(long, value_name = "TOKEN")]
    stop: Vec<String>,
    /// Continuations of each prompt, each with draws of its own
    #[arg(long, default_value_t = 1, value_name = "N")]
    samples: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RuleName {
    Greedy,
    Sample,
    ExpectedGain,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Edits while it speaks")]
struct EditArgs {
    /// Take out PART[@WHERE]: a1.h0 (head), a1, m1, m1.n12 (neuron), embed; everywhere by default. With commas
    #[arg(long, value_delimiter = ',', value_name = "PART[@WHERE]")]
    ablate: Vec<Lesion>,
    /// What an ablated part writes instead
    #[arg(long, value_enum, default_value = "zero", requires = "ablate")]
    with: Instead,
    /// Prompts over which --with mean averages (JSONL); by default 64 random sequences
    #[arg(long, value_name = "FILE", requires = "ablate")]
    reference: Option<PathBuf>,
    /// Put in the activation that --from has: WHAT is a part or a site's full name; @TO is where it is put (a position or
    /// `end`) and :FROM where it is taken, if elsewhere. Without @TO every position of the prompt
    #[arg(long, value_delimiter = ',', value_name = "WHAT[@TO[:FROM]]", requires = "from")]
    patch: Vec<Graft>,
    /// The prompt that --patch takes activations from
    #[arg(long, value_name = "PROMPT", requires = "patch")]
    from: Option<String>,
    /// Add the direction that leads from one text to another, read at their last tokens; of several the mean
    #[arg(long, value_name = "'FROM => TO'", conflicts_with = "steer_file")]
    steer: Vec<String>,
    /// Add a direction from a safetensors file, such as the tensors.safetensors that `glassbox steer --out DIR` writes
    #[arg(long, value_name = "FILE")]
    steer_file: Option<PathBuf>,
    /// Layer of the direction; by default the middle one, or the only one in the file
    #[arg(long, value_name = "L")]
    layer: Option<usize>,
    /// Place of the direction: resid_pre, resid_mid, resid_post, attn_out, mlp_out
    #[arg(long, default_value = "resid_pre")]
    site: String,
    /// The direction is multiplied by this (1)
    #[arg(long, allow_negative_numbers = true, value_name = "ALPHA", conflicts_with = "remove")]
    strength: Option<f64>,
    /// Take the direction out of the stream in every layer, instead of adding it
    #[arg(long)]
    remove: bool,
    /// Where the direction is added (by default `new`) or taken out (`all`)
    #[arg(long, value_name = "WHERE")]
    position: Option<When>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Instead {
    /// Nothing
    Zero,
    /// Its mean over reference prompts, all positions together
    Mean,
}

impl Generate {
    pub(super) fn run(self) -> Result<()> {
        self.check()?;
        let task = self.prompts.study();
        let study = Study { steps: Vec::new(), task, ..self.model.study() };
        let lab = self.model.open(&study)?;
        let bos: Bos = self.prompts.bos.parse()?;
        let examples = self.prompts.read(&lab, &study, bos, &self.model)?;
        let settings = self.choice.settings(&lab)?;
        let longest = examples.iter().map(|example| example.clean.len()).max().unwrap_or(1);
        let request = self.edits.request(&lab, bos, longest, &self.model)?;
        let runs: &[bool] = match (request.is_empty(), self.no_compare) {
            (true, _) => &[false],
            (false, true) => &[true],
            (false, false) => &[false, true],
        };
        let streaming = self.format.format == Format::Table && self.table.is_none();
        // what cannot be done to some prompt is found before anything is said
        let lengths = examples.iter().map(|example| example.clean.len());
        let edits: Vec<_> = lengths.map(|length| request.edits(&lab, length)).collect::<Result<_>>()?;
        let mut said = Vec::new();
        for (index, (example, edits)) in examples.iter().zip(&edits).enumerate() {
            let start = |&edited: &bool| {
                let edits: &[Edit] = if edited { edits } else { &[] };
                Ok((edited, Growing::new(&lab, &example.clean, edits)?))
            };
            for (edited, start) in runs.iter().map(start).collect::<Result<Vec<_>>>()? {
                for sample in 0..self.choice.samples {
                    let mut label = Vec::new();
                    label.extend((examples.len() > 1).then(|| example.id.clone()));
                    label.extend((self.choice.samples > 1).then(|| format!("#{sample}")));
                    label.extend(
                        (runs.len() > 1).then(|| if edited { "edited  " } else { "unedited" }.into()),
                    );
                    let mut voice = Voice { lab: &lab, prompt: &example.clean, ids: Vec::new(), heard: 0 };
                    if streaming {
                        voice.open(&label.join(" "))?;
                    }
                    // runs that are compared share their draws
                    let stream = (index * self.choice.samples + sample) as u64;
                    let spoken = start.fork()?.speak(&settings, stream, &mut |chosen| {
                        if streaming { voice.say(chosen.id) } else { Ok(()) }
                    });
                    if streaming {
                        voice.close()?;
                    }
                    let (id, prompt) = (example.id.clone(), example.clean.clone());
                    said.push(Said { example: id, edited, sample, prompt, spoken: spoken? });
                }
            }
        }
        self.remarks(&lab, &said);
        if streaming { Ok(()) } else { self.print(&said, &lab) }
    }

    /// Refuses flags that would be ignored.
    fn check(&self) -> Result<()> {
        if self.format.format == Format::Parquet {
            return Err(Error::usage("parquet is no text to print", "choose csv or json"));
        }
        let steered = !self.edits.steer.is_empty() || self.edits.steer_file.is_some();
        let defaults = self.edits.layer.is_none()
            && self.edits.site == "resid_pre"
            && self.edits.strength.is_none()
            && !self.edits.remove
            && self.edits.position.is_none();
        if !steered && !defaults {
            return Err(Error::usage(
                "`--layer`, `--site`, `--strength`, `--remove` and `--position` belong to a direction, and there is none",
                "give one with `--steer 'FROM => TO'` or `--steer-file`; --ablate and --patch take @WHERE",
            ));
        }
        if self.no_compare && !steered && self.edits.ablate.is_empty() && self.edits.patch.is_empty() {
            return Err(Error::usage(
                "`--no-compare`: there is no edit to compare with",
                "leave it out, or give `--ablate`, `--patch` or `--steer`",
            ));
        }
        if self.edits.reference.is_some() && self.edits.with == Instead::Zero {
            return Err(Error::usage(
                "`--reference` is what a mean is taken over",
                "add `--with mean`, or leave it out",
            ));
        }
        if self.prompts.n.is_some() && self.prompts.prompts.is_none() && self.prompts.task.is_none() {
            return Err(Error::usage("`--n` belongs to a task or a file", "leave it out"));
        }
        Ok(())
    }

    fn print(&self, said: &[Said], lab: &Lab) -> Result<()> {
        let tables = tables(said, &lab.vocabulary);
        let name = self.table.as_deref().unwrap_or("tokens");
        let found = tables.iter().find(|table| table.name == name);
        let names = || tables.iter().map(|table| table.name.as_str());
        let found = found.ok_or_else(|| Error::unknown("table", name, names()))?;
        print(&table::write(found, self.format.format)?)
    }

    /// What a reader must know: a full context, edits that the text never came to.
    fn remarks(&self, lab: &Lab, said: &[Said]) {
        let full = said.iter().filter(|said| said.spoken.stopped.name() == "context").count();
        if full > 0 {
            let n_ctx = lab.model.config.n_ctx;
            self.model
                .say(&format!("{full} text(s) end because the model's context of {n_ctx} tokens is full"));
        }
        for said in said.iter().filter(|said| !said.spoken.unreached.is_empty()) {
            let at: Vec<String> = said.spoken.unreached.iter().map(usize::to_string).collect();
            let (id, at) = (&said.example, at.join(", "));
            self.model
                .say(&format!("{id}: the text ended before position {at}, where an edit was to be made"));
        }
    }
}

impl PromptArgs {
    /// The prompts as a study has them.
    fn study(&self) -> Prompts {
        Prompts {
            generate: self.task.clone(),
            n: self.n,
            file: self.prompts.clone(),
            prompt: self.prompt.clone(),
            tokens: self.tokens.clone(),
            bos: (self.bos != "auto").then(|| self.bos.clone()),
            chat: self.chat.chat,
            system: self.chat.system.clone(),
            ..Prompts::default()
        }
    }

    fn read(&self, lab: &Lab, study: &Study, bos: Bos, model: &ModelFlags) -> Result<Vec<Example>> {
        let one = |clean: Vec<u32>| vec![Example { id: "prompt".to_owned(), clean, ..Example::default() }];
        if let Some(text) = &self.prompt {
            let (clean, notes) = task::read_prompt_aloud(text, &lab.vocabulary, bos)?;
            notes.iter().for_each(|note| model.say(note));
            return Ok(one(clean));
        }
        if !self.tokens.is_empty() {
            model.say("BOS: none added, because the prompt was given as token ids.");
            return Ok(one(self.tokens.clone()));
        }
        if self.prompts.is_none() && self.task.is_none() {
            return Err(Error::usage(
                "there is no prompt",
                "give `--prompt '…'`, `--tokens 1,2,3`, `--prompts FILE.jsonl` or `--task`",
            ));
        }
        let task = study.task(lab)?;
        task.notes.first().into_iter().for_each(|note| model.say(note));
        Ok(task.examples)
    }
}

impl ChoiceArgs {
    fn settings(&self, lab: &Lab) -> Result<Settings> {
        let drawn = self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some();
        let warm = self.temperature.filter(|&temperature| temperature != 0.0);
        let clash = |what: &str, hint: &str| Err(Error::usage(what, hint));
        let named = match self.rule {
            Some(rule) => rule,
            None if self.gains.is_some() => RuleName::ExpectedGain,
            None if drawn || warm.is_some() => RuleName::Sample,
            None => RuleName::Greedy,
        };
        if self.gains.is_some() != (named == RuleName::ExpectedGain) {
            return clash(
                "the rule `expected-gain` and `--gains FILE` belong together",
                "give both, or neither",
            );
        }
        if named != RuleName::Sample && (drawn || warm.is_some()) {
            return clash(
                "`--temperature`, `--top-k`, `--top-p` and `--min-p` belong to a draw, and nothing is drawn",
                "leave them out, or choose `--rule sample`",
            );
        }
        if self.temperature == Some(0.0) && (drawn || named == RuleName::Sample) {
            return clash(
                "at temperature 0 the most probable token is chosen, and nothing is drawn",
                "leave `--temperature 0` out to draw, or the other flags out to choose greedily",
            );
        }
        if self.samples == 0 {
            return clash("`--samples 0`: nothing is to be said", "write 1 or more");
        }
        if self.samples > 1 && named != RuleName::Sample {
            return clash(
                "without a draw all samples are the same",
                "add `--temperature 1`, or leave `--samples` out",
            );
        }
        let rule = match (named, &self.gains) {
            (RuleName::Sample, _) => Rule::Sample(Sampling {
                temperature: self.temperature.unwrap_or(1.0),
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
            }),
            (RuleName::ExpectedGain, Some(path)) => {
                Rule::ExpectedGain(task::read_gains(&checkpoint::read_text(path)?, &lab.vocabulary)?.0)
            }
            _ => Rule::Greedy,
        };
        rule.check()?;
        let token = |text: &String| match text.strip_prefix('#').and_then(|id| id.parse().ok()) {
            Some(id) => Ok(id),
            None => Ok(lab.vocabulary.single(text)?.0),
        };
        let stop = self.stop.iter().map(token);
        Ok(Settings { rule, max_tokens: self.max_tokens, stop: stop.collect::<Result<_>>()? })
    }
}

impl EditArgs {
    fn request(&self, lab: &Lab, bos: Bos, longest: usize, model: &ModelFlags) -> Result<Request> {
        let mut request =
            Request { lesions: self.ablate.clone(), grafts: self.patch.clone(), ..Request::default() };
        if self.with == Instead::Mean {
            let prompts: Vec<Vec<u32>> = match &self.reference {
                Some(path) => {
                    let text = checkpoint::read_text(path)?;
                    let task = task::read_jsonl(&path.display().to_string(), &text, &lab.vocabulary, bos)?;
                    task.examples.into_iter().map(|example| example.clean).collect()
                }
                None => random_prompts(lab, lab.vocabulary.bos(bos)?, longest, 64)?,
            };
            let sites = request.lesion_sites()?;
            let sums = Sums::over(lab, &prompts, None, |site| sites.contains(&site))?;
            request.instead = Some(sums.mean()?);
        }
        if let Some(text) = &self.from {
            request.take_from(lab, task::read_prompt(text, &lab.vocabulary, bos)?)?;
        }
        let found = match &self.steer_file {
            Some(path) => Some(request::direction(lab, path, &self.site, self.layer)?),
            None if self.steer.is_empty() => None,
            None => Some(request::contrast(lab, &self.steer, bos, &self.site, self.layer)?),
        };
        if let Some((site, direction)) = found {
            let norm = steering::norm(&direction)?;
            if norm == 0.0 {
                return Err(Error::usage(
                    format!("the two texts do not differ at {site}: there is no direction"),
                    "they end in the same token and nothing has been read from the others yet: choose a later `--layer`",
                ));
            }
            let (strength, when, what) = if self.remove {
                let when = self.position.unwrap_or(When::All);
                (None, when, format!("taking out of every layer, {when},"))
            } else {
                let (strength, when) = (self.strength.unwrap_or(1.0), self.position.unwrap_or(When::New));
                if !strength.is_finite() {
                    return Err(Error::usage("the strength is no number", "write `--strength 1`"));
                }
                (Some(strength), when, format!("adding, at {when}, {strength} times"))
            };
            model.say(&format!("{what} a direction of norm {norm:.3} found at {site}"));
            request.pushes.push(Push { site, direction, strength, when });
        }
        Ok(request)
    }
}

/// A text as it is said, on stdout.
struct Voice<'a> {
    lab: &'a Lab,
    prompt: &'a [u32],
    ids: Vec<u32>,
    /// Bytes of the continuation that were printed.
    heard: usize,
}

impl Voice<'_> {
    fn open(&self, label: &str) -> Result<()> {
        let label = if label.is_empty() { String::new() } else { format!("{}  ", show::inert(label)) };
        let prompt = show::inert(&self.lab.vocabulary.text(self.prompt));
        print(format!("{label}{prompt} ▸").as_bytes())
    }

    fn say(&mut self, id: u32) -> Result<()> {
        self.ids.push(id);
        let text = self.lab.vocabulary.continuation(self.prompt, &self.ids);
        // a character whose bytes are not all there yet waits for them
        if text.ends_with('\u{FFFD}') { Ok(()) } else { self.utter(&text) }
    }

    fn close(&mut self) -> Result<()> {
        let text = self.lab.vocabulary.continuation(self.prompt, &self.ids);
        self.utter(&text)?;
        print(b"\n")
    }

    fn utter(&mut self, text: &str) -> Result<()> {
        let more = text.get(self.heard..).unwrap_or_default();
        self.heard = text.len();
        print(show::inert(more).as_bytes())
    }
}
