//! Interventions as data: what is changed where.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::ops::{Change, Region, splice};
use crate::site::{At, Site, Slice};

/// What happens to the activation at a [`Slice`].
#[derive(Debug, Clone)]
pub enum Op {
    /// Takes these values: the slice's own shape, or its trailing axes, repeated over the leading ones.
    Set(Tensor),
    /// Adds these values: shapes as for [`Op::Set`].
    Add(Tensor),
    /// Multiplies by a number; masked scores (−∞) stay masked.
    Scale(f64),
    /// Removes the component along this direction of the last axis (normalised here).
    Project(Tensor),
    /// Removes a share of that component, 0 or more: 1 is [`Op::Project`], 2 the mirror image.
    Damp(Tensor, f64),
}

/// One intervention.
#[derive(Debug, Clone)]
pub struct Edit {
    /// Where.
    pub at: Slice,
    /// What.
    pub op: Op,
}

/// Edits as a hook. All edits of one activation are applied in a single copy of it, in the order given; whatever was
/// never reached is an error of [`Edits::finish`], so that no edit is silently lost.
#[derive(Debug, Default)]
pub struct Edits {
    by_site: BTreeMap<Site, Vec<Edit>>,
    visited: BTreeMap<Site, bool>,
}

impl Edits {
    /// A hook that applies these edits.
    pub fn new(edits: impl IntoIterator<Item = Edit>) -> Edits {
        let mut by_site: BTreeMap<Site, Vec<Edit>> = BTreeMap::new();
        for edit in edits {
            by_site.entry(edit.at.site).or_default().push(edit);
        }
        let visited = by_site.keys().map(|&site| (site, false)).collect();
        Edits { by_site, visited }
    }

    /// Checks that every edit was applied: a site that this model or this pass never reached is an error.
    pub fn finish(self) -> Result<()> {
        match self.visited.into_iter().find(|(_, visited)| !visited) {
            None => Ok(()),
            Some((site, _)) => Err(Error::NoSuchSite {
                site: site.to_string(),
                why: "an edit there was never applied, because the pass did not reach it".to_owned(),
            }),
        }
    }
}

/// A reader with an input of its own has a norm of its own: an edit of the shared one would pass it by.
pub(crate) fn refuse_norm_beside(site: Site, edited: impl Fn(Site) -> bool) -> Result<()> {
    let Site::Block(layer, At::QInput | At::KInput | At::VInput) = site else { return Ok(()) };
    let shared = [At::Ln1Scale, At::Ln1].map(|at| Site::Block(layer, at));
    match shared.into_iter().find(|&norm| edited(norm)) {
        None => Ok(()),
        Some(norm) => Err(Error::usage(
            format!(
                "{site} and {norm} cannot both be changed: a reader with its own input does not read the shared norm"
            ),
            "change them in separate passes",
        )),
    }
}

impl Hook for Edits {
    fn wants(&self, site: Site) -> bool {
        self.by_site.contains_key(&site)
    }

    fn visit(&mut self, site: Site, first_pos: usize, x: Tensor) -> Result<Tensor> {
        let Some(edits) = self.by_site.get(&site) else { return Ok(x) };
        refuse_norm_beside(site, |site| self.by_site.contains_key(&site))?;
        let mut regions = Vec::new();
        for edit in edits {
            let parts = edit.at.resolve(x.dims(), first_pos)?;
            let each: usize = parts.first().map_or(0, |part| part.iter().skip(1).map(Vec::len).product());
            let width = parts.first().and_then(|part| part.last()).map_or(0, Vec::len);
            let values = Values::of(edit, each, parts.len(), width)?;
            for (row, part) in parts.into_iter().enumerate() {
                regions.push(Region { part, change: values.change(row, each) });
            }
        }
        self.visited.insert(site, true);
        Ok(splice(&x, regions)?)
    }
}

/// The numbers of an edit, ready to be dealt out to the rows it covers.
pub(crate) struct Values<'a> {
    op: &'a Op,
    numbers: Vec<f64>,
}

