//! The table of components: effects, roles, ranks, and what stands out.

use super::{Against, Components, Measured, Replaced};
use crate::analysis::Findings;
use crate::analysis::attribution::bent;
use crate::component::Component;
use crate::groups::{Group, Together};
use crate::lab::Lab;
use crate::lesion::Part;
use crate::row::Rows;
use crate::stats::{Bootstrap, Estimate, sign_flips};
use crate::task::Task;

/// An effect is worth a remark from this share of the largest effect of any head or MLP on.
const NOTABLE: f64 = 0.1;
/// An effect counts as missing below this share of the one it stands beside.
const MISSING: f64 = 0.2;

crate::row! {
    /// Direct and total effect of one component.
    pub struct ComponentRow {
        /// `embed`, `pos_embed`, `a9.h6`, `a9.b_O`, `m10`.
        pub component: String,
        /// What it was designed to do on this task, where the model ships that.
        pub role: String,
        /// Effect on the logit difference (logits) on the straight path to the logits, final divisor frozen.
        pub direct: f64,
        /// Lower end of the direct effect's 95 % interval.
        pub direct_ci_lo: Option<f64>,
        /// Upper end of the direct effect's 95 % interval.
        pub direct_ci_hi: Option<f64>,
        /// Loss of logit difference (logits) when only this component is replaced and later ones respond.
        pub total: f64,
        /// Lower end of the total effect's 95 % interval.
        pub total_ci_lo: Option<f64>,
        /// Upper end of the total effect's 95 % interval.
        pub total_ci_hi: Option<f64>,
        /// Examples.
        pub n: usize,
        /// 1 is the largest |total|; equals in order of execution.
        pub rank: usize,
        /// Which effect is missing beside the other: below a fifth of it, it being a tenth of the largest or more.
        pub note: String,
        /// Sign-flip p-value of the total effect being 0: none below 13 prompts.
        pub p: Option<f64>,
        /// Its q-value among all components (false-discovery rate, Benjamini–Hochberg).
        pub q: Option<f64>,
        /// Whether the total effect is a twentieth of the largest or more, and its interval excludes 0.
        pub notable: bool,
    }
}

crate::row! {
    /// A set replaced as a whole, beside the sum of its parts.
    pub struct SetRow {
        /// The set.
        pub set: String,
        /// Its parts.
        pub parts: String,
        /// Loss of logit difference (logits) when all of them are replaced together.
        pub total: f64,
        /// Lower end of the total effect's 95 % interval.
        pub total_ci_lo: Option<f64>,
        /// Upper end of the total effect's 95 % interval.
        pub total_ci_hi: Option<f64>,
        /// Sum of the total effects when each is replaced alone.
        pub sum_of_parts: f64,
        /// The whole minus the sum.
        pub interaction: f64,
        /// Lower end of the interaction's 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of the interaction's 95 % interval.
        pub ci_hi: Option<f64>,
        /// Examples.
        pub n: usize,
        /// Sign-flip p-value of the interaction being 0 (none below 13 prompts).
        pub p: Option<f64>,
    }
}

crate::row! {
    /// Direct and total effect of one component on one example.
    pub struct ExampleRow {
        /// The example.
        pub example: String,
        /// The component.
        pub component: String,
        /// Direct effect (logits).
        pub direct: f64,
        /// Total effect (logits).
        pub total: f64,
    }
}

