//! PDFs as a reader gets them: page size, fonts and text, asked of poppler where it is installed.
//!
//! `GLASSBOX_REQUIRE=poppler` makes its absence a failure.

use std::process::Command;

use glassbox::figure::scene::Item;
use glassbox::figure::{self, Scene, TextAs};

use super::samples::samples;
use super::snapshots::chosen;

/// What one of poppler's programs prints; none where it is not installed, which is said.
fn poppler(program: &str, arguments: &[&str]) -> Option<String> {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        let required = std::env::var("GLASSBOX_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|tool| tool.trim() == "poppler"), "{program} is not installed");
        eprintln!("skipped what {program} would say of PDFs: install poppler-utils");
        return None;
    };
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Width and height from a document's own words.
fn media_box(pdf: &[u8]) -> [f64; 2] {
    let text = String::from_utf8_lossy(pdf);
    let start = text.find("/MediaBox[").expect("a media box") + "/MediaBox[".len();
    let numbers: Vec<f64> =
        text[start..].split(']').next().unwrap().split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert_eq!(numbers[..2], [0.0, 0.0]);
    [numbers[2], numbers[3]]
}

/// Every text in the drawing.
fn texts(items: &[Item], found: &mut Vec<String>) {
    for item in items {
        match item {
            Item::Text(text) => found.push(text.text.clone()),
            Item::Group(group) => texts(&group.items, found),
            _ => {}
        }
    }
}

fn near(page: [f64; 2], scene: &Scene) -> bool {
    (page[0] - scene.width).abs() < 0.1 && (page[1] - scene.height).abs() < 0.1
}

#[test]
fn every_sample_becomes_a_page_of_its_size() {
    for (name, rows, view) in samples() {
        let scene = figure::draw(&rows, &view).unwrap();
        let pdf = scene.to_pdf(TextAs::Text).unwrap();
        assert!(pdf.starts_with(b"%PDF-1.5") && near(media_box(&pdf), &scene), "{name}");
        let words = String::from_utf8_lossy(&pdf);
        assert!(words.contains("/FontFile2") && words.contains("/ToUnicode"), "{name}: no font inside");
        assert!(!words.contains("/Type3") && !words.contains("/CreationDate"), "{name}");
    }
}

#[test]
fn documents_are_repeatable_and_read_by_poppler() {
    let folder = tempfile::tempdir().unwrap();
    for (name, rows, mut view) in chosen() {
        view.caption = "What − (it) shows × 日本.".into();
        let scene = figure::draw(&rows, &view).unwrap();
        let file = folder.path().join(format!("{name}.pdf"));
        let pdf = scene.to_pdf(TextAs::Text).unwrap();
        assert!(pdf == scene.to_pdf(TextAs::Text).unwrap(), "{name}: two runs differ");
        let outlines = scene.to_pdf(TextAs::Path).unwrap();
        assert!(!String::from_utf8_lossy(&outlines).contains("/Font"), "{name}: a font for outlines");
        std::fs::write(&file, pdf).unwrap();
        let file = file.to_str().unwrap();

        let Some(about) = poppler("pdfinfo", &[file]) else { return };
        let field =
            |key: &str| about.lines().find_map(|l| l.strip_prefix(key)).map(str::trim).unwrap_or_default();
        let size: Vec<f64> = field("Page size:").split(' ').filter_map(|n| n.parse().ok()).collect();
        assert!(near([size[0], size[1]], &scene), "{name}: {size:?}");
        assert!(field("Subject:").starts_with("What − (it) shows × 日本."), "{name}: {about}");
        assert_eq!((field("Creator:"), field("Title:")), ("glassbox", scene.title.as_str()), "{name}");

        let Some(fonts) = poppler("pdffonts", &[file]) else { return };
        for font in fonts.lines().skip(2) {
            assert!(font.contains("CID TrueType") && font.contains("yes yes yes"), "{name}: {font}");
        }

        let Some(read) = poppler("pdftotext", &["-raw", file, "-"]) else { return };
        let close = |text: &str| -> String { text.chars().filter(|c| !c.is_whitespace()).collect() };
        let read = close(&read);
        let (mut drawn, right_to_left) = (Vec::new(), |c: char| ('\u{590}'..'\u{900}').contains(&c));
        texts(&scene.items, &mut drawn);
        for text in drawn.iter().filter(|text| !text.chars().any(right_to_left)) {
            assert!(read.contains(&close(text)), "{name}: {text:?} is not in {read}");
        }
    }
}
