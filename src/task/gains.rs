//! What choices gain and cost, from JSON.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::metric::{Gain, Gains};
use crate::vocabulary::Vocabulary;

/// Reads `{"default": {"gain": 1, "cost": 0}, " Mary": {"gain": 2, "cost": 1}, "#17": {…}}`: a token by its text or its
/// id. Without `default`, other tokens gain 1 and cost 0. The second result is notes on texts that may be meant
/// otherwise.
pub fn read_gains(content: &str, vocabulary: &Vocabulary) -> Result<(Gains, Vec<String>)> {
    const SHAPE: &str =
        "write {\"default\": {\"gain\": 1, \"cost\": 0}, \" Mary\": {\"gain\": 2, \"cost\": 1}}";
    let entries: BTreeMap<String, Gain> = serde_json::from_str(content)
        .map_err(|cause| Error::input(format!("the gains cannot be read: {cause}"), SHAPE))?;
    let mut gains = Gains { default: Gain { gain: 1.0, cost: 0.0 }, by_token: BTreeMap::new() };
    let mut notes = Vec::new();
    for (name, gain) in entries {
        if name == "default" {
            gains.default = gain;
            continue;
        }
        let id = match name.strip_prefix('#').and_then(|id| id.parse().ok()) {
            Some(id) => id,
            None => {
                let (id, warning) = vocabulary.single(&name)?;
                notes.extend(warning);
                id
            }
        };
        if gains.by_token.insert(id, gain).is_some() {
            return Err(Error::input(
                format!("the gains name the token {:?} ({id}) twice", vocabulary.token(id)),
                "keep one of them",
            ));
        }
    }
    Ok((gains, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gains_are_read_by_token() {
        let text = r##"{"default": {"gain": 1, "cost": 0.5}, "#17": {"gain": 2, "cost": 3}}"##;
        let (gains, notes) = read_gains(text, &Vocabulary::default()).unwrap();
        assert!(notes.is_empty());
        assert_eq!(gains.of(17), Gain { gain: 2.0, cost: 3.0 });
        assert_eq!(gains.expected(17, 0.5), -0.5);
        assert_eq!(gains.expected(3, 0.5), 0.25);
        for wrong in [r##"{"#1": {"gain": 2}}"##, r##"{"#1": {"gain": 2, "cost": 1, "x": 0}}"##, "[]"] {
            assert!(read_gains(wrong, &Vocabulary::default()).is_err(), "{wrong}");
        }
    }
}
