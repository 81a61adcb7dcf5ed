//! A value passed on as it is, whose gradient is kept as it comes back.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType, bail};

use super::kernel::{has_kernels, numbers};

/// Where the gradient of a watched value arrives.
#[derive(Debug, Clone, Default)]
pub struct Arrival(Arc<Mutex<Option<Tensor>>>);

impl Arrival {
    /// The gradient, once a backward pass has come by.
    pub fn take(&self) -> Option<Tensor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// x, watched: what a backward pass brings to it arrives at the second. None where nothing would come by, because x depends on no
/// variable, or where there are no kernels.
pub fn watch(x: &Tensor) -> Result<Option<(Tensor, Arrival)>> {
    if !x.track_op() || !has_kernels(x) {
        return Ok(None);
    }
    let arrival = Arrival::default();
    Ok(Some((x.contiguous()?.apply_op1(Watch(arrival.clone()))?, arrival)))
}

struct Watch(Arrival);

impl CustomOp1 for Watch {
    fn name(&self) -> &'static str {
        "watch"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        fn copy<T: WithDType>(storage: &CpuStorage, layout: &Layout) -> Result<Vec<T>> {
            Ok(numbers::<T>(storage, layout)?.to_vec())
        }
        let out = match storage {
            CpuStorage::F32(_) => CpuStorage::F32(copy(storage, layout)?),
            CpuStorage::F64(_) => CpuStorage::F64(copy(storage, layout)?),
            _ => bail!("watch takes f32 or f64"),
        };
        Ok((out, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(grad.clone());
        Ok(Some(grad.clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn what_arrives_is_the_gradient_there() {
        let x = Var::new(&[1f64, 2.0, 3.0], &Device::Cpu).unwrap();
        let square = x.sqr().unwrap();
        let (y, arrival) = watch(&square).unwrap().unwrap();
        assert!(arrival.take().is_none(), "nothing has come by yet");
        // Σ y² + Σ y, y = x²: 2y + 1 at y, times 2x at x
        let grads = (y.sqr().unwrap() + &y).unwrap().sum_all().unwrap().backward().unwrap();
        assert_eq!(arrival.take().unwrap().to_vec1::<f64>().unwrap(), [3.0, 9.0, 19.0]);
        assert_eq!(grads.get(&x).unwrap().to_vec1::<f64>().unwrap(), [6.0, 36.0, 114.0]);
        assert!(watch(&x.detach()).unwrap().is_none(), "it depends on no variable");
    }
}
