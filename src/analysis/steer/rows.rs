//! The tables: what each dose does beside what random directions do, what it costs, and what removing the direction does.

use std::collections::BTreeMap;

use super::measure::{AtPlace, Doses, Measured, Said};
use super::pairs::Pairs;
use super::{Place, Steer};
use crate::analysis::Findings;
use crate::lab::Lab;
use crate::row::Rows;
use crate::stats::{Bootstrap, Estimate, false_discovery, sign_flip};

crate::row! {
    /// One dose at one place.
    pub struct DoseRow {
        /// Where the direction was read and added.
        pub site: String,
        /// Layer of that site.
        pub layer: usize,
        /// What the direction was multiplied by.
        pub strength: f64,
        /// Change of the metric, mean over pairs (a pair's value is the mean over its two prompts).
        pub effect: f64,
        /// Lower end of the 95 % bootstrap interval over pairs.
        pub ci_lo: Option<f64>,
        /// Upper end.
        pub ci_hi: Option<f64>,
        /// p-value of the effect being 0 (sign flips over pairs); none at strength 0.
        pub p: Option<f64>,
        /// The same with the false discoveries among all doses and places controlled.
        pub q: Option<f64>,
        /// Probability of the positive answers.
        pub prob: f64,
        /// Change of the metric by random directions of the same norm: mean over them.
        pub random: f64,
        /// The lowest of them.
        pub random_lo: f64,
        /// The highest.
        pub random_hi: f64,
        /// KL(unsteered ‖ steered) on the same prompts (nats).
        pub kl: f64,
        /// How much the loss −log p(next token) grows on ordinary text (nats).
        pub loss: Option<f64>,
        /// How many pairs.
        pub n: usize,
    }
}

crate::row! {
    /// One dose of the direction, or of the random ones, as a curve.
    pub struct CurveRow {
        /// Where.
        pub site: String,
        /// Layer of that site.
        pub layer: usize,
        /// `steering vector` or `random directions`.
        pub direction: String,
        /// What the direction was multiplied by.
        pub strength: f64,
        /// Probability of the positive answers, mean over pairs.
        pub prob: f64,
        /// Lower end: of the 95 % interval over pairs, or the lowest of the random directions.
        pub prob_lo: Option<f64>,
        /// Upper end, likewise.
        pub prob_hi: Option<f64>,
        /// Change of the metric.
        pub effect: f64,
        /// Lower end, likewise.
        pub effect_lo: Option<f64>,
        /// Upper end, likewise.
        pub effect_hi: Option<f64>,
        /// KL(unsteered ‖ steered) on the same prompts (nats).
        pub kl: f64,
        /// Growth of the loss on ordinary text (nats).
        pub loss: Option<f64>,
        /// Lower end, likewise.
        pub loss_lo: Option<f64>,
        /// Upper end, likewise.
        pub loss_hi: Option<f64>,
        /// Pairs, or random directions.
        pub n: usize,
    }
}

crate::row! {
    /// The direction removed from the stream at every layer and position.
    pub struct RemovedRow {
        /// Where the direction was read.
        pub site: String,
        /// Layer of that site.
        pub layer: usize,
        /// Norm of the direction.
        pub norm: f64,
        /// The metric on positive prompts minus that on negative ones, with the model whole.
        pub gap: f64,
        /// The same with the direction removed.
        pub gap_removed: f64,
        /// Lower end of its 95 % bootstrap interval over pairs.
        pub ci_lo: Option<f64>,
        /// Upper end.
        pub ci_hi: Option<f64>,
        /// p-value of the removal changing nothing (sign flips over pairs).
        pub p: Option<f64>,
        /// The same with the false discoveries among all places controlled.
        pub q: Option<f64>,
        /// The same gap with a random direction removed: mean over them.
        pub gap_random: f64,
        /// The lowest of them.
        pub random_lo: f64,
        /// The highest.
        pub random_hi: f64,
        /// How much the loss grows on ordinary text with the direction removed (nats).
        pub loss: Option<f64>,
        /// How many pairs.
        pub n: usize,
    }
}

crate::row! {
    /// A share of the direction, or of the random ones, removed from the stream at every layer and position, as a curve.
    pub struct RemovedCurveRow {
        /// Where the direction was read.
        pub site: String,
        /// Layer of that site.
        pub layer: usize,
        /// `steering vector` or `random directions`.
        pub direction: String,
        /// Which share of what lies along the direction is taken out at every place; what was written early is met several
        /// times on its way.
        pub share: f64,
        /// The metric on positive prompts minus that on negative ones.
        pub gap: f64,
        /// Lower end: of the 95 % interval over pairs, or the lowest of the random directions.
        pub gap_lo: Option<f64>,
        /// Upper end, likewise.
        pub gap_hi: Option<f64>,
        /// Growth of the loss on ordinary text (nats).
        pub loss: Option<f64>,
        /// Pairs, or random directions.
        pub n: usize,
    }
}

