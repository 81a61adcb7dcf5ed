//! The rows of circuits' tables.

crate::row! {
    /// One number about the circuit.
    pub struct SummaryRow {
        /// What.
        pub measure: String,
        /// How much.
        pub value: f64,
        /// Lower end of its 95 % interval over examples (or, of overlaps, over resamples).
        pub ci_lo: Option<f64>,
        /// Upper end.
        pub ci_hi: Option<f64>,
        /// Over how many examples, edges, nodes or resamples.
        pub n: usize,
        /// What the number says.
        pub meaning: String,
    }
}

crate::row! {
    /// An edge of the circuit.
    pub struct EdgeRow {
        /// Its name: `a5.h5->a9.h9<q>`.
        pub edge: String,
        /// Who writes.
        pub from: String,
        /// Who reads.
        pub to: String,
        /// `q`, `k` or `v` of a head; empty for MLPs and logits.
        pub channel: String,
        /// Its score, if it was chosen by one: the share of the gap that is lost without it.
        pub effect: Option<f64>,
        /// Lower end of the score's 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of the score's 95 % interval.
        pub ci_hi: Option<f64>,
        /// The share of resamples of the prompts whose circuit has it.
        pub stability: Option<f64>,
        /// Whether the model's own description has it for this task, where there is one and it speaks of such edges.
        pub known: Option<bool>,
    }
}

crate::row! {
    /// A node of the circuit.
    pub struct NodeRow {
        /// `input`, `a9.h9`, `m3`.
        pub node: String,
        /// What it was designed to do on this task, where the model ships that.
        pub role: String,
        /// Edges of the circuit into it.
        pub edges_in: usize,
        /// Edges of the circuit out of it.
        pub edges_out: usize,
        /// Share of the gap that it adds to the circuit, where it adds most (minimality).
        pub adds: Option<f64>,
        /// Lower end of its 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of its 95 % interval.
        pub ci_hi: Option<f64>,
        /// Without which other nodes it adds that; `nothing`: in the whole circuit.
        pub beside: Option<String>,
    }
}

crate::row! {
    /// A circuit that was tried.
    pub struct SizeRow {
        /// By what edges were ordered: `absolute` (size of their score), `signed`, `random` (mean over several), `acdc`.
        pub order: String,
        /// The standard fraction of all edges that it stands for.
        pub fraction: Option<f64>,
        /// How many edges were asked for.
        pub asked: Option<usize>,
        /// ACDC's threshold.
        pub threshold: Option<f64>,
        /// Edges left after pruning.
        pub edges: f64,
        /// Share of all edges.
        pub share: f64,
        /// Nodes with an edge out of them.
        pub nodes: f64,
        /// The metric with everything else cut, mean over examples.
        pub raw: f64,
        /// (circuit − nothing) / (whole − nothing): 1 is the whole model.
        pub faithfulness: f64,
        /// Lower end of its 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of its 95 % interval.
        pub ci_hi: Option<f64>,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// The whole model and the circuit without the same nodes.
    pub struct CompleteRow {
        /// The nodes taken out of both.
        pub without: String,
        /// What is left of the whole model's behaviour, as a share of the gap.
        pub whole: f64,
        /// What is left of the circuit's.
        pub circuit: f64,
        /// |whole − circuit|, of means: 0 for a complete circuit.
        pub incompleteness: f64,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// A point of the curve of finding the known edges.
    pub struct RocRow {
        /// The method.
        pub method: String,
        /// Edges found that are not known, of all that are not known.
        pub false_positives: f64,
        /// Known edges found, of all known.
        pub true_positives: f64,
    }
}

crate::row! {
    /// One example.
    pub struct ExampleRow {
        /// The example.
        pub example: String,
        /// The metric of the whole model.
        pub whole: f64,
        /// With every edge cut.
        pub nothing: f64,
        /// With every edge outside the circuit cut.
        pub circuit: f64,
        /// What the circuit keeps, divided by the mean gap: the mean over examples is its faithfulness.
        pub faithfulness: f64,
    }
}
