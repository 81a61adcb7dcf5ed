//! The single methods: one subcommand for each analysis.

use clap::Args;

use super::flags::{FolderFlags, FormatFlags, ModelFlags, PlanFlags, PromptFlags, SeriesFlags, VenueFlags};
use super::print;
use crate::analysis;
use crate::error::{Error, Result};
use crate::output::{Folder, Place};
use crate::report;
use crate::study::{Outcome, Step, Study};
use crate::table::{self, Format};
use crate::task::Task;

/// What every single method is given.
#[derive(Debug, Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub model: ModelFlags,
    #[command(flatten)]
    series: SeriesFlags,
    #[command(flatten)]
    pub prompts: PromptFlags,
    #[command(flatten)]
    format: FormatFlags,
    #[command(flatten)]
    pub folder: FolderFlags,
    #[command(flatten)]
    venue: VenueFlags,
    #[command(flatten)]
    plan: PlanFlags,
    /// Print this table instead of the first (names as in the folder's `tables/`)
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    table: Option<String>,
    /// Parameters of the method, written key=value; an unknown one lists those there are
    #[arg(value_name = "KEY=VALUE")]
    parameters: Vec<String>,
}

macro_rules! methods {
    ($($(#[$meta:meta])* $name:ident = $analysis:literal;)*) => { $(
        #[derive(Debug, Args)]
        $(#[$meta])*
        pub(super) struct $name {
            #[command(flatten)]
            common: Common,
        }
        impl $name {
            pub(super) fn run(self) -> Result<()> {
                self.common.run($analysis)
            }
        }
    )* };
}

methods! {
    /// The next-token distribution, and what each decision rule would choose
    ///
    /// A model computes a probability for every next word; a separate decision picks one. With --gains the decision
    /// weighs probability against what each choice gains or costs.
    #[command(after_help = "Examples:
  glassbox predict --prompt 'When Mary and John went to the store , John gave a drink to'
  glassbox predict --task ioi --n 8 --table decisions
  glassbox predict --task induction --checkpoints --table behaviour
  glassbox predict --task capital --n 4 --gains gains.json --format json")]
    Predict = "predict";

    /// What the model would say if it stopped at each layer (logit lens)
    #[command(after_help = "Examples:
  glassbox lens --prompt 'When Mary and John went to the store , John gave a drink to'
  glassbox lens --task ioi --format csv > lens.csv")]
    Lens = "lens";

    /// Which components write the logit difference directly (direct logit attribution)
    #[command(after_help = "Examples:
  glassbox attribution --task ioi
  glassbox attribution --task ioi --table attribution_head --format csv
  glassbox attribution --task facts position=end --out attribution
  glassbox attribution --task ioi --n 8 --fold")]
    Attribution = "attribution";

    /// Which activations carry the difference between two prompts (activation patching)
    ///
    /// Denoising runs the corrupt prompt and restores one activation from the clean run: what suffices? Noising runs the
    /// clean prompt and inserts one from the corrupt run: what is needed? Grains: by=["all", "position", "head",
    /// "head-position", "query-key", "neuron", "set"]; window=K patches K layers in a row together. Values may come from a file
    /// (--values, what `glassbox record --out` wrote) or be means (--reference, and from=mean beside pairs); without corrupt
    /// prompts the effect is the change of the metric.
    #[command(after_help = "Examples:
  glassbox patch --task ioi
  glassbox patch --task ioi --table resid_by_pos
  glassbox patch --task ioi 'sites=[\"z\"]' direction=noise --metric kl
  glassbox patch --task ioi --n 16 'by=[\"all\",\"query-key\"]' 'sites=[\"attn_out\",\"pattern\"]' --table patch_pattern
  glassbox patch --task facts --n 16 'by=[\"position\"]' 'sites=[\"mlp_out\"]' window=2
  glassbox patch --task ioi 'by=[\"set\"]' 'sets={movers=[\"2.0\",\"2.1\"], last=[\"L2\"]}'
  glassbox patch --task ioi --values path/to/recorded.safetensors direction=noise
  glassbox patch --prompt 'The capital of France is' --corrupt 'The capital of Italy is' --answer Paris --wrong Rome")]
    Patch = "patch";

    /// What each head and MLP tells given receivers directly (path patching)
    ///
    /// The sender takes its value from the other prompt, every other head keeps its own, and receivers get what then reaches
    /// them: `logits`, an MLP (`m1`), or a head's query, key or value (`a2.h0<q>`). A list in the list receives together, a set
    /// sends together (--table path_set). freeze=all freezes the MLPs too, and leaves the one edge.
    #[command(after_help = "Examples:
  glassbox path --task ioi --corruption abc
  glassbox path --task ioi 'receivers=[\"logits\",[\"a2.h0<q>\",\"a2.h1<q>\"]]' --format csv
  glassbox path --task ioi 'receivers=[\"a1.h1<v>\"]' 'sets={early=[\"a0.h1\",\"m0\"]}' freeze=both --table path_set
  glassbox path --task induction 'receivers={keys=[\"a1.h0<k>\"]}' direction=both --metric kl")]
    Path = "path";

    /// What every patch would do, estimated from gradients, and how far the estimates hold (attribution patching)
    ///
    /// One gradient stands for all patches of a run (AtP), with the softmax behind queries and keys computed anew and sizes that
    /// cancellation cannot hide (AtP*). The largest estimates are patched exactly, and so is a sample of the rest:
    /// --table agreement_summary says how well the two agree. Effects have the unit and the sign of `patch`.
    #[command(after_help = "Examples:
  glassbox atp --task ioi
  glassbox atp --task ioi --table atp_agreement_summary full=200
  glassbox atp --task ioi 'sites=[\"q\",\"k\"]' 'by=[\"head-position\"]' qk_fix=false grad_drop=false
  glassbox atp --task induction 'by=[\"neuron\"]' direction=noise --metric log-prob --format csv")]
    Atp = "atp";

    /// What the model still does when a part of it is taken out: zero, mean, mean-by-position and resample ablation
    ///
    /// Each head, each layer's attention and MLP (everywhere, and at each position), the neurons that matter most, and sets of
    /// parts together. What takes a part's place comes from the task's other prompts, or from --reference FILE, or from
    /// over=corrupt or over=random. Changes are lesioned minus whole, in every metric (--table ablate_effect).
    #[command(after_help = "Examples:
  glassbox ablate --task ioi
  glassbox ablate --task ioi --n 16 'kinds=[\"resample\"]' over=corrupt 'by=[\"head\"]' --metric prob
  glassbox ablate --task facts --n 16 'sets={pair=[\"a0.h1\", \"m0\"]}' 'by=[\"set\"]' --table ablate_set --format csv
  glassbox ablate --prompt 'When Mary and John went to the store , John gave a drink to'")]
    Ablate = "ablate";

    /// What the answer loses when one position may not attend to others (attention knockout)
    ///
    /// Scores from the position where the answer is due (from=…) to each source in turn are set to −∞, in a window of layers around
    /// each layer. By default the sources are the places that the prompts share, the position itself (`self`) and the
    /// `rest`. Without prompts: --task facts.
    #[command(after_help = "Examples:
  glassbox knockout
  glassbox knockout --task facts 'sources=[\"first..subject\", \"rest\", \"self\"]' window=1 --format csv
  glassbox knockout --task ioi 'heads=[\"2.0\", \"2.1\"]' --metric log-prob
  glassbox knockout --prompt 'When Mary and John went to the store , John gave a drink to' from=end")]
    Knockout = "knockout";

    /// Which states bring the answer back into a corrupted run (causal tracing)
    ///
    /// The corrupt run has noise on the embeddings of the subject, or is the pair's other prompt (corruption=tokens). One state
    /// at a time is restored from the clean run: the stream, or the MLPs or attention of a window of layers, at one
    /// position. sever=["mlp"] restores the stream with later MLPs held at their corrupt values. Without prompts: --task facts.
    #[command(after_help = "Examples:
  glassbox trace
  glassbox trace --task facts subject=first..subject samples=4 --table trace_total
  glassbox trace --task facts corruption=tokens 'sever=[\"mlp\", \"attention\"]' --format csv
  glassbox trace --prompt 'Ada Abbott plays the sport of' subject=0..1")]
    Trace = "trace";

    /// Which later components make up for one that is taken out (self-repair)
    ///
    /// Each head and MLP with a notable direct effect is taken out; the fall of the logit difference is split into its lost direct
    /// effect, what later components make up for, what they lose with it (an indirect effect, no repair), and the norm's scale.
    #[command(after_help = "Examples:
  glassbox repair --task ioi
  glassbox repair --task ioi 'ablate=[\"2.0\", \"a1\"]' 'sets=[[\"2.0\", \"2.1\"]]' --table repair_later
  glassbox repair --task facts 'kinds=[\"resample\", \"mean\", \"zero\"]' --format csv
  glassbox repair --prompt 'When Mary and John went to the store , John gave a drink to'")]
    Repair = "repair";

    /// What adding a direction to the stream does: dose–response of a steering vector against random directions
    ///
    /// The direction is the mean difference between the activations of clean (positive) and corrupt (negative) prompts over
    /// one half of the pairs, and is tried on the other half. Without prompts: --task agreement. With --out the directions
    /// are in tensors.safetensors, for `glassbox generate --steer-file`. --reference FILE is the ordinary text on which the
    /// cost is measured.
    #[command(after_help = "Examples:
  glassbox steer
  glassbox steer --table steer_removed
  glassbox steer --task capital --n 16 'strengths=[-1,0,1]' --format csv
  glassbox steer --n 32 'site=\"mlp_out\"' randoms=4 --metric log-prob --out steering")]
    Steer = "steer";

    /// What each edge between components carries: who tells whom
    ///
    /// An edge goes from a writer of the residual stream (input, head, MLP) to a reader after it (a head's query, key or value, an
    /// MLP, the logits). Cut, it carries the writer's value on the corrupt prompt, to that reader alone. exact cuts every edge by
    /// itself; eap, eap-ig-inputs, eap-ig-activations and clean-corrupt estimate all of them from a few gradients, and
    /// what they rank highest is cut exactly.
    #[command(after_help = "Examples:
  glassbox edges --task ioi
  glassbox edges --task ioi 'methods=[\"exact\", \"eap\", \"eap-ig-inputs\"]' --table edges_agreement_summary
  glassbox edges --task induction 'methods=[\"exact\"]' carry=zero --format csv
  glassbox edges --task facts direction=denoise steps=10 --out edges")]
    Edges = "edges";

    /// Score every head on repeated random tokens: previous-token, duplicate-token, induction, BOS, entropy
    #[command(after_help = "Examples:
  glassbox heads
  glassbox heads --heads 2.0,L1H1 --prompt 'When Mary and John went to the store , John gave a drink to'
  glassbox heads --checkpoints=100,700 --compare textbook-wild --format csv
  glassbox heads --model path/to/gpt2 --format csv")]
    Heads = "heads";

    /// What heads do by their weights alone: copying scores, spectra, and which heads compose with which
    ///
    /// Needs no prompts. Singular directions are read in tokens (--table singular), and so are the maps that two heads make
    /// together (--table virtual). Composition stands beside a baseline of random matrices (--table composition).
    #[command(after_help = "Examples:
  glassbox weights
  glassbox weights --table composition --format csv
  glassbox weights 'pairs=[[\"0.0\",\"1.0\"]]' --table virtual
  glassbox weights copied=64 mlps=true --model path/to/gpt2 --out weights")]
    Weights = "weights";

    /// Read a label from activations with linear probes, and ask whether the model uses what they read
    ///
    /// Each probe stands beside its baselines: the most frequent class, shuffled labels, the embeddings, a model with random
    /// weights, a control task. Then what it reads is taken out of the activation and the model asked again
    /// (--table probe_use). `glassbox list tasks` shows the labels of each task.
    #[command(after_help = "Examples:
  glassbox probe --task agreement
  glassbox probe --task facts --n 192 label=city 'methods=[\"logistic\"]' --table probe_use
  glassbox probe --task ioi 'positions=[\"S2\",\"end\"]' 'sites=[\"resid_mid\",\"mlp_out\"]' 'methods=[\"mass-mean\"]'
  glassbox probe --task agreement --activations acts --format csv
  glassbox probe --model path/to/gpt2 --prompts labelled.jsonl --activations acts")]
    Probe = "probe";
}

impl Common {
    fn run(self, analysis: &str) -> Result<()> {
        let outcomes = self.work(analysis)?;
        self.tell(&outcomes)
    }

    /// Runs the analysis, and writes its folder if one is asked for.
    pub(super) fn work(&self, analysis: &str) -> Result<Vec<Outcome>> {
        if self.format.format == Format::Parquet && self.folder.out.is_none() {
            return Err(Error::usage(
                "parquet is no text to print",
                "add `--out DIR`, or choose csv or json",
            ));
        }
        if self.folder.resume && self.folder.out.is_none() {
            return Err(Error::usage(
                "`--resume` continues a run folder, and none is named",
                "give the folder of the unfinished run with `--out`",
            ));
        }
        if self.venue.venue.is_some() && self.folder.out.is_none() {
            return Err(Error::usage(
                "`--venue` is for the figures of a run folder, and none is named",
                "add `--out DIR`",
            ));
        }
        self.prompts.check()?;
        let threads = self.model.threads()?;
        let mut study = Study { steps: vec![Step::named(analysis)], ..self.model.study() };
        self.prompts.fill(&mut study);
        if let (None, Some(generator)) = (&self.prompts.task, &mut study.task.generate) {
            *generator = analysis::find(analysis)?.task.to_owned();
        }
        self.series.fill(&mut study);
        self.venue.fill(&mut study);
        for parameter in &self.parameters {
            study = study.set(&format!("{analysis}.{parameter}"))?;
        }
        let place = Place {
            out: self.folder.out.as_deref(),
            verb: analysis,
            model: &study.model,
            force: self.folder.force,
            resume: self.folder.resume,
        };
        let folder = if self.folder.out.is_some() { Some(Folder::create(&place)?) } else { None };
        let mut lab = self.model.open(&study)?;
        lab.journal = folder.as_ref().map(|folder| folder.journal() as _);
        // no prompts are read: a model that knows none of the default task's words has these scores too
        let none = matches!(analysis, "heads" | "weights") && self.prompts.is_default();
        let task = if none { Task::default() } else { study.task(&lab)? };
        task.notes.iter().for_each(|note| self.model.say(note));
        if self.plan.dry_run {
            self.model.plan(&study, lab, &task, self.format.format)?;
            return Ok(Vec::new());
        }
        let outcomes = match folder {
            None => study.run(&lab, &task)?,
            Some(mut folder) => {
                let outcomes = report::run(&study, &lab, &task, &mut folder)?;
                let run = report::Run { study: &study, lab: &lab, task: &task, outcomes: &outcomes, threads };
                report::write(&run, &mut folder)?;
                self.model.went_on(&folder);
                let path = folder.finish(&report::manifest(&study, &lab, &task, threads))?;
                self.model.say(&format!("wrote {}", path.display()));
                outcomes
            }
        };
        self.model.remark(&lab);
        Ok(outcomes)
    }

    /// Prints the table asked for, and what is to be said beside it.
    pub(super) fn tell(&self, outcomes: &[Outcome]) -> Result<()> {
        outcomes.iter().try_for_each(|outcome| self.show(outcome))
    }

    fn show(&self, outcome: &Outcome) -> Result<()> {
        if let Some(why) = &outcome.skipped {
            return Err(Error::usage(why.clone(), "see `--help` for examples"));
        }
        let tables = &outcome.findings.tables;
        let names = || tables.iter().map(|table| table.name.as_str());
        let chosen = match &self.table {
            None => tables.first(),
            Some(name) => Some(
                tables
                    .iter()
                    .find(|table| &table.name == name)
                    .ok_or_else(|| Error::unknown("table", name, names()))?,
            ),
        };
        if let (Some(rows), true) = (chosen, self.format.format != Format::Parquet) {
            print(&table::write(rows, self.format.format)?)?;
        }
        outcome.findings.notes.iter().for_each(|note| self.model.say(note));
        if self.table.is_none() && tables.len() > 1 && self.format.format == Format::Table {
            let others: Vec<&str> = names().skip(1).collect();
            self.model.say(&format!("more with --table: {}", others.join(", ")));
        }
        Ok(())
    }
}
