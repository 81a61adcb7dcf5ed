//! Memory: what a model takes while it is read, and what the machine has left.

use std::fs;
use std::path::Path;

use candle_core::DType;

use crate::error::{Error, Result};

/// What reading a model takes. Tensors are converted one by one as they are read, so that memory peaks at the converted model
/// and one tensor of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Numbers in the files.
    pub weights: u64,
    /// The type they are converted to.
    pub dtype: DType,
    /// Bytes of the converted model. A tied unembedding is kept turned over beside the embedding, and counts.
    pub model: u64,
    /// Bytes of main memory: the converted model, unless a card holds it, and the largest tensor on its way.
    pub main: u64,
}

impl Need {
    /// Smaller models are not worth a word.
    const WORTH_A_WORD: u64 = 256 << 20;

    /// A sentence on this need and the memory there is, if it is worth one.
    pub fn note(&self, name: &str, available: Option<u64>) -> Option<String> {
        if self.model < Self::WORTH_A_WORD {
            return None;
        }
        let (weights, model, dtype) = (self.weights as f64, gigabytes(self.model), self.dtype.as_str());
        let weights = match weights {
            1e9.. => format!("{:.1} B", weights / 1e9),
            _ => format!("{:.0} M", weights / 1e6),
        };
        // what a card has left, nobody here knows
        let available = available.filter(|_| self.main >= self.model);
        let available = available.map(|bytes| format!("; {} are available", gigabytes(bytes)));
        Some(format!("{name}: {weights} weights, {model} in {dtype}{}", available.unwrap_or_default()))
    }

    /// Refuses a model that cannot fit. Where nobody knows what is available, it is tried.
    pub fn check(&self, name: &str, available: Option<u64>) -> Result<()> {
        let Some(available) = available.filter(|&available| available < self.main) else { return Ok(()) };
        let message = format!(
            "{name} needs {} of memory in {}, and {} are available",
            gigabytes(self.main),
            self.dtype.as_str(),
            gigabytes(available)
        );
        let machine = "end other programs, or use a machine with more memory or a smaller model";
        Err(Error::input(
            message,
            match self.dtype {
                DType::F64 => format!("`--dtype f32` takes about half; or {machine}"),
                _ => machine.to_owned(),
            },
        ))
    }
}

/// Bytes of memory that this program can still take, if the system says: what Linux calls available, within the limits of
/// the control groups that the program is in.
pub fn available() -> Option<u64> {
    within(&|path| fs::read_to_string(path).ok())
}

/// As [`available`], with files read by `read`.
fn within(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let free = kilobytes(&read(Path::new("/proc/meminfo"))?, "MemAvailable:")?;
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let rooms = groups.lines().flat_map(|line| {
        // number:controllers:path; version 2 names no controllers
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let files = match controllers {
            "" => Some(("/sys/fs/cgroup", ["memory.max", "memory.current"])),
            _ if controllers.split(',').any(|name| name == "memory") => {
                Some(("/sys/fs/cgroup/memory", ["memory.limit_in_bytes", "memory.usage_in_bytes"]))
            }
            _ => None,
        };
        // every group above limits too; inside of a container the path may be that of the machine, and the root is its own
        let above = |(root, files)| {
            let groups: Vec<&Path> = Path::new(path.trim_start_matches('/')).ancestors().collect();
            groups.into_iter().filter_map(|group| room(&Path::new(root).join(group), files, read)).min()
        };
        files.and_then(above)
    });
    Some(rooms.fold(free, u64::min))
}

/// What a group has left: its limit less what it uses, but for the files it keeps in memory, which give way.
fn room(group: &Path, [limit, used]: [&str; 2], read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let number = |name: &str| read(&group.join(name))?.trim().parse::<u64>().ok();
    let (limit, used) = (number(limit)?, number(used)?);
    let stat = read(&group.join("memory.stat")).unwrap_or_default();
    let files = ["active_file", "inactive_file"].iter().filter_map(|name| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse::<u64>().ok()
    });
    Some(limit.saturating_sub(used.saturating_sub(files.sum())))
}

/// The value, in bytes, of a line `name 1234 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches("kB").trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: (&str, &str) =
        ("/proc/meminfo", "MemTotal:  32000000 kB\nMemFree:  1000 kB\nMemAvailable:   20000000 kB\n");

    fn found(files: &[(&str, &str)]) -> Option<u64> {
        let all = [&[MACHINE], files].concat();
        within(&|path| {
            all.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
        })
    }

    #[test]
    fn memory_is_what_machine_and_groups_leave() {
        let machine = 20_000_000 * 1024;
        assert_eq!(found(&[]), Some(machine));
        assert_eq!(within(&|_| None), None, "another system");
        // version 2: the group has no limit of its own, the one above has
        let v2 = [
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/b/memory.current", "5\n"),
            ("/sys/fs/cgroup/a/memory.max", "1000000\n"),
            ("/sys/fs/cgroup/a/memory.current", "700000\n"),
            ("/sys/fs/cgroup/a/memory.stat", "anon 200000\nactive_file 100000\ninactive_file 300000\n"),
        ];
        assert_eq!(found(&v2), Some(700_000));
        // version 1, in a container that sees itself as the root; its "no limit" is a huge number
        let v1 = |limit| {
            [
                ("/proc/self/cgroup", "3:cpu,cpuacct:/x\n2:memory:/docker/x\n"),
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", limit),
                ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "400\n"),
            ]
        };
        assert_eq!(found(&v1("1000\n")), Some(600));
        assert_eq!(found(&v1("9223372036854771712\n")), Some(machine));
        assert_eq!(found(&v1("100\n")), Some(0), "already beyond it");
    }

    #[test]
    fn a_model_that_cannot_fit_is_refused_with_the_numbers() {
        let need =
            Need { weights: 1_012_000_000, dtype: DType::F32, model: 4_048_000_000, main: 4_100_000_000 };
        assert_eq!(
            need.note("EleutherAI/pythia-1b", Some(21_340_000_000)).unwrap(),
            "EleutherAI/pythia-1b: 1.0 B weights, 4.0 GB in f32; 21.3 GB are available"
        );
        assert_eq!(need.note("p", None).unwrap(), "p: 1.0 B weights, 4.0 GB in f32");
        let on_card = Need { main: 900_000_000, ..need };
        assert_eq!(on_card.note("p", Some(5)).unwrap(), "p: 1.0 B weights, 4.0 GB in f32");
        assert!(need.check("p", None).is_ok() && need.check("p", Some(4_100_000_000)).is_ok());
        let error = need.check("p", Some(2_500_000_000)).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        let text = error.to_string();
        assert!(text.starts_with("p needs 4.1 GB of memory in f32, and 2.5 GB are available"), "{text}");
        assert!(!text.contains("--dtype"), "{text}");
        let double = Need { dtype: DType::F64, model: 8_096_000_000, main: 8_200_000_000, ..need };
        assert!(double.check("p", Some(1)).unwrap_err().to_string().contains("--dtype f32"));
        let small = Need { weights: 67_000_000, model: 268_000_000, ..need };
        assert_eq!(small.note("s", Some(1)), None);
        let medium = Need { weights: 124_000_000, model: 496_000_000, ..need };
        assert_eq!(medium.note("m", None).unwrap(), "m: 124 M weights, 0.5 GB in f32");
    }
}
