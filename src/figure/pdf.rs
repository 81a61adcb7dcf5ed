//! Scenes as PDF, drawn by krilla with the embedded typeface only: the same scene gives the same bytes.
//!
//! Text is embedded as a subset of the typeface (CIDFontType2 with ToUnicode, which venues take where they refuse Type 3),
//! so that it can be selected and searched; every letter stands where [`font::width`] measured it.

use std::sync::OnceLock;

use krilla::configure::{ConfigurationBuilder, PdfVersion};
use krilla::geom::{Path, PathBuilder, Point, Rect, Size, Transform};
use krilla::metadata::Metadata;
use krilla::num::NormalizedF32;
use krilla::paint::{self, FillRule, LineJoin, Paint, Pattern, StrokeDash};
use krilla::surface::Surface;
use krilla::text::{Font, GlyphId, KrillaGlyph, TextDirection};
use krilla::{Data, Document, SerializeSettings, color::rgb, image::Image, page::PageSettings};
use unicode_bidi::{BidiInfo, Level};

use crate::error::{Error, Result};
use crate::figure::color::{Color, HATCH, MISSING, WHITE};
use crate::figure::font;
use crate::figure::scene::{Anchor, Fill, Frame, Group, Item, Scene, Stroke, Text};

/// How letters are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TextAs {
    /// As text in an embedded font: it can be selected, searched and read aloud.
    #[default]
    Text,
    /// As shapes, for submission systems that take no embedded font.
    Path,
}

/// No reader shows a longer page, in points (200 inches).
const LONGEST: f64 = 14_400.0;

/// The drawing as a document of one page, as large as the scene.
pub fn write(scene: &Scene, text: TextAs) -> Result<Vec<u8>> {
    let broken = |cause: String| {
        Error::input(format!("the picture could not be written as PDF: {cause}"), "this is a bug of ours")
    };
    let fits = |v: f64| (1.0..=LONGEST).contains(&v);
    let size = if fits(scene.width) && fits(scene.height) {
        PageSettings::from_wh(scene.width as f32, scene.height as f32)
    } else {
        None
    };
    let settings = size.ok_or_else(|| {
        let what = format!("a page of {:.0} × {:.0} points cannot be made", scene.width, scene.height);
        Error::usage(what, "ask for 1 to 14400 points; 72 points are an inch")
    })?;
    // pdfTeX includes documents up to 1.5 without a warning.
    let version = ConfigurationBuilder::new().with_version(PdfVersion::Pdf15).finish();
    let configuration = version.map_err(|e| broken(format!("{e:?}")))?;
    let mut document =
        Document::new_with(SerializeSettings { configuration, ..SerializeSettings::default() });
    let [regular, bold] = faces().as_ref().ok_or_else(|| broken("the typeface cannot be read".into()))?;
    let mut metadata = Metadata::new().title(font::inert(&scene.title)).creator("glassbox".to_owned());
    if !scene.caption.is_empty() {
        metadata = metadata.description(font::inert(&scene.caption));
    }
    document.set_metadata(metadata);
    {
        let mut page = document.start_page_with(settings);
        let mut pen = Pen { surface: page.surface(), faces: [regular, bold], text };
        pen.rect(&Frame::new(0.0, 0.0, scene.width, scene.height), Fill::Solid(WHITE), None);
        pen.items(&scene.items);
    }
    document.finish().map_err(|e| broken(e.to_string()))
}

/// The embedded typeface, regular and bold, read once.
fn faces() -> &'static Option<[Font; 2]> {
    static FACES: OnceLock<Option<[Font; 2]>> = OnceLock::new();
    FACES.get_or_init(|| {
        Some([Font::new(Data::from(font::REGULAR), 0)?, Font::new(Data::from(font::BOLD), 0)?])
    })
}

/// Draws on a page.
struct Pen<'a> {
    surface: Surface<'a>,
    faces: [&'a Font; 2],
    text: TextAs,
}

