//! What an author would send back the night before a deadline.

use glassbox::figure::color::NEGATIVE;
use glassbox::figure::scene::{Fill, Item, Text};
use glassbox::figure::{self, Scene, Span, Venue, View};

use super::samples::samples;

fn sample(name: &str) -> Scene {
    let (_, rows, view) = samples().into_iter().find(|sample| sample.0 == name).unwrap();
    figure::draw(&rows, &view).unwrap()
}

/// Everything drawn, groups opened.
fn items(all: &[Item]) -> Vec<&Item> {
    let mut found = Vec::new();
    for item in all {
        match item {
            Item::Group(group) => found.extend(items(&group.items)),
            item => found.push(item),
        }
    }
    found
}

fn texts(scene: &Scene) -> Vec<&Text> {
    let all = items(&scene.items).into_iter();
    all.filter_map(|item: &Item| if let Item::Text(text) = item { Some(text) } else { None }).collect()
}

#[test]
fn a_picture_fits_its_page_or_slide() {
    for (name, rows, view) in samples() {
        let scene = figure::draw(&rows, &view).unwrap();
        assert!(scene.height <= 521.0, "{name} leaves no room for a caption: {}", scene.height);
        // as many panels are for a page
        if name == "attention-144" {
            continue;
        }
        let slide = View { venue: Venue::Slide, span: Some(Span::Full), width: None, ..view };
        let scene = figure::draw(&rows, &slide).unwrap();
        assert!(scene.height <= 405.0, "{name} is higher than a slide of 16:9: {}", scene.height);
    }
}

#[test]
fn small_type_is_never_too_small() {
    for (name, rows, view) in samples() {
        for venue in [view.venue, Venue::Icml, Venue::Slide] {
            let scene = figure::draw(&rows, &View { venue, ..view.clone() }).unwrap();
            let least = texts(&scene).iter().map(|text| text.size).fold(f64::INFINITY, f64::min);
            assert!(least >= 5.0, "{name} for {venue:?} has type of {least} points");
        }
    }
}

#[test]
fn names_of_several_levels_stand_in_the_legend() {
    let scene = sample("probe-levels");
    for name in ["embeddings", "most frequent class"] {
        let found: Vec<f64> = texts(&scene).iter().filter(|t| t.text == name).map(|t| t.y).collect();
        assert!(matches!(found[..], [y] if y < 40.0), "{name}: {found:?}");
    }
}

#[test]
fn words_of_an_axis_are_said_once() {
    let scene = sample("trace-rows");
    let said = texts(&scene).iter().filter(|t| t.text.starts_with("restored layer")).count();
    assert_eq!(said, 1);
    assert!(texts(&sample("training-words")).iter().any(|t| t.text == "value"));
}

#[test]
fn a_bar_without_an_end_is_seen() {
    for name in ["extreme-bars-endless", "extreme-bars-infinite"] {
        let scene = sample(name);
        let bar = |item: &&Item| matches!(item, Item::Rect(_, Fill::Solid(color), _) if *color == NEGATIVE);
        let wide = |item: &&Item| matches!(item, Item::Rect(frame, ..) if frame.w > 12.0);
        let drawn = items(&scene.items);
        let said = texts(&scene).iter().filter(|t| t.text == "−∞").count();
        assert!(said > 1 && drawn.iter().copied().filter(|i| bar(i) && wide(i)).count() == said, "{name}");
        assert!(scene.caption.contains("are infinite, and written on bars"), "{}", scene.caption);
    }
}

#[test]
fn what_is_left_out_is_in_the_caption() {
    assert!(sample("bars").caption.ends_with("4 more not shown, each of size at most 0.020."));
    assert!(sample("circuit-crowd").caption.contains("The 150 largest of 378 edges."));
    assert!(sample("extreme-scatter").caption.contains("without two finite numbers are not shown."));
}
