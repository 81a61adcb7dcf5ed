//! Pictures: every kind draws, on usual and on hostile rows, to the same bytes each time.
//!
//! `GLASSBOX_GALLERY=<folder> cargo test --release figure` also writes each picture there, to be looked at.

mod circuits;
mod documents;
mod looks;
mod refused;
mod samples;
mod snapshots;
mod vision;

use glassbox::figure::{self, FIGURES, Span, Venue};
use glassbox::row::Rows;

use self::samples::{components, heads, samples};

#[test]
fn every_sample_draws_to_the_same_bytes() {
    let gallery = std::env::var_os("GLASSBOX_GALLERY").map(std::path::PathBuf::from);
    for (name, rows, view) in samples() {
        let scene = figure::draw(&rows, &view).unwrap_or_else(|e| panic!("{name}: {e}"));
        let svg = scene.to_svg();
        assert_eq!(svg, figure::draw(&rows, &view).unwrap().to_svg(), "{name}");
        assert!(!svg.contains("<script") && !svg.contains("NaN,"), "{name}");
        let png = scene.to_png(figure::PRINT).unwrap();
        if let Some(folder) = &gallery {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join(format!("{name}.svg")), svg).unwrap();
            std::fs::write(folder.join(format!("{name}.png")), png).unwrap();
        }
    }
}

#[test]
fn every_kind_has_a_sample_and_every_file_is_registered() {
    let sampled: Vec<String> = samples().into_iter().map(|(_, _, view)| view.kind).collect();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/figure/kind");
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let name = file.trim_end_matches(".rs");
        if name != "mod" {
            assert!(FIGURES.iter().any(|f| f.name == name), "{file} is missing from FIGURES");
            assert!(sampled.iter().any(|kind| kind == name), "no sample of {name}");
        }
    }
    assert!(FIGURES.windows(2).all(|w| w[0].name < w[1].name) && FIGURES.iter().all(|f| !f.about.is_empty()));
}

/// What a view is told that cannot be drawn.
fn refusal(rows: &Rows, view: &str) -> String {
    figure::draw(rows, &toml::from_str(view).unwrap()).unwrap_err().to_string()
}

#[test]
fn mistakes_are_told_with_a_way_out() {
    let rows = heads(3, 4);
    let view = "kind='heatmap'\nx='head'\ny='layer'\nvalue='effect'\n";
    for (wrong, words) in [
        ("kind='heatmpa'", ["no picture named `heatmpa`", "`heatmap`"]),
        ("kind='heatmap'\nx='head'\ny='layer'", ["needs `value =", "name a column"]),
        ("kind='curve'\nx='layer'\nvalue='effect'", ["two rows of", "at layer 0"]),
        (&view.replace("effect", "efect"), ["no column named `efect`", "`effect`"]),
        (&format!("{view}only={{layer='9'}}"), ["nothing to draw", "layer = \"9\""]),
        (&format!("{view}limits=[1.0, -1.0]"), ["`limits` are 1 and -1", "lower limit first"]),
        (&format!("{view}limits=[nan, 1.0]"), ["`limits`", "lower"]),
        (&format!("{view}height=-5.0"), ["`height`", "points"]),
        (&view.replace("x='head'", "x='layer'"), ["two rows", "`only"]),
        ("kind='curve'\nx='head'\nvalue='effect'\nlo='ci_low'", ["no column named `ci_low`", "`ci_lo`"]),
    ] {
        let told = refusal(&rows, wrong);
        assert!(words.iter().all(|w| told.contains(w)), "{wrong}: {told}");
    }
    let text = "kind='bars'\nlabel='component'\nvalue='role'";
    assert!(refusal(&components(), text).contains("holds text, not numbers"));
    let empty = rows.filter(|_| false);
    for figure in FIGURES {
        assert!(refusal(&empty, &format!("kind='{}'", figure.name)).contains("nothing to draw"));
    }
}

#[test]
fn captions_describe_and_pictures_have_their_size() {
    let (_, rows, mut view) = samples().remove(0);
    view.caption = "Effect of <each> head & its interval.".into();
    (view.venue, view.span) = (Venue::Icml, Some(Span::Full));
    let scene = figure::draw(&rows, &view).unwrap();
    let svg = scene.to_svg();
    assert!(svg.contains("<desc>Effect of &lt;each&gt; head &amp; its interval. Outlined: "));
    assert!(svg.contains("width=\"486pt\""));
    let png = scene.to_png(figure::SCREEN_2X).unwrap();
    let pixels = u32::from_be_bytes(png[16..20].try_into().unwrap());
    assert_eq!(pixels, 1296); // 6.75 inches of 192 dots
    assert_eq!(png, scene.to_png(figure::SCREEN_2X).unwrap());
}