impl Pen<'_> {
    fn items(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::Rect(frame, fill, stroke) => self.rect(frame, *fill, stroke.as_ref()),
                Item::Path { points, closed, fill, stroke } => {
                    self.path(polygon(points, *closed), *fill, stroke.as_ref());
                }
                Item::Circle { at, r, fill, stroke } => self.path(circle(*at, *r), *fill, stroke.as_ref()),
                Item::Text(text) => self.text(text),
                Item::Image { at, columns, rgba } => self.image(at, *columns, rgba),
                Item::Group(group) => self.group(group),
            }
        }
    }

    fn group(&mut self, group: &Group) {
        let clip = group.clip.map(|frame| rectangle(&frame));
        match clip {
            None => self.items(&group.items),
            Some(Some(path)) => {
                self.surface.push_clip_path(&path, &FillRule::NonZero);
                self.items(&group.items);
                self.surface.pop();
            }
            Some(None) => {} // clipped to nothing
        }
    }

    fn rect(&mut self, frame: &Frame, fill: Fill, stroke: Option<&Stroke>) {
        self.path(rectangle(frame), fill, stroke);
    }

    fn path(&mut self, path: Option<Path>, fill: Fill, stroke: Option<&Stroke>) {
        let Some(path) = path else { return };
        let fill = match fill {
            Fill::None => None,
            Fill::Solid(color) => Some(solid(color)),
            Fill::Hatch => Some(paint::Fill { paint: self.hatch(), ..paint::Fill::default() }),
        };
        if fill.is_none() && stroke.is_none() {
            return; // krilla would paint it black
        }
        self.surface.set_fill(fill);
        self.surface.set_stroke(stroke.map(line));
        self.surface.draw_path(&path);
    }

    /// Grey with lines at 45 degrees, as in the SVG.
    fn hatch(&mut self) -> Paint {
        let mut builder = self.surface.stream_builder();
        let mut tile = builder.surface();
        let grounds = [(Frame::new(0.0, 0.0, 3.0, 3.0), MISSING), (Frame::new(0.0, 0.0, 0.7, 3.0), HATCH)];
        for (frame, color) in grounds {
            tile.set_fill(Some(solid(color)));
            if let Some(path) = rectangle(&frame) {
                tile.draw_path(&path);
            }
        }
        tile.finish();
        let stream = builder.finish();
        Pattern { stream, transform: Transform::from_rotate(45.0), width: 3.0, height: 3.0 }.into()
    }

    fn image(&mut self, at: &Frame, columns: usize, rgba: &[u8]) {
        let rows = rgba.len().checked_div(columns * 4).unwrap_or(0);
        let (Ok(w), Ok(h)) = (u32::try_from(columns), u32::try_from(rows)) else { return };
        let size = Size::from_wh(short(at.w), short(at.h));
        let Some(size) = size.filter(|_| rows * columns * 4 == rgba.len() && rows > 0) else { return };
        self.surface.push_transform(&Transform::from_translate(short(at.x), short(at.y)));
        self.surface.draw_image(Image::from_rgba8(rgba.to_vec(), w, h), size);
        self.surface.pop();
    }

    fn text(&mut self, text: &Text) {
        let words = font::visible(&text.text);
        let wide = font::width(&words, text.size, text.bold);
        let back = match text.anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => wide / 2.0,
            Anchor::End => wide,
        };
        let turned = text.angle != 0.0;
        if turned {
            let turn = Transform::from_rotate_at(short(text.angle), short(text.x), short(text.y));
            self.surface.push_transform(&turn);
        }
        self.surface.set_fill(Some(solid(text.color)));
        self.surface.set_stroke(None);
        let bidi = BidiInfo::new(&words, Some(Level::ltr()));
        let mut x = text.x - back;
        for paragraph in &bidi.paragraphs {
            let (levels, runs) = bidi.visual_runs(paragraph, paragraph.range.clone());
            for run in runs {
                let rtl = levels.get(run.start).is_some_and(Level::is_rtl);
                let Some(part) = words.get(run) else { continue };
                self.run(part, x, text, rtl);
                x += font::width(part, text.size, text.bold);
            }
        }
        if turned {
            self.surface.pop();
        }
    }

    /// Letters of one direction. Scripts whose letters join or carry marks are shaped; others stand as they were measured.
    fn run(&mut self, part: &str, x: f64, text: &Text, rtl: bool) {
        let font = self.faces[usize::from(text.bold)].clone();
        let (at, size) = (Point::from_xy(short(x), short(text.y)), short(text.size));
        let outlined = self.text == TextAs::Path;
        if rtl || part.chars().any(joins) {
            let direction = if rtl { TextDirection::RightToLeft } else { TextDirection::LeftToRight };
            self.surface.draw_text(at, font, size, part, outlined, direction);
            return;
        }
        let glyph = |(start, c): (usize, char)| {
            let (id, advance) = font::glyph(c, text.bold)?;
            let id = GlyphId::new(u32::from(id));
            Some(KrillaGlyph::new(id, advance as f32, 0.0, 0.0, 0.0, start..start + c.len_utf8(), None))
        };
        let glyphs: Vec<KrillaGlyph> = part.char_indices().filter_map(glyph).collect();
        self.surface.draw_glyphs(at, &glyphs, font, part, size, outlined);
    }
}

/// Letters that are more than one sign after another: marks, Indic and Semitic scripts, and what is not known here.
fn joins(c: char) -> bool {
    !matches!(c, '\0'..='\u{2ff}' | '\u{370}'..='\u{482}' | '\u{48a}'..='\u{58f}' | '\u{10a0}'..='\u{10ff}'
        | '\u{1d00}'..='\u{1dbf}' | '\u{1e00}'..='\u{20cf}' | '\u{2100}'..='\u{2dff}')
}

fn solid(color: Color) -> paint::Fill {
    let opacity = opacity(color);
    paint::Fill {
        paint: rgb::Color::new(color.r, color.g, color.b).into(),
        opacity,
        ..paint::Fill::default()
    }
}