impl Values<'_> {
    /// `each` numbers per row, `rows` rows, last axis of `width`.
    pub(crate) fn of(edit: &Edit, each: usize, rows: usize, width: usize) -> Result<Values<'_>> {
        let site = edit.at.site;
        let numbers = match &edit.op {
            Op::Scale(_) => Vec::new(),
            Op::Set(values) | Op::Add(values) => {
                let numbers = numbers(values)?;
                if numbers.is_empty() || !(rows * each).is_multiple_of(numbers.len()) {
                    return Err(misfit(site, values, &format!("{} numbers or a part of it", rows * each)));
                }
                numbers
            }
            Op::Project(direction) | Op::Damp(direction, _) => {
                let share = match edit.op {
                    Op::Damp(_, share) => share,
                    _ => 1.0,
                };
                if !(share.is_finite() && share >= 0.0) {
                    return Err(Error::usage(
                        format!("{share} of what lies along a direction cannot be removed at {site}"),
                        "give a share of 0 or more; 1 removes all of it",
                    ));
                }
                let numbers = numbers(direction)?;
                let norm = numbers.iter().map(|x| x * x).sum::<f64>().sqrt();
                if numbers.len() != width || !norm.is_normal() {
                    return Err(misfit(site, direction, &format!("a non-zero direction of {width}")));
                }
                // u·(u·x) of the unit vector scaled by √share is that share of it
                numbers.iter().map(|x| share.sqrt() * x / norm).collect()
            }
        };
        Ok(Values { op: &edit.op, numbers })
    }

    /// What happens to `each` numbers of a row.
    pub(crate) fn change(&self, row: usize, each: usize) -> Change {
        self.change_at(row * each..(row + 1) * each)
    }

    /// What happens to the numbers that are dealt out at these places, of those of all rows.
    pub(crate) fn change_at(&self, places: impl IntoIterator<Item = usize>) -> Change {
        let dealt = || places.into_iter().map(|i| self.numbers[i % self.numbers.len()]).collect();
        match self.op {
            Op::Set(_) => Change::Set(dealt()),
            Op::Add(_) => Change::Add(dealt()),
            Op::Scale(factor) => Change::Scale(*factor),
            Op::Project(_) | Op::Damp(..) => Change::Project(self.numbers.clone()),
        }
    }
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1()?)
}

fn misfit(site: Site, values: &Tensor, expected: &str) -> Error {
    Error::Shape {
        what: format!("the edit's value at {site}"),
        got: values.dims().to_vec(),
        expected: expected.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Positions;
    use candle_core::Device;

    fn x() -> Tensor {
        Tensor::arange(0f32, 12., &Device::Cpu).unwrap().reshape((2, 3, 2)).unwrap()
    }

    fn edited(edit: Edit) -> Vec<f32> {
        let mut hook = Edits::new([edit]);
        let y = hook.visit(Site::Embed, 0, x()).unwrap();
        hook.finish().unwrap();
        y.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn each_operation_changes_its_slice_and_nothing_else() {
        let at = Slice::whole(Site::Embed).pos(Positions::PerRow(vec![0, 2]));
        let value = Tensor::new(&[100f32, 200.], &Device::Cpu).unwrap();
        let set = edited(Edit { at: at.clone(), op: Op::Set(value.clone()) });
        assert_eq!(set, [100., 200., 2., 3., 4., 5., 6., 7., 8., 9., 100., 200.]);
        let add = edited(Edit { at: at.clone(), op: Op::Add(value) });
        assert_eq!(add, [100., 201., 2., 3., 4., 5., 6., 7., 8., 9., 110., 211.]);
        let scale = edited(Edit { at: at.clone().rows(1..2), op: Op::Scale(2.) });
        assert_eq!(scale[..8], [0., 1., 2., 3., 4., 5., 12., 14.]);
        let along = Tensor::new(&[0f32, 3.], &Device::Cpu).unwrap();
        let cut = edited(Edit { at: at.clone(), op: Op::Project(along.clone()) });
        assert_eq!(cut, [0., 0., 2., 3., 4., 5., 6., 7., 8., 9., 10., 0.]);
        let mirrored = edited(Edit { at: at.clone(), op: Op::Damp(along.clone(), 2.0) });
        mirrored.iter().zip([0., -1., 2., 3., 4., 5., 6., 7., 8., 9., 10., -11.]).for_each(|(got, want)| {
            assert!((got - want).abs() < 1e-5, "{got} is not {want}");
        });
        let negative = Edit { at, op: Op::Damp(along, -1.0) };
        assert!(Edits::new([negative]).visit(Site::Embed, 0, x()).is_err());
    }

    #[test]
    fn an_edit_that_never_fires_is_an_error() {
        let hook = Edits::new([Edit { at: Slice::whole(Site::Logits), op: Op::Scale(0.) }]);
        assert!(hook.finish().unwrap_err().to_string().contains("logits"));
    }

    #[test]
    fn a_readers_own_input_and_the_shared_norm_are_not_changed_together() {
        let edit = |at| Edit { at: Slice::whole(Site::Block(0, at)), op: Op::Scale(2.0) };
        let input = Tensor::zeros((1, 2, 1, 2), DType::F32, &Device::Cpu).unwrap();
        let mut both = Edits::new([edit(At::Ln1), edit(At::QInput)]);
        let error = both.visit(Site::Block(0, At::QInput), 0, input).unwrap_err().to_string();
        assert!(error.contains("cannot both be changed"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_size_is_refused() {
        let value = Tensor::zeros(5, DType::F32, &Device::Cpu).unwrap();
        let mut hook = Edits::new([Edit { at: Slice::whole(Site::Embed), op: Op::Set(value) }]);
        assert!(hook.visit(Site::Embed, 0, x()).is_err());
    }
}
