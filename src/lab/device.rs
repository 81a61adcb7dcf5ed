//! Where to compute: words for devices, and which device a word means on this machine.

use candle_core::utils::{cuda_is_available, metal_is_available};
use candle_core::{DType, Device, DeviceLocation};

use crate::error::{Error, Result};

/// The device that a word means for computing in `dtype`: `cpu`; `cuda` or `cuda:0` for the first NVIDIA card, `cuda:1` for the
/// second; `metal`; or `auto` for the first of CUDA, Metal and CPU that is compiled in, present, and computes in that type.
pub fn device(word: &str, dtype: DType) -> Result<Device> {
    let device = match word.split_once(':').map_or((word, None), |(kind, card)| (kind, Some(card))) {
        ("auto", None) => return Ok(best(dtype)),
        ("cpu", None) => Device::Cpu,
        ("cuda", card) => cuda(word, card)?,
        ("metal", None) => metal()?,
        _ => return Err(Error::unknown("device", word, ["auto", "cpu", "cuda", "cuda:1", "metal"])),
    };
    check(&device, dtype)?;
    Ok(device)
}

/// The word for a device that is in use: `cpu`, `cuda:0`, `metal`.
pub fn device_name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "cpu".to_owned(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { .. } => "metal".to_owned(),
    }
}

/// Refuses a type that the device does not compute in.
pub(super) fn check(device: &Device, dtype: DType) -> Result<()> {
    match (device.is_metal(), dtype) {
        (true, DType::F64) => {
            Err(Error::usage("Metal does not compute in f64", "use `--dtype f32`, or `--device cpu` for f64"))
        }
        _ => Ok(()),
    }
}

fn best(dtype: DType) -> Device {
    let mut cards = [cuda("cuda", None), metal()].into_iter().flatten();
    cards.find(|card| check(card, dtype).is_ok()).unwrap_or(Device::Cpu)
}

fn cuda(word: &str, card: Option<&str>) -> Result<Device> {
    let Ok(number) = card.unwrap_or("0").parse::<usize>() else {
        return Err(Error::usage(format!("`{word}` names no card"), "write `cuda:0`, `cuda:1`, …"));
    };
    if !cuda_is_available() {
        return Err(not_compiled_in(word, "cuda", "the CUDA toolkit"));
    }
    Device::new_cuda(number).map_err(|cause| {
        let cause = Error::from(cause);
        Error::usage(
            format!("there is no NVIDIA card number {number} that can be used: {cause}"),
            "cards are counted from 0, and `nvidia-smi` lists them; `--device cpu` needs none",
        )
    })
}

fn metal() -> Result<Device> {
    if !metal_is_available() {
        return Err(not_compiled_in("metal", "metal", "Xcode's command line tools"));
    }
    let absent = |cause: String| {
        let message = format!("there is no Metal device that can be used: {cause}");
        Error::usage(message, "use `--device cpu`")
    };
    // candle panics where a machine has none, as some virtual ones do
    match std::panic::catch_unwind(|| Device::new_metal(0)) {
        Ok(device) => device.map_err(|cause| absent(Error::from(cause).to_string())),
        Err(_) => Err(absent("the machine lists none".to_owned())),
    }
}

fn not_compiled_in(word: &str, feature: &str, with: &str) -> Error {
    Error::usage(
        format!("the device {word} is not compiled into this program"),
        format!(
            "build it with `cargo build --release --features {feature}`, for which it takes {with}; or use `--device cpu`"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_devices_or_are_refused_in_a_sentence() {
        assert!(device("cpu", DType::F64).unwrap().is_cpu());
        assert_eq!(device_name(&device("cpu", DType::F32).unwrap()), "cpu");
        let refusal = |word| device(word, DType::F32).unwrap_err().to_string();
        assert!(refusal("gpu").contains("there is no device named `gpu`"));
        assert!(refusal("cpu:0").contains("there is no device named"));
        assert!(refusal("metal:1").contains("there is no device named"));
        assert!(refusal("cuda:first").contains("`cuda:first` names no card"));
        if !cuda_is_available() && !metal_is_available() {
            assert!(device("auto", DType::F32).unwrap().is_cpu());
            assert!(refusal("cuda").contains("cargo build --release --features cuda"));
            assert!(refusal("cuda:3").contains("the device cuda:3 is not compiled in"));
            assert!(refusal("metal").contains("cargo build --release --features metal"));
        } else if cuda_is_available() {
            assert!(refusal("cuda:99").contains("card number 99"));
        }
    }
}