fn line(stroke: &Stroke) -> paint::Stroke {
    let color = stroke.color;
    let dash = || StrokeDash { array: stroke.dash.iter().map(|d| short(*d)).collect(), offset: 0.0 };
    paint::Stroke {
        paint: rgb::Color::new(color.r, color.g, color.b).into(),
        width: short(stroke.width),
        line_join: LineJoin::Round,
        opacity: opacity(color),
        dash: (!stroke.dash.is_empty()).then(dash),
        ..paint::Stroke::default()
    }
}

fn opacity(color: Color) -> NormalizedF32 {
    NormalizedF32::new(short(color.a)).unwrap_or(NormalizedF32::ONE)
}

/// None for a rectangle without area.
fn rectangle(frame: &Frame) -> Option<Path> {
    let rect =
        Rect::from_xywh(short(frame.x), short(frame.y), short(frame.w.max(0.0)), short(frame.h.max(0.0)))?;
    let mut path = PathBuilder::new();
    path.push_rect(rect);
    path.finish()
}

fn polygon(points: &[[f64; 2]], closed: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (i, [x, y]) in points.iter().enumerate() {
        if i == 0 {
            path.move_to(short(*x), short(*y));
        } else {
            path.line_to(short(*x), short(*y));
        }
    }
    if closed {
        path.close();
    }
    path.finish()
}

/// Four Bézier arcs, true to a fiftieth of a percent of the radius.
fn circle([x, y]: [f64; 2], r: f64) -> Option<Path> {
    let k = r * 0.552_284_75;
    let p = |dx: f64, dy: f64| (short(x + dx), short(y + dy));
    let arcs = [
        [(r, k), (k, r), (0.0, r)],
        [(-k, r), (-r, k), (-r, 0.0)],
        [(-r, -k), (-k, -r), (0.0, -r)],
        [(k, -r), (r, -k), (r, 0.0)],
    ];
    let mut path = PathBuilder::new();
    let (x0, y0) = p(r, 0.0);
    path.move_to(x0, y0);
    for arc in arcs {
        let [(x1, y1), (x2, y2), (x3, y3)] = arc.map(|(dx, dy)| p(dx, dy));
        path.cubic_to(x1, y1, x2, y2, x3, y3);
    }
    path.close();
    path.finish()
}

/// A coordinate with three decimals, as in the SVG; what is not finite becomes 0.
fn short(v: f64) -> f32 {
    if v.is_finite() { ((v * 1000.0).round() / 1000.0) as f32 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(bytes: &[u8], words: &str) -> bool {
        bytes.windows(words.len()).any(|w| w == words.as_bytes())
    }

    #[test]
    fn a_page_is_as_large_as_the_scene_and_its_font_is_embedded() {
        let mut scene = Scene::new(234.5, 99.25);
        scene.title = "t".into();
        scene.caption = "what (it) shows".into();
        scene.add(Text::new(5.0, 20.0, "layer ␣↵ −×", 7.0));
        let pdf = write(&scene, TextAs::Text).unwrap();
        assert!(
            has(&pdf, "/MediaBox[0 0 234.5 99.25]") && has(&pdf, "/CIDFontType2") && has(&pdf, "/ToUnicode")
        );
        assert!(!has(&pdf, "/Type3") && !has(&pdf, "/CreationDate") && has(&pdf, "/Creator(glassbox)"));
        assert_eq!(pdf, write(&scene, TextAs::Text).unwrap());
        assert!(!has(&write(&scene, TextAs::Path).unwrap(), "/CIDFontType2"));
    }

    #[test]
    fn nothing_a_scene_can_hold_makes_it_panic() {
        let mut scene = Scene::new(50.0, 50.0);
        for words in ["", "日本語 😀", "שלום 12 (a) سلام", "e\u{301}\u{301}", "\u{0}\u{202e}", "ﬃ"]
        {
            scene.add(Text::new(f64::NAN, 5.0, words, 7.0).turn(-45.0));
        }
        scene.add(Item::Rect(Frame::new(0.0, 0.0, -1.0, f64::NAN), Fill::Hatch, None));
        scene.add(Item::Path { points: vec![], closed: true, fill: Fill::Hatch, stroke: None });
        scene.add(Item::Circle { at: [1.0, 1.0], r: 0.0, fill: Fill::Solid(WHITE), stroke: None });
        scene.add(Item::Image { at: Frame::default(), columns: 0, rgba: vec![1] });
        scene.add(Group { clip: Some(Frame::default()), items: scene.items.clone(), ..Group::default() });
        for text in [TextAs::Text, TextAs::Path] {
            assert!(write(&scene, text).is_ok());
        }
        assert!(write(&Scene::new(0.0, 5.0), TextAs::Text).is_err());
        assert!(write(&Scene::new(1e6, f64::NAN), TextAs::Text).is_err());
    }
}
