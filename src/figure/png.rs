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
    encode(&pixmap, dpi, &scene.caption).map_err(|e| broken(e.to_string()))
}

/// Pixels without opacity, for paper has none, with how many make a metre, and the caption.
fn encode(pixmap: &Pixmap, dpi: f64, caption: &str) -> std::result::Result<Vec<u8>, png::EncodingError> {
    let per_metre = (dpi / 0.0254).round() as u32;
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, pixmap.width(), pixmap.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    encoder.set_pixel_dims(Some(png::PixelDimensions {
        xppu: per_metre,
        yppu: per_metre,
        unit: png::Unit::Meter,
    }));
    if !caption.is_empty() {
        encoder.add_itxt_chunk("Description".to_owned(), font::inert(caption))?;
    }
    let colours: Vec<u8> = pixmap.pixels().iter().flat_map(|p| [p.red(), p.green(), p.blue()]).collect();
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&colours)?;
    writer.finish()?;
    Ok(out)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_have_the_pixels_of_their_size() {
        let caption = "Effect − n = 12, 日本.".to_owned();
        let png = write(&Scene { caption: caption.clone(), ..Scene::new(234.0, 100.0) }, PRINT).unwrap();
        let image = Pixmap::decode_png(&png).unwrap();
        assert_eq!((image.width(), image.height()), (975, 417));
        let reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let dots = reader.info().pixel_dims.unwrap();
        assert_eq!((dots.xppu, dots.yppu, dots.unit), (11811, 11811, png::Unit::Meter));
        let [said] = reader.info().utf8_text.as_slice() else { panic!("one text is expected") };
        assert_eq!((said.keyword.as_str(), said.get_text().unwrap()), ("Description", caption));
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
