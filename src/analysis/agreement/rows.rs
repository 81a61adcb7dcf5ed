//! The tables of agreement.

crate::row! {
    /// One component that was patched exactly, beside what an approximation says of it.
    pub struct AgreementRow {
        /// What is ranked: head, position, neuron, edge.
        pub grain: String,
        /// The activation.
        pub site: String,
        /// `denoise` or `noise`: both numbers are of this direction.
        pub direction: String,
        /// The approximation.
        pub method: String,
        /// False where the approximation gives sizes only; then `exact` is the mean |effect| over examples.
        pub signed: bool,
        /// The component.
        pub component: String,
        /// Effect by the approximation, as a share of the gap.
        pub approx: f64,
        /// Effect by exact patching, as a share of the gap.
        pub exact: f64,
        /// Lower end of the exact effect's 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of the exact effect's 95 % interval.
        pub ci_hi: Option<f64>,
        /// The approximation minus the exact effect.
        pub error: f64,
        /// Place by size among all components of the ranking; equals share one.
        pub approx_rank: usize,
        /// Place by size of the exact effect among the components that were checked.
        pub exact_rank: usize,
        /// Whether it was checked because it was drawn at random from the rest, not because it ranks high.
        pub drawn: bool,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// How far one approximation of one ranking agrees with exact patching.
    pub struct SummaryRow {
        /// What is ranked: head, position, neuron, edge.
        pub grain: String,
        /// The activation.
        pub site: String,
        /// `denoise` or `noise`.
        pub direction: String,
        /// The approximation.
        pub method: String,
        /// Components in the ranking.
        pub components: usize,
        /// How many of them were patched exactly.
        pub checked: usize,
        /// How many largest make the top.
        pub top: usize,
        /// Pearson's correlation with the exact effects: over all components where all were checked, else over the top. None
        /// where one side does not vary.
        pub pearson: Option<f64>,
        /// Lower end of its 95 % interval.
        pub pearson_lo: Option<f64>,
        /// Upper end of its 95 % interval.
        pub pearson_hi: Option<f64>,
        /// Spearman's rank correlation, over the same.
        pub spearman: Option<f64>,
        /// Lower end of its 95 % interval.
        pub spearman_lo: Option<f64>,
        /// Upper end of its 95 % interval.
        pub spearman_hi: Option<f64>,
        /// Pearson's correlation over the top alone.
        pub pearson_top: Option<f64>,
        /// Spearman's over the top alone.
        pub spearman_top: Option<f64>,
        /// The largest |approximation − exact effect| in the top.
        pub worst_error: f64,
        /// Components of the top whose effect has the other sign.
        pub sign_disagreements: usize,
        /// Components of the exact top that are not in the approximation's. None where not all were patched.
        pub misses: Option<usize>,
        /// With 95 % confidence the misses are no more than this, by the random sample. None where misses are known, or nothing
        /// was drawn.
        pub misses_at_most: Option<usize>,
        /// The misses that were seen.
        pub missed: String,
        /// Examples.
        pub n: usize,
    }
}
