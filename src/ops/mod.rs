//! The tensor functions a pass is made of, each with a gradient that a test checks by finite differences.
//!
//! candle's own fused versions have no backward and raise no error, and its elementwise functions use one core; these
//! are parallel over rows, vectorised by run-time dispatch, generic over f32 and f64, and differentiable. On other devices
//! than the CPU each is composed of candle's own differentiable operations. All products go through [`linear`] and
//! [`matmul`].

mod activation;
mod attend;
mod clip;
mod kernel;
mod linear;
mod memory;
mod norm;
mod real;
mod rotate;
mod softmax;
mod splice;
mod watch;
mod whole_norm;

#[cfg(test)]
pub(crate) use kernel::without_kernels;

pub use activation::{Gate, gated, gelu, gelu_tanh, quick_gelu, relu, silu, solu};
pub use attend::{Attend, Stretch, attend};
pub use clip::{clamp, softcap};
pub use linear::{back_by_head, inner, linear, matmul, spaced};
pub use norm::{add, center, divide, rms, scale_rows, shift_rows, without};
pub use rotate::{Pairs, rotate};
pub use softmax::{Alibi, Mask, Sinks, log_softmax, masked, softmax, softmax_with_sinks};
pub(crate) use splice::{Change, Region, splice};
pub use watch::{Arrival, watch};
pub use whole_norm::{layer_norm, rms_norm};
