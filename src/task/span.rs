//! Positions of a prompt, by the names an example gives them.

use super::Example;
use crate::error::{Error, Result};

impl Example {
    /// The position that a name means: `end`, a name of the example's own, or a number counted from the first token.
    pub fn position(&self, name: &str) -> Result<usize> {
        if name == "end" {
            return Ok(self.end());
        }
        match (self.pos.get(name), name.parse::<usize>()) {
            (Some(&pos), _) => Ok(pos),
            (None, Ok(pos)) if pos < self.clean.len() => Ok(pos),
            (None, Ok(index)) => {
                let (size, site) = (self.clean.len(), format!("the prompt `{}`", self.id));
                Err(Error::OutOfRange { what: "position", index, size, site })
            }
            (None, Err(_)) => {
                let known = std::iter::once("end").chain(self.pos.keys().map(String::as_str));
                Err(Error::unknown("position", name, known))
            }
        }
    }

    /// The positions that words mean, each once and in order: `subject`, `first..subject` with both ends, or several of these
    /// with commas between them.
    pub fn span(&self, words: &str) -> Result<Vec<usize>> {
        let mut all = Vec::new();
        for part in words.split(',').map(str::trim) {
            match part.split_once("..").filter(|_| !self.pos.contains_key(part)) {
                None => all.push(self.position(part)?),
                Some((first, last)) => {
                    let (from, to) = (self.position(first.trim())?, self.position(last.trim())?);
                    if from > to {
                        return Err(Error::usage(
                            format!("`{part}` of `{}` runs backwards, from {from} to {to}", self.id),
                            "name the earlier position first",
                        ));
                    }
                    all.extend(from..=to);
                }
            }
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_names_numbers_and_all_between() {
        let pos = [("first", 1), ("subject", 3), ("S1+1", 2)].map(|(name, pos)| (name.to_owned(), pos));
        let example = Example { clean: vec![0; 6], pos: pos.into(), ..Example::default() };
        let span = |words: &str| example.span(words);
        assert_eq!(span("subject").unwrap(), [3]);
        assert_eq!(span("first..subject").unwrap(), [1, 2, 3]);
        assert_eq!(span("end, first..2, S1+1, 0").unwrap(), [0, 1, 2, 5]);
        for wrong in ["", "object", "6", "subject..first", "first..", "first,"] {
            assert!(span(wrong).is_err(), "{wrong:?}");
        }
    }
}
