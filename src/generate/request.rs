//! What is done to a model while it speaks, as people write it: parts taken out, activations of another prompt put in,
//! directions added.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use candle_core::{DType, Device, Tensor};

use crate::checkpoint::Tensors;
use crate::edit::{Edit, Op};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::lesion::{Instead, Part};
use crate::record::Activations;
use crate::site::{At, Axis, Positions, Site, Slice};
use crate::steering::{self, Reading};
use crate::task::read_prompt;
use crate::vocabulary::Bos;

/// Where in a text something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Everywhere, prompt and new tokens.
    All,
    /// Wherever a new token is chosen from: the prompt's last position and every new one.
    New,
    /// At every position of the prompt.
    Prompt,
    /// At the prompt's last position.
    End,
    /// At this position, counted from the first token, BOS included.
    At(usize),
}

impl When {
    /// The positions for a prompt of this length.
    pub fn positions(self, prompt: usize) -> Positions {
        match self {
            When::All => Positions::All,
            When::New => Positions::From(prompt.saturating_sub(1)),
            When::Prompt => Positions::At((0..prompt).collect()),
            When::End => Positions::At(vec![prompt.saturating_sub(1)]),
            When::At(pos) => Positions::At(vec![pos]),
        }
    }
}

impl FromStr for When {
    type Err = Error;

    fn from_str(word: &str) -> Result<When> {
        let named = [("all", When::All), ("new", When::New), ("prompt", When::Prompt), ("end", When::End)];
        if let Some((_, when)) = named.iter().find(|(name, _)| *name == word) {
            return Ok(*when);
        }
        word.parse().map(When::At).map_err(|_| {
            Error::usage(
                format!("`{word}` is no place in a text"),
                "write `all`, `new` (where new tokens are chosen), `prompt`, `end` (the prompt's last), or a position",
            )
        })
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::All => f.write_str("all positions"),
            When::New => f.write_str("every position from which a new token is chosen"),
            When::Prompt => f.write_str("every position of the prompt"),
            When::End => f.write_str("the prompt's last position"),
            When::At(pos) => write!(f, "position {pos}"),
        }
    }
}

/// `PART[@WHERE]`: a part that is taken out; everywhere if nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lesion {
    /// What.
    pub part: Part,
    /// Where.
    pub when: When,
}

impl FromStr for Lesion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Lesion> {
        let (part, when) = text.split_once('@').map_or((text, None), |(part, when)| (part, Some(when)));
        Ok(Lesion { part: part.parse()?, when: when.map_or(Ok(When::All), str::parse)? })
    }
}

/// `WHAT[@TO[:FROM]]`: an activation that is taken from another prompt. `WHAT` is a part or a site's full name.
#[derive(Debug, Clone, PartialEq)]
pub struct Graft {
    /// What, at every position.
    pub what: Slice,
    /// Where it is put, and where it is taken from; without them every position of a prompt of the same length.
    pub places: Option<(When, When)>,
}

impl FromStr for Graft {
    type Err = Error;

    fn from_str(text: &str) -> Result<Graft> {
        let (what, places) = text.split_once('@').map_or((text, None), |(what, places)| (what, Some(places)));
        let what = match (what.parse::<Part>(), what.parse::<Site>()) {
            (Ok(part), _) => part.slice()?,
            (Err(_), Ok(site)) => Slice::whole(site),
            // a dot and no digit up front: meant as a site
            (Err(part), Err(site)) => return Err(if what.contains("hook_") { site } else { part }),
        };
        if what.site.axes().contains(&Axis::Key) {
            return Err(Error::usage(
                format!("{} has an entry for every key, and keys grow with the text", what.site),
                "patch attn.hook_z (what a head read) or attn.hook_v instead",
            ));
        }
        let single = |word: &str| match word.parse()? {
            place @ (When::At(_) | When::End) => Ok(place),
            _ => Err(Error::usage(
                format!("`{word}` is not one position: an activation goes from one position to one"),
                "write a number or `end`, as in `a1.h0@4` or `a1.h0@end:3`",
            )),
        };
        let places = match places.map(|places| places.split_once(':').ok_or(places)) {
            None => None,
            Some(Err(one)) => Some((single(one)?, single(one)?)),
            Some(Ok((to, from))) => Some((single(to)?, single(from)?)),
        };
        Ok(Graft { what, places })
    }
}

/// A direction that is added, or taken out.
#[derive(Debug, Clone)]
pub struct Push {
    /// Where it is added.
    pub site: Site,
    /// It, as it was found.
    pub direction: Tensor,
    /// By what it is multiplied before it is added; none: it is projected out of the stream in every layer instead.
    pub strength: Option<f64>,
    /// Where in the text.
    pub when: When,
}

