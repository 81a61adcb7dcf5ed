//! What was measured, as rows.

use std::collections::BTreeSet;

use super::Probe;
use super::measure::{Compared, Measured, Units, median};
use super::question::{Question, Spot};
use super::tables::{CodeLength, Reading, Said, Score, Selectivity, Use};
use super::using::Used;
use crate::analysis::Findings;
use crate::row::Rows;
use crate::stats::Estimate;

/// What stands for all prompts where others stand for a group.
const ALL: &str = "all";

/// Groups of prompts that interventions are told apart by, at most.
const MOST_GROUPS: usize = 8;

pub(super) fn findings(probe: &Probe, question: &Question, measured: &[Measured], used: &[Used]) -> Findings {
    let at = |one: &Measured| &question.spots[one.spot];
    let uses: Vec<Use> = used.iter().flat_map(|one| uses(question, measured, one)).collect();
    let mut readings: Vec<Reading> = measured.iter().map(|one| reading(question, one)).collect();
    let over_all = uses.iter().filter(|one| one.group == ALL);
    readings.iter_mut().zip(over_all).for_each(|(reading, one)| reading.used = one.used);
    let scores: Vec<Score> = measured.iter().flat_map(|one| scores(question, one)).collect();
    let control = measured.iter().filter_map(|one| selectivity(question, one)).collect::<Vec<_>>();
    let code = measured.iter().filter_map(|one| {
        let (code, spot) = (one.code?, at(one));
        Some(CodeLength {
            site: spot.name.clone(),
            layer: spot.layer,
            depth: spot.depth,
            pos: position(question, spot),
            bits: code.bits,
            uniform: code.uniform,
            compression: code.uniform / code.bits,
            penalty: code.penalty,
            n: question.y.len(),
        })
    });
    let mut tables = vec![
        Rows::of("probe", &readings),
        Rows::of("probe_scores", &scores),
        Rows::of("probe_control", &control),
        Rows::of("probe_code", &code.collect::<Vec<_>>()),
    ];
    if probe.intervene {
        tables.push(Rows::of("probe_use", &uses));
    }
    tables.push(Rows::of(
        "examples_probe",
        &measured.iter().flat_map(|one| said(question, one)).collect::<Vec<_>>(),
    ));
    Findings { tables, notes: notes(probe, question, measured), ..Findings::default() }
}

fn position(question: &Question, spot: &Spot) -> String {
    question.columns[spot.place].place.label.clone()
}

fn reading(question: &Question, one: &Measured) -> Reading {
    let spot = &question.spots[one.spot];
    let Estimate { value, lo, hi, .. } = one.accuracy;
    let most = one.shuffled.iter().copied().fold(0.0, f64::max);
    let level = |compared: &Option<Compared>| {
        compared.as_ref().is_some_and(|c| c.advantage.lo.is_none_or(|lo| lo <= 0.0))
    };
    let under = |bar: f64| lo.is_none_or(|lo| lo <= bar);
    let not_above: Vec<&str> = [
        (under(one.majority), "majority"),
        (under(most), "shuffled"),
        (level(&one.embedding), "embedding"),
        (level(&one.random), "random weights"),
    ]
    .into_iter()
    .filter_map(|(fails, name)| fails.then_some(name))
    .collect();
    Reading {
        site: spot.name.clone(),
        layer: spot.layer,
        pos: position(question, spot),
        method: one.method.name().to_owned(),
        accuracy: value,
        ci_lo: lo,
        ci_hi: hi,
        auroc: one.auroc.value,
        majority: one.majority,
        shuffled: one.shuffled.iter().sum::<f64>() / one.shuffled.len() as f64,
        embedding: one.embedding.as_ref().map(|c| c.accuracy),
        random_weights: one.random.as_ref().map(|c| c.accuracy),
        selectivity: one.control.as_ref().map(|c| c.selectivity.value),
        compression: one.code.map(|code| code.uniform / code.bits),
        used: None,
        not_above: (!not_above.is_empty()).then(|| not_above.join(", ")),
        n: question.y.len(),
        depth: spot.depth,
        label: question.label.clone(),
    }
}

