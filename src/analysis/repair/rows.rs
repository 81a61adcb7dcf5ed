//! The tables of self-repair.

use rayon::prelude::*;

use super::{Ablated, Measured};
use crate::analysis::Findings;
use crate::analysis::attribution::bent;
use crate::component::Component;
use crate::groups::Together;
use crate::lab::Lab;
use crate::model::Transformer;
use crate::row::Rows;
use crate::stats::{Bootstrap, Estimate, false_discovery, mean, sign_flip};
use crate::task::Task;

/// A mean direct effect below this share of the logit difference (or so many logits, if that is less than 1) is nothing that could
/// be repaired.
const LEAST: f64 = 0.02;

crate::row! {
    /// One component, or several, taken out: lost + indirect − self_repair − scale = total.
    pub struct RepairRow {
        /// What was taken out.
        pub ablated: String,
        /// What it was designed to do on this task, where the model ships that.
        pub role: String,
        /// What took its place: `resample`, `mean` or `zero`.
        pub kind: String,
        /// Its direct effect that is gone (logits), the norms' divisors held.
        pub lost: f64,
        /// How far the logit difference falls, everything after it recomputed.
        pub total: f64,
        /// What later components whose direct effect changes against the lost one make up for; it has the sign of `lost`.
        pub self_repair: f64,
        /// The same as a share of the lost effect; missing where the loss is below 2 % of the logit difference or its interval holds 0.
        pub share: Option<f64>,
        /// What later components lose along with it: an indirect effect, no repair.
        pub indirect: f64,
        /// What the norms' own divisors, the final one's above all, make up for.
        pub scale: f64,
        /// Lower end of the 95 % interval of `lost`.
        pub lost_ci_lo: Option<f64>,
        /// Upper end of the 95 % interval of `lost`.
        pub lost_ci_hi: Option<f64>,
        /// Lower end of the 95 % interval of `total`.
        pub total_ci_lo: Option<f64>,
        /// Upper end of the 95 % interval of `total`.
        pub total_ci_hi: Option<f64>,
        /// Lower end of the 95 % interval of `self_repair`.
        pub self_repair_ci_lo: Option<f64>,
        /// Upper end of the 95 % interval of `self_repair`.
        pub self_repair_ci_hi: Option<f64>,
        /// Lower end of the 95 % interval of `scale`.
        pub scale_ci_lo: Option<f64>,
        /// Upper end of the 95 % interval of `scale`.
        pub scale_ci_hi: Option<f64>,
        /// Lower end of the 95 % interval of `indirect`.
        pub indirect_ci_lo: Option<f64>,
        /// Upper end of the 95 % interval of `indirect`.
        pub indirect_ci_hi: Option<f64>,
        /// p-value of lost − total, all that happened elsewhere, being 0 (sign flips over prompts).
        pub p: Option<f64>,
        /// The same with the false discoveries among all rows controlled.
        pub q: Option<f64>,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// What one later component does about one that is taken out.
    pub struct LaterRow {
        /// What was taken out.
        pub ablated: String,
        /// What took its place.
        pub kind: String,
        /// The later component.
        pub component: String,
        /// Its layer.
        pub layer: Option<usize>,
        /// Its head.
        pub head: Option<usize>,
        /// Its direct effect in the whole run (logits), mean over examples.
        pub whole: f64,
        /// Its direct effect in the ablated run, with that run's own divisors.
        pub after: f64,
        /// By how much it changed, the norms' divisors held at the whole run's.
        pub change: f64,
        /// Lower end of the change's 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of the change's 95 % interval.
        pub ci_hi: Option<f64>,
        /// By how much the norms' own divisors changed it besides: whole + change + scale = after.
        pub scale: f64,
        /// `backup` (it does what the lost one did), `relief` (it worked against the answer the lost one worked for, and does so
        /// less), `indirect` (it changes along with the lost one); nothing where it does not change.
        pub how: Option<String>,
        /// p-value of the change being 0 (sign flips over prompts).
        pub p: Option<f64>,
        /// The same with the false discoveries among all rows controlled.
        pub q: Option<f64>,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// A set as a whole beside the sum of its parts, each taken out alone.
    pub struct SetRow {
        /// The set.
        pub set: String,
        /// Its parts.
        pub parts: String,
        /// What took their place.
        pub kind: String,
        /// How far the logit difference falls when all of them are taken out together.
        pub total: f64,
        /// Lower end of its 95 % interval.
        pub total_ci_lo: Option<f64>,
        /// Upper end of its 95 % interval.
        pub total_ci_hi: Option<f64>,
        /// Sum of the falls when each is taken out alone.
        pub sum_of_parts: f64,
        /// The whole minus the sum: above 0 where parts stand in for each other.
        pub interaction: f64,
        /// Lower end of the interaction's 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of the interaction's 95 % interval.
        pub ci_hi: Option<f64>,
        /// p-value of the interaction being 0 (sign flips over prompts).
        pub p: Option<f64>,
        /// Examples.
        pub n: usize,
    }
}

crate::row! {
    /// One ablation of one example.
    pub struct ExampleRow {
        /// The example.
        pub example: String,
        /// What was taken out.
        pub ablated: String,
        /// What took its place.
        pub kind: String,
        /// Its direct effect that is gone (logits).
        pub lost: f64,
        /// How far the logit difference falls.
        pub total: f64,
        /// What the components that repair on average make up for.
        pub self_repair: f64,
        /// What the norms' own divisors make up for.
        pub scale: f64,
        /// What the others lose along with it.
        pub indirect: f64,
    }
}

crate::row! {
    /// What one later component does in one example.
    pub struct ExampleLaterRow {
        /// The example.
        pub example: String,
        /// What was taken out.
        pub ablated: String,
        /// What took its place.
        pub kind: String,
        /// The later component.
        pub component: String,
        /// Change of its direct effect (logits), divisors held.
        pub change: f64,
        /// What the norms' own divisors changed besides.
        pub scale: f64,
    }
}

/// One later component.
struct Later {
    component: Component,
    /// By example: the change with divisors held, and what divisors change besides.
    change: Vec<f64>,
    scale: Vec<f64>,
    estimate: Estimate,
    whole: f64,
    after: f64,
    how: Option<&'static str>,
    p: Option<f64>,
}

/// One ablation, taken apart by example.
struct Account {
    lost: Vec<f64>,
    total: Vec<f64>,
    self_repair: Vec<f64>,
    scale: Vec<f64>,
    indirect: Vec<f64>,
    later: Vec<Later>,
    /// Whether so much was lost that it could be repaired.
    repairable: bool,
    p: Option<f64>,
}

impl Account {
    fn of(
        ablated: &Ablated,
        measured: &Measured,
        (components, model): (&[Component], &Transformer),
        (bootstrap, units, seed): (&Bootstrap, &[usize], u64),
    ) -> Account {
        let n = measured.logit_diff.len();
        let less = |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
        let plus = |sum: &mut Vec<f64>, values: &[f64], sign: f64| {
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += sign * value);
        };
        let none = || vec![0.0; n];
        let (mut lost, mut scale) = (none(), none());
        for (j, component) in components.iter().enumerate() {
            if ablated.taken.components.contains(component) {
                plus(&mut lost, &less(&measured.direct[j], &ablated.frozen[j]), 1.0);
            }
            plus(&mut scale, &less(&ablated.own[j], &ablated.frozen[j]), 1.0);
        }
        let direction = mean(&lost);
        // a loss that could as well be none, or the other way, has nothing that could take its place
        let certain = bootstrap.mean(&lost);
        let certain = certain.lo.zip(certain.hi).is_none_or(|(lo, hi)| lo > 0.0 || hi < 0.0);
        let repairable = certain && direction.abs() >= LEAST * mean(&measured.logit_diff).abs().max(1.0);
        let (mut self_repair, mut indirect, mut later) = (none(), none(), Vec::new());
        for (j, &component) in components.iter().enumerate() {
            if !ablated.taken.reaches(component, model) {
                continue;
            }
            let (whole, frozen, own) = (&measured.direct[j], &ablated.frozen[j], &ablated.own[j]);
            let (change, scale) = (less(frozen, whole), less(own, frozen));
            if change.iter().all(|x| *x == 0.0) {
                continue;
            }
            let (estimate, before) = (bootstrap.mean(&change), mean(whole));
            // the lost effect was worth `direction`: a change of that sign, and no larger, can take its place
            let repairs =
                repairable && estimate.value * direction > 0.0 && estimate.value.abs() <= direction.abs();
            let how = match estimate.value {
                0.0 => None,
                _ if !repairs => Some("indirect"),
                _ if before * direction < 0.0 => Some("relief"),
                _ => Some("backup"),
            };
            match repairs {
                true => plus(&mut self_repair, &change, 1.0),
                false => plus(&mut indirect, &change, -1.0),
            }
            let p = sign_flip(&change, units, seed);
            later.push(Later { component, estimate, whole: before, after: mean(own), how, p, change, scale });
        }
        let total = less(&measured.logit_diff, &ablated.logit_diff);
        let p = sign_flip(&less(&lost, &total), units, seed);
        Account { lost, total, self_repair, scale, indirect, later, repairable, p }
    }
}

/// Tables and notes from what was measured.
pub(super) fn findings(lab: &Lab, task: &Task, components: &[Component], measured: &Measured) -> Findings {
    let (n, units) = (task.examples.len(), task.units());
    let bootstrap = Bootstrap::grouped(&units, lab.seed);
    // each ablation is its own computation on shared draws: parallel and still the same numbers
    let accounts: Vec<Account> = measured
        .ablated
        .par_iter()
        .map(|ablated| {
            Account::of(ablated, measured, (components, &lab.model), (&bootstrap, &units, lab.seed))
        })
        .collect();
    let q = false_discovery(&accounts.iter().map(|account| account.p).collect::<Vec<_>>());
    let all_later: Vec<Option<f64>> =
        accounts.iter().flat_map(|account| account.later.iter().map(|later| later.p)).collect();
    let mut later_q = false_discovery(&all_later).into_iter();

    let (mut rows, mut laters) = (Vec::new(), Vec::new());
    let (mut examples, mut of_laters) = (Vec::new(), Vec::new());
    for (i, (ablated, account)) in measured.ablated.iter().zip(&accounts).enumerate() {
        let names = || (ablated.taken.name.clone(), ablated.kind.name().to_owned());
        let [lost, total, self_repair, scale, indirect] =
            [&account.lost, &account.total, &account.self_repair, &account.scale, &account.indirect]
                .map(|values| bootstrap.mean(values));
        let (name, kind) = names();
        rows.push(RepairRow {
            ablated: name,
            role: role(lab, task, ablated),
            kind,
            lost: lost.value,
            lost_ci_lo: lost.lo,
            lost_ci_hi: lost.hi,
            total: total.value,
            total_ci_lo: total.lo,
            total_ci_hi: total.hi,
            self_repair: self_repair.value,
            self_repair_ci_lo: self_repair.lo,
            self_repair_ci_hi: self_repair.hi,
            share: account.repairable.then_some(self_repair.value / lost.value),
            scale: scale.value,
            scale_ci_lo: scale.lo,
            scale_ci_hi: scale.hi,
            indirect: indirect.value,
            indirect_ci_lo: indirect.lo,
            indirect_ci_hi: indirect.hi,
            p: account.p,
            q: q[i],
            n,
        });
        for later in &account.later {
            let (ablated, kind) = names();
            laters.push(LaterRow {
                ablated,
                kind,
                component: later.component.to_string(),
                layer: later.component.layer(),
                head: later.component.head(),
                whole: later.whole,
                after: later.after,
                change: later.estimate.value,
                ci_lo: later.estimate.lo,
                ci_hi: later.estimate.hi,
                scale: mean(&later.scale),
                how: later.how.map(str::to_owned),
                p: later.p,
                q: later_q.next().flatten(),
                n,
            });
        }
        for (e, example) in task.examples.iter().enumerate() {
            let (name, kind) = names();
            examples.push(ExampleRow {
                example: example.id.clone(),
                ablated: name,
                kind,
                lost: account.lost[e],
                total: account.total[e],
                self_repair: account.self_repair[e],
                scale: account.scale[e],
                indirect: account.indirect[e],
            });
            for later in &account.later {
                let (ablated, kind) = names();
                of_laters.push(ExampleLaterRow {
                    example: example.id.clone(),
                    ablated,
                    kind,
                    component: later.component.to_string(),
                    change: later.change[e],
                    scale: later.scale[e],
                });
            }
        }
    }
    let mut tables = vec![Rows::of("repair", &rows), Rows::of("repair_later", &laters)];
    let sets = sets(measured, &accounts, &bootstrap, (&units, lab.seed));
    if !sets.is_empty() {
        tables.push(Rows::of("repair_set", &sets));
    }
    tables.push(Rows::of("examples_repair", &examples));
    tables.push(Rows::of("examples_repair_later", &of_laters));
    Findings { tables, notes: notes(lab, measured, &accounts), ..Findings::default() }
}

/// The sets with the sums of their parts' falls.
fn sets(
    measured: &Measured,
    accounts: &[Account],
    bootstrap: &Bootstrap,
    (units, seed): (&[usize], u64),
) -> Vec<SetRow> {
    let all = || measured.ablated.iter().zip(accounts);
    let row = |(set, account): (&Ablated, &Account)| {
        let alone = |part: &Component| -> Option<&[f64]> {
            let is = |ablated: &Ablated| {
                ablated.kind == set.kind && !ablated.taken.is_set && ablated.taken.components == [*part]
            };
            all().find(|(ablated, _)| is(ablated)).map(|(_, account)| account.total.as_slice())
        };
        let parts: Vec<&[f64]> = set.taken.components.iter().filter_map(alone).collect();
        let Together { whole, sum, interaction, p } =
            Together::of(&account.total, &parts, None, bootstrap, (units, seed));
        let names: Vec<String> = set.taken.components.iter().map(Component::to_string).collect();
        SetRow {
            set: set.taken.name.clone(),
            parts: names.join(" "),
            kind: set.kind.name().to_owned(),
            total: whole.value,
            total_ci_lo: whole.lo,
            total_ci_hi: whole.hi,
            sum_of_parts: sum,
            interaction: interaction.value,
            ci_lo: interaction.lo,
            ci_hi: interaction.hi,
            p,
            n: whole.n,
        }
    };
    all().filter(|(ablated, _)| ablated.taken.is_set).map(row).collect()
}

fn role(lab: &Lab, task: &Task, ablated: &Ablated) -> String {
    let circuit = lab.about.circuit.as_ref();
    let mut roles: Vec<String> =
        ablated.taken.components.iter().map(|component| component.role(circuit, &task.name)).collect();
    roles.retain(|role| !role.is_empty());
    roles.dedup();
    roles.join(", ")
}

fn notes(lab: &Lab, measured: &Measured, accounts: &[Account]) -> Vec<String> {
    let mut worst = 0.0f64;
    for account in accounts {
        for e in 0..account.total.len() {
            let sum = account.lost[e] + account.indirect[e] - account.self_repair[e] - account.scale[e];
            let residue = (sum - account.total[e]).abs();
            worst = if residue.is_nan() { residue } else { worst.max(residue) };
        }
    }
    let largest = measured.logit_diff.iter().fold(1.0, |m: f64, x| m.max(x.abs()));
    let mut notes = vec![format!(
        "lost + indirect − self_repair − scale = total: largest residue {worst:.1e}; logit difference of the whole runs {:.4}",
        mean(&measured.logit_diff)
    )];
    let small = worst <= 1e-3 * largest; // a NaN is not
    if !small {
        notes.push(format!(
            "error: the parts miss the fall of the logit difference by {worst:.1e}; do not use this table"
        ));
    }
    notes.push(
        "a later component repairs if the mean change of its direct effect has the sign of what was lost and is no larger; one that changes the \
         other way lost its input, and counts as an indirect effect. Which ones repair is decided on these same prompts, so that \
         many small changes add up to some repair by chance: `repair_later` has each with its interval"
            .to_owned(),
    );
    let unlost: Vec<&str> = measured
        .ablated
        .iter()
        .zip(accounts)
        .filter(|(_, account)| !account.repairable)
        .map(|(ablated, _)| ablated.taken.name.as_str())
        .collect();
    if !unlost.is_empty() {
        notes.push(format!(
            "{} had no direct effect to lose (below {LEAST} of the logit difference, or an interval that holds 0): all that changes later \
             is an indirect effect",
            unlost.join(", ")
        ));
    }
    notes.extend(measured.notes.iter().cloned());
    notes.extend(bent(&lab.model));
    notes
}
