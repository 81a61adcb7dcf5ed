//! The tables of a probe, column by column.

use crate::row;

row! {
    /// A probe beside what it is compared with.
    pub struct Reading {
        /// The site; `resid_pre` of layer 0 is the embeddings.
        pub site: String,
        /// Its layer.
        pub layer: usize,
        /// The position.
        pub pos: String,
        /// How the probe was fitted.
        pub method: String,
        /// Share of held-out examples that were recognised.
        pub accuracy: f64,
        /// Lower end of the 95 % bootstrap interval over groups that are held out together.
        pub ci_lo: Option<f64>,
        /// Upper end.
        pub ci_hi: Option<f64>,
        /// Area under the ROC curve, pairs within a fold, mean over classes against the rest.
        pub auroc: f64,
        /// Share of the most frequent class.
        pub majority: f64,
        /// Accuracy with shuffled labels, mean over the shuffles.
        pub shuffled: f64,
        /// Accuracy of the same method on the embeddings at this position.
        pub embedding: Option<f64>,
        /// Accuracy on a model of the same shape whose every weight is random.
        pub random_weights: Option<f64>,
        /// Accuracy minus that of a control task, where types recur: see `probe_control`.
        pub selectivity: Option<f64>,
        /// How many times shorter the labels are with the probe's help: see `probe_code`.
        pub compression: Option<f64>,
        /// Whether the model uses what the probe reads; empty where it reads nothing: see `probe_use`.
        pub used: Option<bool>,
        /// The baselines that the probe does not beat: by the interval, or by that of the difference on the same examples.
        pub not_above: Option<String>,
        /// How many examples.
        pub n: usize,
        /// Blocks whose output is in the stream there: 0 for the embeddings, a half where only the attention's is.
        pub depth: f64,
        /// What is read.
        pub label: String,
    }
}

row! {
    /// One score of one probe.
    pub struct Score {
        /// The site.
        pub site: String,
        /// Its layer.
        pub layer: usize,
        /// The position.
        pub pos: String,
        /// How the probe was fitted.
        pub method: String,
        /// Which score.
        pub score: String,
        /// Over held-out examples.
        pub value: f64,
        /// Lower end of the 95 % bootstrap interval over groups that are held out together.
        pub ci_lo: Option<f64>,
        /// Upper end.
        pub ci_hi: Option<f64>,
        /// How many classes.
        pub classes: usize,
        /// The penalty chosen inside the training part, median over the folds: C, α, or the share of shrinkage.
        pub penalty: Option<f64>,
        /// Folds.
        pub folds: usize,
        /// Groups that are held out together.
        pub groups: usize,
        /// How many examples.
        pub n: usize,
    }
}

row! {
    /// A probe and its control task (Hewitt & Liang 2019): labels drawn at random for each type. Every type that is asked about
    /// was also trained on, so that a probe can do well by remembering types alone.
    pub struct Selectivity {
        /// The site.
        pub site: String,
        /// Its layer.
        pub layer: usize,
        /// As in `probe`.
        pub depth: f64,
        /// The position.
        pub pos: String,
        /// How the probe was fitted.
        pub method: String,
        /// Accuracy on the task on these folds.
        pub task: f64,
        /// Lower end of its 95 % bootstrap interval over types.
        pub task_ci_lo: Option<f64>,
        /// Upper end.
        pub task_ci_hi: Option<f64>,
        /// Accuracy on the control task, mean over the draws.
        pub control: f64,
        /// Lower end of its interval.
        pub control_ci_lo: Option<f64>,
        /// Upper end.
        pub control_ci_hi: Option<f64>,
        /// The difference.
        pub selectivity: f64,
        /// Lower end of its interval.
        pub selectivity_ci_lo: Option<f64>,
        /// Upper end.
        pub selectivity_ci_hi: Option<f64>,
        /// Types that occur at least twice.
        pub types: usize,
        /// Examples of these types.
        pub n: usize,
    }
}

row! {
    /// The length of the labels in online code (Voita & Titov 2020), by a logistic probe.
    pub struct CodeLength {
        /// The site.
        pub site: String,
        /// Its layer.
        pub layer: usize,
        /// As in `probe`.
        pub depth: f64,
        /// The position.
        pub pos: String,
        /// Bits with the probe's help.
        pub bits: f64,
        /// Bits without: n·log₂ classes.
        pub uniform: f64,
        /// Their ratio, uniform / bits.
        pub compression: f64,
        /// The penalty C of the shortest code.
        pub penalty: f64,
        /// How many labels.
        pub n: usize,
    }
}

row! {
    /// What happens to the task when what a probe reads is taken out of the activation.
    pub struct Use {
        /// The site.
        pub site: String,
        /// Its layer.
        pub layer: usize,
        /// As in `probe`.
        pub depth: f64,
        /// The position.
        pub pos: String,
        /// How the probe was fitted.
        pub method: String,
        /// Which prompts: `all`, or those of one group.
        pub group: String,
        /// The metric in the model as it is.
        pub before: f64,
        /// Its change when the subspace is taken out.
        pub change: f64,
        /// Lower end of the 95 % bootstrap interval over groups that are held out together.
        pub ci_lo: Option<f64>,
        /// Upper end.
        pub ci_hi: Option<f64>,
        /// Its change when the activation is moved as far in random directions, mean over the draws.
        pub random: f64,
        /// Lower end of its interval.
        pub random_ci_lo: Option<f64>,
        /// Upper end.
        pub random_ci_hi: Option<f64>,
        /// Change minus random change.
        pub specific: f64,
        /// Lower end of its interval.
        pub specific_ci_lo: Option<f64>,
        /// Upper end.
        pub specific_ci_hi: Option<f64>,
        /// Whether the model uses what the probe reads: the change and its difference from random changes have intervals that
        /// exclude 0, it is the larger of the two, and the difference is a hundredth of the metric or more. Empty where the probe
        /// reads nothing: not above the most frequent class and every shuffle.
        pub used: Option<bool>,
        /// Share of prompts with the answer ahead of the wrong answer, in the model as it is.
        pub accuracy_before: f64,
        /// The same without the subspace.
        pub accuracy_after: f64,
        /// The same after random changes.
        pub accuracy_random: f64,
        /// Directions taken out.
        pub rank: usize,
        /// How far the activation was moved, as a share of its distance from the mean.
        pub moved: f64,
        /// How many prompts.
        pub n: usize,
    }
}

row! {
    /// What a probe said of one example while it was held out.
    pub struct Said {
        /// The example.
        pub example: String,
        /// The site.
        pub site: String,
        /// Its layer.
        pub layer: usize,
        /// The position.
        pub pos: String,
        /// How the probe was fitted.
        pub method: String,
        /// The example's label.
        pub label: String,
        /// The class with the highest score.
        pub predicted: String,
        /// The score of the example's own class: a probability where the method has one.
        pub score: f64,
        /// The fold in which it was held out.
        pub fold: usize,
        /// The group it was held out with.
        pub group: usize,
    }
}