fn scores(question: &Question, one: &Measured) -> Vec<Score> {
    let spot = &question.spots[one.spot];
    let penalty = median(&one.held.penalties());
    let shuffled = Estimate {
        value: one.shuffled.iter().sum::<f64>() / one.shuffled.len() as f64,
        lo: one.shuffled.iter().copied().reduce(f64::min),
        hi: one.shuffled.iter().copied().reduce(f64::max),
        n: one.shuffled.len(),
    };
    [
        ("accuracy", one.accuracy),
        ("balanced accuracy", one.balanced),
        ("auroc", one.auroc),
        ("accuracy, labels shuffled (least to most)", shuffled),
    ]
    .into_iter()
    .chain(one.embedding.as_ref().map(|c| ("accuracy above the embeddings", c.advantage)))
    .chain(one.random.as_ref().map(|c| ("accuracy above random weights", c.advantage)))
    .map(|(score, estimate)| Score {
        site: spot.name.clone(),
        layer: spot.layer,
        pos: position(question, spot),
        method: one.method.name().to_owned(),
        score: score.to_owned(),
        value: estimate.value,
        ci_lo: estimate.lo,
        ci_hi: estimate.hi,
        classes: question.classes.len(),
        penalty: penalty.is_finite().then_some(penalty),
        folds: one.folds.count,
        groups: one.accuracy.n,
        n: question.y.len(),
    })
    .collect()
}

fn selectivity(question: &Question, one: &Measured) -> Option<Selectivity> {
    let (control, spot) = (one.control.as_ref()?, &question.spots[one.spot]);
    Some(Selectivity {
        site: spot.name.clone(),
        layer: spot.layer,
        depth: spot.depth,
        pos: position(question, spot),
        method: one.method.name().to_owned(),
        task: control.task.value,
        task_ci_lo: control.task.lo,
        task_ci_hi: control.task.hi,
        control: control.control.value,
        control_ci_lo: control.control.lo,
        control_ci_hi: control.control.hi,
        selectivity: control.selectivity.value,
        selectivity_ci_lo: control.selectivity.lo,
        selectivity_ci_hi: control.selectivity.hi,
        types: control.types,
        n: control.n,
    })
}

/// One row over all prompts, and one for each of their groups where there are a few.
fn uses(question: &Question, measured: &[Measured], used: &Used) -> Vec<Use> {
    let one = &measured[used.measured];
    let spot = &question.spots[one.spot];
    let held = &question.columns[spot.place].groups;
    let group = |row: usize| question.task.examples[question.kept[row]].group.as_str();
    let names: BTreeSet<&str> = (0..question.kept.len()).map(group).collect();
    let each = if (2..=MOST_GROUPS).contains(&names.len()) { names } else { BTreeSet::new() };
    let parts = std::iter::once(None).chain(each.into_iter().map(Some));
    parts
        .map(|name| {
            let rows: Vec<usize> =
                (0..question.kept.len()).filter(|&row| name.is_none_or(|name| group(row) == name)).collect();
            let units = Units::new(&rows.iter().map(|&row| held[row]).collect::<Vec<_>>(), one.seed);
            let over = |value: &dyn Fn(usize) -> f64| {
                units.mean(&rows.iter().map(|&row| value(row)).collect::<Vec<_>>())
            };
            let before = over(&|row| used.before[row][0]).value;
            let change = over(&|row| used.after[row][0] - used.before[row][0]);
            let random = over(&|row| used.random[row][0] - used.before[row][0]);
            let specific = over(&|row| used.after[row][0] - used.random[row][0]);
            Use {
                site: spot.name.clone(),
                layer: spot.layer,
                depth: spot.depth,
                pos: position(question, spot),
                method: one.method.name().to_owned(),
                group: name.unwrap_or(ALL).to_owned(),
                before,
                change: change.value,
                ci_lo: change.lo,
                ci_hi: change.hi,
                random: random.value,
                random_ci_lo: random.lo,
                random_ci_hi: random.hi,
                specific: specific.value,
                specific_ci_lo: specific.lo,
                specific_ci_hi: specific.hi,
                used: is_used(before, &change, &random, &specific).filter(|_| reads(one)),
                accuracy_before: over(&|row| used.before[row][1]).value,
                accuracy_after: over(&|row| used.after[row][1]).value,
                accuracy_random: over(&|row| used.random[row][1]).value,
                rank: used.rank,
                moved: over(&|row| used.moved[row]).value,
                n: rows.len(),
            }
        })
        .collect()
}

