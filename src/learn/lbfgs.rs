//! L-BFGS (Liu & Nocedal 1989) for smooth convex functions. Where the caller can say how the function curves, that takes the place of the usual
//! multiple of the identity, and is asked for anew every few steps: far fewer of them are needed.

use std::collections::VecDeque;

use super::Curvature;
use super::matrix::{add, dot};

/// Pairs of step and change of gradient that are remembered.
const MEMORY: usize = 10;
/// Steps after which the curvature is asked for anew: about as long as one step of Newton's takes.
const FRESH: usize = 6;

/// Where a minimisation ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimum {
    /// The arguments.
    pub x: Vec<f64>,
    /// The function there.
    pub value: f64,
    /// The largest entry of the gradient there.
    pub slope: f64,
    /// Steps taken.
    pub steps: usize,
    /// Whether the slope is within the tolerance; if not, steps or the precision of f64 ran out.
    pub converged: bool,
}

/// Minimises `f`, which writes its gradient and returns its value, until no entry of the gradient exceeds `tolerance`.
///
/// The step along the quasi-Newton direction is halved, or taken to the minimum of the parabola through what is known, until
/// the function falls enough (Armijo). Near the minimum the fall drowns in rounding; a step that leaves the value equal to within
/// rounding is then taken if it makes the gradient smaller. `curve` gives the curvature at a place, or nothing where it is not
/// worth its price; it need not be exact.
pub fn minimise(
    start: Vec<f64>,
    f: &mut dyn FnMut(&[f64], &mut [f64]) -> f64,
    curve: &mut dyn FnMut(&[f64]) -> Option<Curvature>,
    tolerance: f64,
    most: usize,
) -> Optimum {
    let n = start.len();
    let size = |g: &[f64]| g.iter().fold(0.0f64, |most, g| most.max(g.abs()));
    let (mut x, mut g) = (start, vec![0.0; n]);
    let mut value = f(&x, &mut g);
    let mut memory: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::with_capacity(MEMORY);
    let (mut y, mut gradient) = (vec![0.0; n], vec![0.0; n]);
    let (mut steps, mut since) = (0, FRESH);
    let mut curvature = None;
    while steps < most && size(&g) > tolerance {
        if since == FRESH {
            since = 0;
            if let Some(new) = curve(&x) {
                memory.clear();
                curvature = Some(new);
            }
        }
        let mut direction = towards(&memory, curvature.as_ref(), &g);
        let mut slope = dot(&direction, &g);
        if slope >= 0.0 || slope.is_nan() {
            memory.clear();
            curvature = None;
            direction = g.iter().map(|g| -g).collect();
            slope = -dot(&g, &g);
        }
        let blind = memory.is_empty() && curvature.is_none();
        let mut step = if blind { (1.0 / dot(&g, &g).sqrt()).min(1.0) } else { 1.0 };
        let rounding = 1e-14 * value.abs().max(1e-300);
        let mut taken = None;
        for _ in 0..40 {
            y.copy_from_slice(&x);
            add(&mut y, step, &direction);
            let next = f(&y, &mut gradient);
            let falls = next <= value + 1e-4 * step * slope;
            let level = next <= value + rounding && size(&gradient) < size(&g);
            if falls || level {
                taken = Some(next);
                break;
            }
            let bend = next - value - step * slope; // of the parabola through value, slope and next
            let to_minimum = -slope * step * step / (2.0 * bend);
            step = if bend > 0.0 && to_minimum.is_finite() {
                to_minimum.clamp(0.1 * step, 0.5 * step)
            } else {
                0.5 * step
            };
        }
        let Some(next) = taken else {
            if blind {
                break;
            }
            memory.clear(); // once more, along the gradient itself
            (curvature, since) = (None, 0);
            continue;
        };
        let s: Vec<f64> = y.iter().zip(&x).map(|(y, x)| y - x).collect();
        let change: Vec<f64> = gradient.iter().zip(&g).map(|(new, old)| new - old).collect();
        let curvature = dot(&s, &change);
        if curvature > 1e-14 * dot(&change, &change).sqrt() * dot(&s, &s).sqrt() {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back((s, change, curvature));
        }
        std::mem::swap(&mut x, &mut y);
        std::mem::swap(&mut g, &mut gradient);
        value = next;
        steps += 1;
        since += 1;
    }
    let slope = size(&g);
    Optimum { x, value, slope, steps, converged: slope <= tolerance }
}

/// −H·g by the two-loop recursion.
fn towards(
    memory: &VecDeque<(Vec<f64>, Vec<f64>, f64)>,
    curvature: Option<&Curvature>,
    g: &[f64],
) -> Vec<f64> {
    let mut q: Vec<f64> = g.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(memory.len());
    for (s, change, curvature) in memory.iter().rev() {
        let alpha = dot(s, &q) / curvature;
        add(&mut q, -alpha, change);
        alphas.push(alpha);
    }
    if let Some(curvature) = curvature {
        curvature.solve(&mut q);
    } else if let Some((_, change, along)) = memory.back() {
        let scale = along / dot(change, change);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((s, change, curvature), alpha) in memory.iter().zip(alphas.into_iter().rev()) {
        let beta = dot(change, &q) / curvature;
        add(&mut q, alpha - beta, s);
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crooked_bowl_is_minimised() {
        // ½ Σ k² (x_k − k)², condition number 2500
        let mut f = |x: &[f64], g: &mut [f64]| {
            let mut value = 0.0;
            for (k, (x, g)) in x.iter().zip(g).enumerate() {
                let (k, off) = ((k + 1) as f64, x - (k + 1) as f64);
                value += 0.5 * k * k * off * off;
                *g = k * k * off;
            }
            value
        };
        let found = minimise(vec![0.0; 50], &mut f, &mut |_| None, 1e-9, 600);
        assert!(found.converged, "{found:?}"); // SciPy's L-BFGS-B takes 426 steps

        assert!(found.x.iter().enumerate().all(|(k, x)| (x - (k + 1) as f64).abs() < 1e-8));
        let stopped = minimise(vec![0.0; 50], &mut f, &mut |_| None, 1e-9, 3);
        assert!(!stopped.converged && stopped.steps == 3);
    }
}
