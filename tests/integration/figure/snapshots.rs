//! Two drawings of each kind, byte for byte: the first sample that is named after the kind, and the first hostile one.
//!
//! A change of drawing code shows here. `GLASSBOX_REDRAW=1 cargo test --release --test integration figure::snapshots` draws
//! them anew; look at what changed before it is committed.

use std::collections::BTreeSet;
use std::path::Path;

use glassbox::figure;

use super::samples::{Sample, samples};

/// The first sample of each kind, and the first of its samples that is called hostile; a name begins with its kind's.
pub fn chosen() -> Vec<Sample> {
    let mut seen = BTreeSet::new();
    let mut all = samples();
    all.retain(|(name, _, view)| {
        name.starts_with(&view.kind) && seen.insert((view.kind.clone(), name.contains("hostile")))
    });
    all
}

#[test]
fn drawings_are_the_committed_ones() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/figures"));
    let redraw = std::env::var_os("GLASSBOX_REDRAW").is_some();
    let how = "look at the new drawing (GLASSBOX_GALLERY=<folder> writes it there); if the change is meant, run \
               `GLASSBOX_REDRAW=1 cargo test --release --test integration figure::snapshots` and commit tests/fixtures/figures";
    let (mut kept, mut kinds) = (BTreeSet::new(), BTreeSet::new());
    for (name, rows, view) in chosen() {
        kinds.insert(view.kind.clone());
        let file = format!("{name}.svg");
        let svg = figure::draw(&rows, &view).unwrap().to_svg();
        if redraw {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join(&file), &svg).unwrap();
        }
        let known = std::fs::read_to_string(folder.join(&file)).unwrap_or_default();
        let differs = known.lines().zip(svg.lines()).find(|(a, b)| a != b);
        assert!(known == svg, "{file} is drawn otherwise, first at {differs:?}: {how}");
        kept.insert(file);
    }
    for figure in figure::FIGURES {
        assert!(kinds.contains(figure.name), "no sample of {0} has a name that begins with {0}", figure.name);
    }
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let file = entry.file_name().into_string().unwrap();
        if !kept.contains(&file) && redraw {
            std::fs::remove_file(entry.path()).unwrap();
            continue;
        }
        assert!(kept.contains(&file), "{file} belongs to no sample: {how}");
        bytes += entry.metadata().unwrap().len();
    }
    assert!(bytes < 1_500_000, "the drawings take {bytes} bytes: choose smaller first samples");
}