/// Everything that is done while a model speaks, whatever the prompt.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Parts taken out.
    pub lesions: Vec<Lesion>,
    /// What they write instead, by site and for every position; nothing: zeros.
    pub instead: Option<Activations>,
    /// Activations taken from `source`.
    pub grafts: Vec<Graft>,
    /// The other prompt, and what was recorded on it.
    pub source: Option<(Vec<u32>, Activations)>,
    /// Directions added.
    pub pushes: Vec<Push>,
}

impl Request {
    /// Whether the model is left as it is.
    pub fn is_empty(&self) -> bool {
        self.lesions.is_empty() && self.grafts.is_empty() && self.pushes.is_empty()
    }

    /// Sites of the parts that are taken out.
    pub fn lesion_sites(&self) -> Result<Vec<Site>> {
        self.lesions.iter().map(|lesion| Ok(lesion.part.slice()?.site)).collect()
    }

    /// Runs the other prompt and keeps what is taken from it.
    pub fn take_from(&mut self, lab: &Lab, source: Vec<u32>) -> Result<()> {
        self.grafts.iter().try_for_each(|graft| lab.model.check_site(graft.what.site))?;
        let wanted = |site| self.grafts.iter().any(|graft| graft.what.site == site);
        let (_, kept) = lab.model.record(&lab.model.tokens(&[&source])?, wanted)?;
        self.source = Some((source, kept));
        Ok(())
    }

    /// The edits for a prompt of this length.
    pub fn edits(&self, lab: &Lab, prompt: usize) -> Result<Vec<Edit>> {
        let mut edits = Vec::new();
        for lesion in &self.lesions {
            lesion.part.check(&lab.model)?;
            let instead = self.instead.as_ref().map_or(Instead::Zero, Instead::Values);
            edits.push(lesion.part.edit(instead, lesion.when.positions(prompt))?);
        }
        for graft in &self.grafts {
            let Some((tokens, kept)) = &self.source else {
                return Err(Error::usage(
                    "there is no prompt to take an activation from",
                    "give it with `--from 'another prompt'`",
                ));
            };
            let kept = kept.get(graft.what.site)?;
            let (to, from) = match graft.places {
                Some((to, from)) => (to.positions(prompt), from.positions(tokens.len())),
                None if tokens.len() == prompt => {
                    (When::Prompt.positions(prompt), When::Prompt.positions(prompt))
                }
                None => {
                    return Err(Error::usage(
                        format!(
                            "the prompt has {prompt} tokens and the one to take from {}: positions do not correspond",
                            tokens.len()
                        ),
                        "name the position, as in `a1.h0@4` (the same in both), `a1.h0@end`, or `a1.h0@4:3` (to 4, from 3)",
                    ));
                }
            };
            let values = graft.what.clone().pos(from).take(kept)?;
            edits.push(Edit { at: graft.what.clone().pos(to), op: Op::Set(values) });
        }
        for push in &self.pushes {
            let at = |site| Slice::whole(site).pos(push.when.positions(prompt));
            match push.strength {
                Some(strength) => {
                    let op = Op::Add(push.direction.affine(strength, 0.0)?);
                    edits.push(Edit { at: at(push.site), op });
                }
                None => edits.extend(
                    steering::stream(&lab.model)
                        .into_iter()
                        .map(|site| Edit { at: at(site), op: Op::Project(push.direction.clone()) }),
                ),
            }
        }
        Ok(edits)
    }
}

/// A site to steer at, by the name of the place in a block (`resid_pre`) and the layer; by default the middle one.
pub fn steering_site(lab: &Lab, place: &str, layer: Option<usize>) -> Result<Site> {
    let all = [At::ResidPre, At::ResidMid, At::ResidPost, At::AttnOut, At::MlpOut];
    let name = |at: At| at.name().trim_start_matches("hook_");
    let at = all.into_iter().find(|&at| name(at) == place);
    let at = at.ok_or_else(|| Error::unknown("site to steer at", place, all.map(name)))?;
    let site = Site::Block(layer.unwrap_or(lab.model.config.n_layers / 2), at);
    lab.model.check_site(site)?;
    Ok(site)
}