/// Whether taking out what a probe reads does more than random changes: it moves the metric, further than they do and the same
/// way or against them, and the difference is clear.
fn is_used(before: f64, change: &Estimate, random: &Estimate, specific: &Estimate) -> Option<bool> {
    let clear = |one: &Estimate| Some(one.lo? > 0.0 || one.hi? < 0.0);
    let further = change.value.abs() > random.value.abs();
    // rounding alone moves the metric a little, and always alike
    let matters = specific.value.abs() >= 0.01 * before.abs();
    Some(clear(change)? && clear(specific)? && further && matters)
}

/// Whether the probe reads anything: where it does no better than the most frequent class or shuffled labels, its direction
/// means nothing, and taking it out says nothing about the label.
fn reads(one: &Measured) -> bool {
    let most = one.shuffled.iter().copied().fold(one.majority, f64::max);
    one.accuracy.lo.is_some_and(|lo| lo > most)
}

fn said(question: &Question, one: &Measured) -> Vec<Said> {
    let spot = &question.spots[one.spot];
    let groups = &question.columns[spot.place].groups;
    question
        .kept
        .iter()
        .enumerate()
        .map(|(row, &i)| Said {
            example: question.task.examples[i].id.clone(),
            site: spot.name.clone(),
            layer: spot.layer,
            pos: position(question, spot),
            method: one.method.name().to_owned(),
            label: question.classes[question.y[row]].clone(),
            predicted: question.classes[one.held.predicted[row]].clone(),
            score: one.held.scores.row(row)[question.y[row]],
            fold: one.folds.of[row],
            group: groups[row],
        })
        .collect()
}

/// What must be known to read the tables, and what went wrong.
fn notes(probe: &Probe, question: &Question, measured: &[Measured]) -> Vec<String> {
    let mut notes = question.notes.clone();
    let groups = question.columns.iter().map(|column| {
        let count = column.groups.iter().max().map_or(0, |most| most + 1);
        format!("{count} at `{}`", column.place.label)
    });
    notes.push(format!(
        "The probes read `{}` ({} classes). Held out together: examples of one {}, joined where their tokens up to the \
         position are the same; groups: {}.",
        question.label,
        question.classes.len(),
        question.held_out_by(),
        groups.collect::<Vec<_>>().join(", ")
    ));
    let stuck = measured.iter().flat_map(|one| &one.held.fits).filter(|fit| !fit.converged).count();
    if stuck > 0 {
        notes.push(format!(
            "{stuck} fit(s) did not reach their optimum: their numbers are those of the last step."
        ));
    }
    for (place, column) in question.columns.iter().enumerate() {
        let here = |one: &&Measured| question.spots[one.spot].place == place;
        if let Some(one) = measured.iter().find(here).filter(|one| one.unseen > 0) {
            notes.push(format!(
                "At `{}`, {} example(s) are of a class that their training part lacks, and count as not recognised.",
                column.place.label, one.unseen
            ));
        }
        if measured.iter().find(here).is_some_and(|one| one.control.is_none()) {
            notes.push(format!(
                "At `{}` there is no control task: fewer than two types occur more than once.",
                column.place.label
            ));
        }
    }
    if probe.random_weights {
        notes.push(
            "Random weights: every tensor is drawn anew, embeddings included, and the probe is fitted anew."
                .to_owned(),
        );
    }
    if probe.intervene {
        notes.push(
            "Interventions take out the subspace that a probe reads, about the mean activation, with the probe of the fold \
             that did not see the prompt; random changes are as long, prompt by prompt, in subspaces drawn evenly over all \
             directions. What a probe reads lies where activations vary, so that a part of the difference may be no more than \
             that; where a probe reads nothing, `used` stays empty."
                .to_owned(),
        );
    }
    notes
}