/// Tables and notes from what was measured.
pub(super) fn findings(
    analysis: &Components,
    lab: &Lab,
    task: &Task,
    (components, replaced): (&[Component], &Replaced),
    measured: &Measured,
) -> Findings {
    let units = task.units();
    let bootstrap = Bootstrap::grouped(&units, lab.seed);
    let effects = |values: &[Vec<f64>]| -> Vec<Estimate> {
        values.iter().map(|values| bootstrap.mean(values)).collect()
    };
    let (direct, swapped) = (effects(&measured.direct), effects(&measured.swapped));
    let total = effects(&measured.total);
    let inner = components.iter().zip(swapped.iter().zip(&total)).filter(|(c, _)| c.layer().is_some());
    let largest = inner.map(|(_, (a, b))| a.value.abs().max(b.value.abs())).fold(0.0, f64::max);

    let totals: Vec<&[f64]> = measured.total.iter().map(Vec::as_slice).collect();
    let [p, q] = sign_flips(&totals, &units, lab.seed);
    let least = analysis.notable * total.iter().map(|total| total.value.abs()).fold(0.0, f64::max);

    let mut order: Vec<usize> = (0..components.len()).collect();
    order.sort_by(|&a, &b| total[b].value.abs().total_cmp(&total[a].value.abs()).then(a.cmp(&b)));
    let row = |(place, &i): (usize, &usize)| ComponentRow {
        component: components[i].to_string(),
        role: components[i].role(lab.about.circuit.as_ref(), &task.name),
        direct: direct[i].value,
        direct_ci_lo: direct[i].lo,
        direct_ci_hi: direct[i].hi,
        total: total[i].value,
        total_ci_lo: total[i].lo,
        total_ci_hi: total[i].hi,
        n: total[i].n,
        rank: place + 1,
        note: remark(direct[i].value, swapped[i].value, total[i].value, largest).to_owned(),
        p: p[i],
        q: q[i],
        notable: total[i].is_notable(least),
    };
    let table: Vec<ComponentRow> = order.iter().enumerate().map(row).collect();
    let mut examples = Vec::new();
    for (i, example) in task.examples.iter().enumerate() {
        for (c, component) in components.iter().enumerate() {
            let (example, component) = (example.id.clone(), component.to_string());
            let (direct, total) = (measured.direct[c][i], measured.total[c][i]);
            examples.push(ExampleRow { example, component, direct, total });
        }
    }
    let mut tables = vec![Rows::of("components", &table)];
    let sets = sets(components, replaced, measured, &bootstrap, (&units, lab.seed));
    if !sets.is_empty() {
        tables.push(Rows::of("components_set", &sets));
    }
    tables.push(Rows::of("examples_components", &examples));
    Findings { tables, notes: notes(lab, measured), ..Findings::default() }
}

/// Each set beside its parts.
fn sets(
    components: &[Component],
    replaced: &Replaced,
    measured: &Measured,
    bootstrap: &Bootstrap,
    draws: (&[usize], u64),
) -> Vec<SetRow> {
    let alone = |part: &Part| {
        let component = components.iter().position(|component| Part::from(*component) == *part);
        let target = || replaced.targets.iter().skip(replaced.sets.len()).position(|parts| parts == &[*part]);
        match component {
            Some(component) => measured.total.get(component),
            None => measured.sets.get(replaced.sets.len() + target()?),
        }
    };
    let row = |(set, whole): (&Group, &Vec<f64>)| {
        let parts: Vec<&[f64]> = set.parts.iter().filter_map(alone).map(Vec::as_slice).collect();
        let found = Together::of(whole, &parts, None, bootstrap, draws);
        SetRow {
            set: set.name.clone(),
            parts: set.parts.iter().map(Part::to_string).collect::<Vec<_>>().join(" "),
            total: found.whole.value,
            total_ci_lo: found.whole.lo,
            total_ci_hi: found.whole.hi,
            sum_of_parts: found.sum,
            interaction: found.interaction.value,
            ci_lo: found.interaction.lo,
            ci_hi: found.interaction.hi,
            n: found.whole.n,
            p: found.p,
        }
    };
    replaced.sets.iter().zip(&measured.sets).map(row).collect()
}

/// What stands out when direct and total effect of one swap are compared. `direct` differs from `swapped` only without
/// pairs, where it is the attribution itself.
fn remark(direct: f64, swapped: f64, total: f64, largest: f64) -> &'static str {
    let alone = |a: f64, b: f64| a.abs() >= NOTABLE * largest && largest > 0.0 && b.abs() < MISSING * a.abs();
    if alone(total, swapped) {
        "indirect: works mostly through later components"
    } else if alone(swapped, total) {
        "direct: compensated or overwritten elsewhere"
    } else if alone(direct, swapped) {
        "constant: writes the same on the reference prompts"
    } else {
        ""
    }
}

fn notes(lab: &Lab, measured: &Measured) -> Vec<String> {
    let what = match measured.against {
        Against::Corrupt => "direct and total effect are of one swap: the component takes the value it has on the \
                             corrupt prompt (heads at z, at all positions); total = clean logit difference − logit \
                             difference after the swap (noising)"
            .to_owned(),
        Against::Mean { sequences, given, by_position } => {
            let over = if by_position { "at each position over" } else { "over all positions of" };
            let source = if given { "reference prompts" } else { "random sequences over the vocabulary" };
            format!(
                "without corrupt prompts, direct is the attribution itself, and total the loss of logit difference \
                 when the component is set to its mean {over} {sequences} {source}"
            )
        }
    };
    let frozen = "direct effects hold the final norm's divisor fixed; total effects let every norm respond";
    let mut notes = vec![what, frozen.to_owned()];
    notes.extend(bent(&lab.model));
    notes
}