/// The mean direction from the first to the second of several `FROM => TO`, read at the last token of each text.
pub fn contrast(
    lab: &Lab,
    texts: &[String],
    bos: Bos,
    place: &str,
    layer: Option<usize>,
) -> Result<(Site, Tensor)> {
    let site = steering_site(lab, place, layer)?;
    let (mut from, mut to) = (Vec::new(), Vec::new());
    for text in texts {
        let Some((a, b)) = text.split_once("=>") else {
            return Err(Error::usage(
                format!("`{text}` names no two texts"),
                "write `--steer 'The key => The keys'`: from which text, to which",
            ));
        };
        from.push(read_prompt(a.trim(), &lab.vocabulary, bos)?);
        to.push(read_prompt(b.trim(), &lab.vocabulary, bos)?);
    }
    fn last(texts: &[Vec<u32>]) -> Vec<Reading<'_>> {
        texts.iter().map(|tokens| Reading { tokens, at: tokens.len().saturating_sub(1) }).collect()
    }
    let found = steering::contrast(lab, &last(&to), &last(&from), &[site])?;
    Ok((site, found.get(site)?.clone()))
}

/// The direction at a site in a safetensors file, such as a run folder's `tensors.safetensors` after `steer`. Without a
/// layer the file must hold one direction only.
pub fn direction(lab: &Lab, path: &Path, place: &str, layer: Option<usize>) -> Result<(Site, Tensor)> {
    let mut tensors = Tensors::open(&[path.to_owned()], DType::F64, &Device::Cpu)?;
    let mut known: BTreeMap<Site, String> = BTreeMap::new();
    for name in tensors.names() {
        let site = name.strip_prefix("steer.").unwrap_or(name).parse::<Site>();
        if let Some(site) = site.ok().filter(|&site| steering::check_site(site).is_ok()) {
            known.insert(site, name.to_owned());
        }
    }
    let listed = || known.keys().map(Site::to_string).collect::<Vec<_>>().join(", ");
    let site = match (layer, known.keys().next()) {
        (_, None) => {
            return Err(Error::input(
                format!("{} holds no steering direction", path.display()),
                "`glassbox steer --out DIR` writes them to DIR/tensors.safetensors, as `steer.blocks.1.hook_resid_pre`",
            ));
        }
        (None, Some(&only)) if known.len() == 1 => only,
        (None, Some(_)) => {
            return Err(Error::usage(
                format!("{} holds directions for {}", path.display(), listed()),
                "choose one with `--layer` (and `--site`)",
            ));
        }
        (layer, Some(_)) => steering_site(lab, place, layer)?,
    };
    lab.model.check_site(site)?;
    let Some(name) = known.get(&site) else {
        return Err(Error::usage(
            format!("{} holds no direction for {site}: it has {}", path.display(), listed()),
            "choose one of these with `--layer` and `--site`",
        ));
    };
    let width = lab.model.shape(site, 1, 1).last().copied().unwrap_or(0);
    match tensors.shape(name) {
        Some([size]) if *size == width => {}
        shape => {
            return Err(Error::Shape {
                what: format!("{name} in {}", path.display()),
                got: shape.unwrap_or_default().to_vec(),
                expected: format!("[{width}]"),
            });
        }
    }
    Ok((site, tensors.take(name, &[width])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_say_what_and_where() {
        let lesion: Lesion = "a1.h0".parse().unwrap();
        assert_eq!((lesion.part.to_string().as_str(), lesion.when), ("a1.h0", When::All));
        assert_eq!("m2@new".parse::<Lesion>().unwrap().when, When::New);
        let graft: Graft = "blocks.1.hook_resid_pre@4".parse().unwrap();
        assert_eq!(graft.what.site, Site::Block(1, At::ResidPre));
        assert_eq!(graft.places, Some((When::At(4), When::At(4))));
        let graft: Graft = "a1.h0@end:3".parse().unwrap();
        assert_eq!((graft.what.head, graft.places), (Some(0), Some((When::End, When::At(3)))));
        assert_eq!("m0".parse::<Graft>().unwrap().places, None);
        for wrong in [
            "",
            "a1.h0@",
            "a1.h0@x",
            "blocks.0.hook_resid",
            "m0@new",
            "m0@1:2:3",
            "blocks.0.attn.hook_pattern@1",
        ] {
            assert!(wrong.parse::<Graft>().is_err(), "{wrong}");
        }
        assert!("a1.h0@somewhere".parse::<Lesion>().is_err());
    }

    #[test]
    fn places_are_positions() {
        assert_eq!(When::New.positions(5), Positions::From(4));
        assert_eq!(When::End.positions(5), Positions::At(vec![4]));
        assert_eq!(When::Prompt.positions(3), Positions::At(vec![0, 1, 2]));
    }
}
