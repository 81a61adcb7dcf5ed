//! The manifest of a run: what made these files, and what they hash to.

use super::atomic::Written;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Raised when a key of `manifest.json` changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// What a command knows about its run; the folder adds versions, times and outputs.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Manifest {
    /// The command line as it was given.
    pub argv: Vec<String>,
    /// The model that was opened.
    pub model: ModelFacts,
    /// SHA-256 of the tokenizer's files; none for a model without one.
    pub tokenizer_sha256: Option<String>,
    /// The seed of everything random.
    pub seed: u64,
    /// Type of the numbers in the pass: `f32`.
    pub dtype: String,
    /// Where the pass ran: `cpu`, `cuda:0`, `metal`.
    pub device: String,
    /// Threads it ran on.
    pub threads: usize,
    /// Counts worth knowing: parameters, prompts used and dropped, forward passes.
    pub sizes: BTreeMap<String, u64>,
    /// Further facts, written as they are: the resolved study, warnings. JSON cannot hold a number that is not finite.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// Which model it was.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ModelFacts {
    /// As it was asked for.
    pub name: String,
    /// The commit of its repository, if it came from a hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The family that read it.
    pub family: String,
    /// SHA-256 of its weights.
    pub sha256: String,
}

impl Manifest {
    /// The text of `manifest.json`: outputs by path, times in UTC.
    pub(super) fn text(
        &self,
        outputs: &BTreeMap<String, Written>,
        started: SystemTime,
        wall: Duration,
        resumed: bool,
    ) -> String {
        let mut all = Map::new();
        all.insert("schema_version".into(), SCHEMA_VERSION.into());
        all.insert(
            "tool".into(),
            json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION") }),
        );
        // Strings, counts and JSON values always serialise.
        if let Ok(Value::Object(facts)) = serde_json::to_value(self) {
            all.extend(facts);
        }
        let wall_seconds = (wall.as_secs_f64() * 1000.0).round() / 1000.0;
        all.insert("started".into(), utc(started).into());
        all.insert("ended".into(), utc(started + wall).into());
        all.insert("wall_seconds".into(), wall_seconds.into());
        all.insert("resumed".into(), resumed.into());
        let outputs = outputs
            .iter()
            .map(|(path, written)| json!({ "path": path, "bytes": written.bytes, "sha256": written.sha256 }));
        all.insert("outputs".into(), outputs.collect());
        format!("{:#}\n", Value::Object(all))
    }
}

/// A moment as `2026-11-23T20:14:16Z`, by the civil calendar counted in eras of 400 years that start in March.
fn utc(moment: SystemTime) -> String {
    let seconds = moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, clock) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_civil() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_795_464_856, "2026-11-23T20:14:16Z"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