crate::row! {
    /// One dose of the direction on one prompt.
    pub struct EachRow {
        /// The example.
        pub example: String,
        /// `positive` or `negative`: which prompt of the pair.
        pub prompt: String,
        /// Where.
        pub site: String,
        /// Layer of that site.
        pub layer: usize,
        /// What the direction was multiplied by.
        pub strength: f64,
        /// The metric.
        pub value: f64,
        /// Probability of the positive answers.
        pub prob: f64,
        /// KL(unsteered ‖ steered) (nats).
        pub kl: f64,
    }
}

/// Name of the sites' part in `tensors.safetensors`: `steer.blocks.1.hook_resid_pre`.
pub(super) const PREFIX: &str = "steer.";

pub(super) fn findings(
    steer: &Steer,
    lab: &Lab,
    pairs: &Pairs,
    places: &[Place],
    doses: &Doses,
    measured: &Measured,
    mut notes: Vec<String>,
) -> Findings {
    let n = pairs.tried.len();
    let over_pairs = Bootstrap::new(n, lab.seed);
    let units = pairs.task.units();
    let units: Vec<usize> = pairs.tried.iter().filter_map(|&i| units.get(i).copied()).collect();
    let (mut table, mut curves, mut removed, mut each) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut shares = Vec::new();
    for (p, place) in places.iter().enumerate() {
        let (site, layer) = (place.site.to_string(), place.site.layer().unwrap_or(0));
        let (positive, negative) = (&measured.positive[p], &measured.negative[p]);
        let text = measured.ordinary.as_ref().map(|all| &all[p]);
        if positive.doses.is_empty() {
            let same = "on all pairs the two prompts are the same there";
            notes.push(format!("{site}: the direction is zero, because {same}; nothing can be added"));
            continue;
        }
        let of = |direction: usize, dose: usize| Response::of(positive, negative, text, direction, dose);
        for (d, &strength) in doses.strengths.iter().enumerate() {
            let found = of(0, d);
            let random: Vec<Response> = (1..positive.doses.len()).map(|direction| of(direction, d)).collect();
            let effect = over_pairs.mean(&found.effect);
            let by_random = Spread::of(random.iter().map(|r| average(&r.effect)));
            table.push(DoseRow {
                site: site.clone(),
                layer,
                strength,
                effect: effect.value,
                ci_lo: effect.lo,
                ci_hi: effect.hi,
                p: sign_flip(&found.effect, &units, lab.seed).filter(|_| strength != 0.0),
                q: None,
                prob: average(&found.prob),
                random: by_random.mean,
                random_lo: by_random.lo,
                random_hi: by_random.hi,
                kl: average(&found.kl),
                loss: found.loss.as_deref().map(average),
                n,
            });
            let curve = |direction: &str, prob: Ends, effect: Ends, kl, loss: Option<Ends>, n| CurveRow {
                site: site.clone(),
                layer,
                direction: direction.to_owned(),
                strength,
                prob: prob.0,
                prob_lo: prob.1,
                prob_hi: prob.2,
                effect: effect.0,
                effect_lo: effect.1,
                effect_hi: effect.2,
                kl,
                loss: loss.map(|loss| loss.0),
                loss_lo: loss.and_then(|loss| loss.1),
                loss_hi: loss.and_then(|loss| loss.2),
                n,
            };
            let loss = found.loss.as_ref().map(|loss| Bootstrap::new(loss.len(), lab.seed).mean(loss));
            curves.push(curve(
                "steering vector",
                ends(over_pairs.mean(&found.prob)),
                ends(effect),
                average(&found.kl),
                loss.map(ends),
                n,
            ));
            let spread = |reading: &dyn Fn(&Response) -> f64| Spread::of(random.iter().map(reading)).ends();
            curves.push(curve(
                "random directions",
                spread(&|r| average(&r.prob)),
                by_random.ends(),
                Spread::of(random.iter().map(|r| average(&r.kl))).mean,
                text.map(|_| spread(&|r| average(r.loss.as_deref().unwrap_or_default()))),
                random.len(),
            ));
            for (which, side) in [("positive", positive), ("negative", negative)] {
                for (i, said) in side.doses[0][d].iter().enumerate() {
                    each.push(EachRow {
                        example: pairs.task.examples[pairs.tried[i]].id.clone(),
                        prompt: which.to_owned(),
                        site: site.clone(),
                        layer,
                        strength,
                        value: said.value,
                        prob: said.prob,
                        kl: said.kl,
                    });
                }
            }
        }
        let gap = |positive: &[Said], negative: &[Said]| -> Vec<f64> {
            positive.iter().zip(negative).map(|(a, b)| a.value - b.value).collect()
        };
        let whole = gap(&positive.plain, &negative.plain);
        // what is left of the gap in each pair, by direction
        let left = |share: usize| -> Vec<Vec<f64>> {
            let sides = positive.removed.iter().zip(&negative.removed);
            sides.map(|(a, b)| gap(&a[share], &b[share])).collect()
        };
        let lost = |text: &AtPlace, direction: usize, share: usize| {
            average(&losses(&text.plain, &text.removed[direction][share]))
        };
        for (s, &share) in doses.shares.iter().enumerate() {
            let gaps = left(s);
            let (own, by_random) =
                (over_pairs.mean(&gaps[0]), Spread::of(gaps[1..].iter().map(|gap| average(gap))));
            let curve = |direction: &str, gap: Ends, loss, n| RemovedCurveRow {
                site: site.clone(),
                layer,
                direction: direction.to_owned(),
                share,
                gap: gap.0,
                gap_lo: gap.1,
                gap_hi: gap.2,
                loss,
                n,
            };
            shares.push(curve("steering vector", ends(own), text.map(|text| lost(text, 0, s)), n));
            let randoms = gaps.len() - 1;
            let loss = text.map(|text| Spread::of((1..=randoms).map(|r| lost(text, r, s))).mean);
            shares.push(curve("random directions", by_random.ends(), loss, randoms));
        }
        let gaps = left(doses.whole());
        let own = over_pairs.mean(&gaps[0]);
        let by_random = Spread::of(gaps[1..].iter().map(|gap| average(gap)));
        let change: Vec<f64> = gaps[0].iter().zip(&whole).map(|(left, whole)| left - whole).collect();
        removed.push(RemovedRow {
            site: site.clone(),
            layer,
            norm: place.norm,
            gap: average(&whole),
            gap_removed: own.value,
            ci_lo: own.lo,
            ci_hi: own.hi,
            p: sign_flip(&change, &units, lab.seed),
            q: None,
            gap_random: by_random.mean,
            random_lo: by_random.lo,
            random_hi: by_random.hi,
            loss: text.map(|text| lost(text, 0, doses.whole())),
            n,
        });
    }
    let q = false_discovery(&table.iter().map(|row| row.p).collect::<Vec<_>>());
    table.iter_mut().zip(q).for_each(|(row, q)| row.q = q);
    let q = false_discovery(&removed.iter().map(|row| row.p).collect::<Vec<_>>());
    removed.iter_mut().zip(q).for_each(|(row, q)| row.q = q);
    notes.push(format!(
        "effects are changes of {} toward the positive answer; the random band holds {} directions",
        steer.metric, steer.randoms
    ));
    let tensors: BTreeMap<_, _> =
        places.iter().map(|place| (format!("{PREFIX}{}", place.site), place.direction.clone())).collect();
    let tables = vec![
        Rows::of("steer", &table),
        Rows::of("steer_curve", &curves),
        Rows::of("steer_removed", &removed),
        Rows::of("steer_removed_curve", &shares),
        Rows::of("examples_steer", &each),
    ];
    Findings { tables, tensors, notes, ..Findings::default() }
}

