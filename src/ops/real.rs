//! The few functions of a number that kernels need, so that one kernel serves f32 and f64.

use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub};

use candle_core::WithDType;
use candle_core::cpu::erf::erf_f64 as erf;

/// f32 or f64, with the functions that kernels need.
pub(crate) trait Real:
    WithDType
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + DivAssign
    + MulAssign
    + Send
    + Sync
    + 'static
{
    const ZERO: Self;
    const ONE: Self;
    const NEG_INFINITY: Self;
    fn of(x: f64) -> Self;
    fn exp_(self) -> Self;
    fn ln_(self) -> Self;
    fn sqrt_(self) -> Self;
    fn tanh_(self) -> Self;
    /// Φ, the distribution function of the normal distribution.
    fn normal_(self) -> Self;
    /// self·a + b, rounded once if the machine has such an instruction: `FUSED` says so, elsewhere it would be a call.
    fn times_plus<const FUSED: bool>(self, a: Self, b: Self) -> Self;
}

impl Real for f64 {
    const ZERO: f64 = 0.0;
    const ONE: f64 = 1.0;
    const NEG_INFINITY: f64 = f64::NEG_INFINITY;
    #[inline(always)]
    fn of(x: f64) -> f64 {
        x
    }
    #[inline(always)]
    fn exp_(self) -> f64 {
        self.exp()
    }
    #[inline(always)]
    fn ln_(self) -> f64 {
        self.ln()
    }
    #[inline(always)]
    fn sqrt_(self) -> f64 {
        self.sqrt()
    }
    #[inline(always)]
    fn tanh_(self) -> f64 {
        self.tanh()
    }
    #[inline(always)]
    fn normal_(self) -> f64 {
        0.5 * (1.0 + erf(self * std::f64::consts::FRAC_1_SQRT_2))
    }
    #[inline(always)]
    fn times_plus<const FUSED: bool>(self, a: f64, b: f64) -> f64 {
        if FUSED { self.mul_add(a, b) } else { self * a + b }
    }
}

impl Real for f32 {
    const ZERO: f32 = 0.0;
    const ONE: f32 = 1.0;
    const NEG_INFINITY: f32 = f32::NEG_INFINITY;
    #[inline(always)]
    fn of(x: f64) -> f32 {
        x as f32
    }
    /// Cephes' polynomial: within 2 units in the last place, branch-free, so that it vectorises.
    #[inline(always)]
    fn exp_(self) -> f32 {
        const MAGIC: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to a whole number in the low bits
        let x = if self > 88.7 { 88.7 } else { self };
        let x = if x < -87.3 { -87.3 } else { x };
        let shifted = x * std::f32::consts::LOG2_E + MAGIC;
        let n = shifted - MAGIC;
        let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
        let p = 1.987_569_1e-4;
        let p = p * r + 1.398_199_9e-3;
        let p = p * r + 8.333_452e-3;
        let p = p * r + 4.166_579_6e-2;
        let p = p * r + 1.666_666_5e-1;
        let p = p * r + 0.5;
        let y = p * r * r + r + 1.0;
        // 2^n in two factors, so that n = 128 does not overflow the exponent
        let n = (shifted.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
        let half = n >> 1;
        let power = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
        let y = y * power(half) * power(n - half);
        if self < -87.3 { 0.0 } else { y }
    }
    #[inline(always)]
    fn ln_(self) -> f32 {
        self.ln()
    }
    #[inline(always)]
    fn sqrt_(self) -> f32 {
        self.sqrt()
    }
    #[inline(always)]
    fn tanh_(self) -> f32 {
        // Cephes: a polynomial near 0, where the quotient of exponentials loses digits
        let square = self * self;
        let p = -5.704_988_7e-3;
        let p = p * square + 2.063_909e-2;
        let p = p * square - 5.373_971_6e-2;
        let p = p * square + 1.333_144_2e-1;
        let p = p * square - 3.333_328e-1;
        let near = p * square * self + self;
        let far = (1.0 - 2.0 / ((2.0 * self.abs()).exp_() + 1.0)).copysign(self);
        if self.abs() < 0.625 { near } else { far }
    }
    #[inline(always)]
    fn normal_(self) -> f32 {
        // Φ(−|x|) = exp(−x²/2)·t·P(t), t = 1 / (1 + 0.35·|x|): a fit whose own relative error is below 4e-8
        const P: [f32; 9] = [
            0.139_621_57,
            0.139_859_08,
            0.119_852_43,
            0.105_432_96,
            -0.022_937_188,
            0.158_929_36,
            -0.255_504_64,
            0.143_872_26,
            -0.029_125_871,
        ];
        let t = 1.0 / (1.0 + 0.35 * self.abs());
        let p = P.iter().rev().fold(0.0, |sum, &p| sum * t + p);
        let tail = (-0.5 * self * self).exp_() * t * p;
        if self < 0.0 { tail } else { 1.0 - tail }
    }
    #[inline(always)]
    fn times_plus<const FUSED: bool>(self, a: f32, b: f32) -> f32 {
        if FUSED { self.mul_add(a, b) } else { self * a + b }
    }
}

#[cfg(test)]
mod tests {
    use super::Real;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut worst = 0f64;
        for i in -870..=886 {
            for j in 0..7 {
                let x = i as f32 * 0.1 + j as f32 * 0.0137;
                let exact = f64::from(x).exp();
                worst = worst.max((f64::from(x.exp_()) - exact).abs() / exact);
            }
        }
        assert!(worst < 2.4e-7, "{worst}");
        assert_eq!(f32::NEG_INFINITY.exp_(), 0.0);
        assert_eq!(0f32.exp_(), 1.0);
        assert!(f32::NAN.exp_().is_nan());
    }

    #[test]
    fn tanh_and_the_normal_distribution_are_exact_to_a_millionth() {
        for i in -4000..=4000 {
            let x = i as f32 * 0.00317;
            let wide = f64::from(x);
            let near = |name: &str, got: f32, exact: f64, of: f64| {
                assert!((f64::from(got) - exact).abs() <= 1e-6 * of, "{name}({x}): {got} for {exact}");
            };
            near("tanh", x.tanh_(), wide.tanh(), wide.tanh().abs());
            // the tail itself, down to its last digits, as far as gelu can tell it from 0
            let exact = candle_core::cpu::erf::erfc_f64(-wide * std::f64::consts::FRAC_1_SQRT_2) / 2.0;
            near("Φ", x.normal_(), exact, if wide > -4.0 { exact } else { 1e-4 });
        }
        assert!(f32::NAN.tanh_().is_nan() && f32::NAN.normal_().is_nan());
        assert_eq!([f32::INFINITY.tanh_(), f32::NEG_INFINITY.tanh_(), 0f32.tanh_()], [1.0, -1.0, 0.0]);
        assert_eq!([f32::INFINITY.normal_(), f32::NEG_INFINITY.normal_()], [1.0, 0.0]);
    }
}
