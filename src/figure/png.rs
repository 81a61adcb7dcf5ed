//! Scenes as PNG, drawn by resvg with the embedded typeface only. Safe to call from many threads at once.

use std::sync::{Arc, OnceLock};

use resvg::tiny_skia::{IntSize, Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

use crate::error::{Error, Result};
use crate::figure::font;
use crate::figure::scene::Scene;
use crate::figure::svg;

/// Print resolution, in dots per inch.
pub const PRINT: f64 = 300.0;
/// Twice a screen's 96 dots per inch.
pub const SCREEN_2X: f64 = 192.0;

/// Points in an inch.
const POINTS: f64 = 72.0;
/// Above this many pixels a picture is a mistake, not a figure.
const MOST_PIXELS: f64 = 2e8;

/// The drawing at `dpi` dots per inch; the file says so, so that it prints at its true size, and carries the caption.
pub fn write(scene: &Scene, dpi: f64) -> Result<Vec<u8>> {
    let pixels = |points: f64| (points * dpi / POINTS).round();
    let (w, h) = (pixels(scene.width), pixels(scene.height));
    if !(w >= 1.0 && h >= 1.0 && w * h <= MOST_PIXELS) {
        return Err(Error::usage(
            format!(
                "a picture of {:.0} × {:.0} points at {dpi} dpi cannot be drawn",
                scene.width, scene.height
            ),
            "ask for 72 to 1200 dpi, and a width and height above 0",
        ));
    }
    let broken = |cause: String| {
        Error::input(format!("the picture could not be drawn: {cause}"), "this is a bug of ours")
    };
    let tree = Tree::from_str(&svg::write(scene), options()).map_err(|e| broken(e.to_string()))?;
    let mut pixmap = Pixmap::new(w as u32, h as u32).ok_or_else(|| broken("no memory".into()))?;
    let scale = Transform::from_scale(w as f32 / tree.size().width(), h as f32 / tree.size().height());
    resvg::render(&tree, scale, &mut pixmap.as_mut());
    let png = pixmap.encode_png().map_err(|e| broken(e.to_string()))?;
    Ok(with_facts(&png, dpi, &scene.caption))
}

/// A raster as PNG bytes; `None` when the bytes do not make whole rows.
pub fn raster(rgba: &[u8], columns: usize) -> Option<Vec<u8>> {
    let rows = rgba.len().checked_div(columns * 4)?;
    if rows * columns * 4 != rgba.len() {
        return None;
    }
    let size = IntSize::from_wh(u32::try_from(columns).ok()?, u32::try_from(rows).ok()?)?;
    // Every pixel is opaque or empty here, so that premultiplied bytes are the same bytes.
    Pixmap::from_vec(rgba.to_vec(), size)?.encode_png().ok()
}

/// The embedded fonts, read once.
fn options() -> &'static Options<'static> {
    static OPTIONS: OnceLock<Options<'static>> = OnceLock::new();
    OPTIONS.get_or_init(|| {
        let mut fonts = fontdb::Database::new();
        for face in [font::REGULAR, font::BOLD] {
            fonts.load_font_source(fontdb::Source::Binary(Arc::new(face)));
        }
        fonts.set_sans_serif_family(font::FAMILY);
        Options { fontdb: Arc::new(fonts), font_family: font::FAMILY.to_owned(), ..Options::default() }
    })
}

/// Inserts chunks after the header: how many pixels make a metre, and the caption.
fn with_facts(png: &[u8], dpi: f64, caption: &str) -> Vec<u8> {
    const HEADER: usize = 8 + 4 + 4 + 13 + 4; // signature, then length, name, fields and checksum of IHDR
    let per_metre = ((dpi / 0.0254).round() as u32).to_be_bytes();
    let resolution = [&per_metre[..], &per_metre[..], &[1]].concat();
    let mut facts = chunk(b"pHYs", &resolution);
    if !caption.is_empty() {
        // keyword, not compressed, no language, no translated keyword, text
        facts.extend(chunk(b"iTXt", &[b"Description\0\0\0\0\0", font::inert(caption).as_bytes()].concat()));
    }
    let (head, tail) = png.split_at(HEADER.min(png.len()));
    [head, &facts, tail].concat()
}

/// Length, name, contents, checksum.
fn chunk(name: &[u8; 4], contents: &[u8]) -> Vec<u8> {
    let named = [&name[..], contents].concat();
    let length = u32::try_from(contents.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[..], &named, &crc(&named).to_be_bytes()].concat()
}

/// PNG's checksum (CRC-32), bit by bit: the chunks are short.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0u32, |crc, b| (0..8).fold(crc ^ u32::from(*b), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_have_the_pixels_of_their_size() {
        let caption = "Effect − n = 12, 日本.".to_owned();
        let png = write(&Scene { caption, ..Scene::new(234.0, 100.0) }, PRINT).unwrap();
        let image = Pixmap::decode_png(&png).unwrap();
        assert_eq!((image.width(), image.height()), (975, 417));
        assert_eq!(&png[37..41], b"pHYs");
        assert_eq!(&png[58..62], b"iTXt");
        let said = "Description\0\0\0\0\0Effect − n = 12, 日本.".as_bytes();
        assert_eq!(&png[62..62 + said.len()], said);
    }

    #[test]
    fn checksum_is_the_standard_one() {
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn an_impossible_size_is_refused() {
        for (size, dpi) in [(0.0, 300.0), (f64::NAN, 300.0), (1e6, 300.0), (100.0, -1.0)] {
            assert!(write(&Scene::new(size, size), dpi).is_err());
        }
        assert!(raster(&[0; 7], 2).is_none());
        assert!(raster(&[], 0).is_none());
    }
}