/// What one dose of one direction does, by pair; `loss` by ordinary text.
struct Response {
    effect: Vec<f64>,
    prob: Vec<f64>,
    kl: Vec<f64>,
    loss: Option<Vec<f64>>,
}

impl Response {
    fn of(
        positive: &AtPlace,
        negative: &AtPlace,
        text: Option<&AtPlace>,
        direction: usize,
        dose: usize,
    ) -> Response {
        let both = |reading: &dyn Fn(&Said, &Said) -> f64| -> Vec<f64> {
            let of = |side: &AtPlace| -> Vec<f64> {
                side.doses[direction][dose]
                    .iter()
                    .zip(&side.plain)
                    .map(|(s, plain)| reading(s, plain))
                    .collect()
            };
            of(positive).iter().zip(of(negative)).map(|(a, b)| (a + b) / 2.0).collect()
        };
        Response {
            effect: both(&|said, plain| said.value - plain.value),
            prob: both(&|said, _| said.prob),
            kl: both(&|said, _| said.kl),
            loss: text.map(|text| losses(&text.plain, &text.doses[direction][dose])),
        }
    }
}

/// How much −log p grows, by text.
fn losses(plain: &[Said], changed: &[Said]) -> Vec<f64> {
    plain.iter().zip(changed).map(|(plain, changed)| plain.value - changed.value).collect()
}

/// A value with the ends of its interval or spread.
type Ends = (f64, Option<f64>, Option<f64>);

fn ends(estimate: Estimate) -> Ends {
    (estimate.value, estimate.lo, estimate.hi)
}

/// Mean, lowest and highest of several directions.
struct Spread {
    mean: f64,
    lo: f64,
    hi: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Spread {
        let values: Vec<f64> = values.collect();
        let lo = values.iter().copied().fold(f64::INFINITY, f64::min);
        let hi = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Spread { mean: average(&values), lo, hi }
    }

    fn ends(&self) -> Ends {
        (self.mean, Some(self.lo), Some(self.hi))
    }
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
