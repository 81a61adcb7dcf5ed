//! plotters draws into a scene: its integer pixels are hundredths of a point.

use std::convert::Infallible;

use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontStyle,
    FontTransform,
};

use crate::figure::color::Color;
use crate::figure::font;
use crate::figure::scene::{Anchor, Fill, Frame, Group, Item, Scene, Stroke, Text};

/// plotters pixels in a point.
pub const UNITS: f64 = 100.0;

/// A scene as a plotters canvas. Text sizes given to plotters are in the same units.
pub struct Canvas<'a> {
    scene: &'a mut Scene,
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl<'a> Canvas<'a> {
    /// Draws on top of what is there.
    pub fn on(scene: &'a mut Scene) -> Canvas<'a> {
        Canvas { scene }
    }

    /// Marks a place in the drawing, for [`Canvas::group`].
    pub fn begin(&self) -> usize {
        self.scene.items.len()
    }

    /// Puts what was drawn since `first` into a group that shows `tip` on hover; nothing changes without a tip.
    pub fn group(&mut self, first: usize, tip: &str) {
        if !tip.is_empty() {
            let items = self.scene.items.split_off(first.min(self.scene.items.len()));
            self.scene.add(Group { tip: tip.to_owned(), items, ..Group::default() });
        }
    }

    fn path(
        &mut self,
        points: impl IntoIterator<Item = BackendCoord>,
        closed: bool,
        fill: Fill,
        stroke: Option<Stroke>,
    ) {
        let mut points: Vec<[f64; 2]> = points.into_iter().map(point).collect();
        points.dedup();
        if points.len() > 1 {
            self.scene.add(Item::Path { points, closed, fill, stroke });
        }
    }
}

impl DrawingBackend for Canvas<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        ((self.scene.width * UNITS).round() as u32, (self.scene.height * UNITS).round() as u32)
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, at: BackendCoord, color: BackendColor) -> Drawn {
        let [x, y] = point(at);
        self.scene.add(Item::Rect(Frame::new(x, y, 1.0 / UNITS, 1.0 / UNITS), Fill::Solid(rgb(color)), None));
        Ok(())
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.path([from, to], false, Fill::None, Some(stroke(style)));
        Ok(())
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let ([x0, y0], [x1, y1]) = (point(from), point(to));
        let frame = Frame::new(x0.min(x1), y0.min(y1), (x1 - x0).abs(), (y1 - y0).abs());
        let (inside, outline) = if fill { (solid(style), None) } else { (Fill::None, Some(stroke(style))) };
        self.scene.add(Item::Rect(frame, inside, outline));
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        self.path(path, false, Fill::None, Some(stroke(style)));
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        at: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let (inside, outline) = if fill { (solid(style), None) } else { (Fill::None, Some(stroke(style))) };
        let r = f64::from(radius) / UNITS;
        self.scene.add(Item::Circle { at: point(at), r, fill: inside, stroke: outline });
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        vert: I,
        style: &S,
    ) -> Drawn {
        self.path(vert, true, solid(style), None);
        Ok(())
    }

    fn draw_text<T: BackendTextStyle>(&mut self, words: &str, style: &T, at: BackendCoord) -> Drawn {
        if words.is_empty() {
            return Ok(());
        }
        let [x, y] = point(at);
        let size = style.size() / UNITS;
        let anchor = match style.anchor().h_pos {
            HPos::Left => Anchor::Start,
            HPos::Center => Anchor::Middle,
            HPos::Right => Anchor::End,
        };
        let angle: f64 = match style.transform() {
            FontTransform::None => 0.0,
            FontTransform::Rotate90 => 90.0,
            FontTransform::Rotate180 => 180.0,
            FontTransform::Rotate270 => 270.0,
        };
        let drop = match style.anchor().v_pos {
            VPos::Top => size * font::CAP,
            VPos::Center => size * font::CAP / 2.0,
            VPos::Bottom => 0.0,
        };
        let (sin, cos) = angle.to_radians().sin_cos();
        let bold = matches!(style.style(), FontStyle::Bold);
        let text = Text::new(x - drop * sin, y + drop * cos, words, size);
        self.scene.add(text.anchor(anchor).turn(angle).bold(bold).color(rgb(style.color())));
        Ok(())
    }

    fn estimate_text_size<T: BackendTextStyle>(
        &self,
        words: &str,
        style: &T,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let bold = matches!(style.style(), FontStyle::Bold);
        let width = font::width(words, style.size(), bold);
        Ok((width.ceil() as u32, (style.size() * font::CAP).ceil() as u32))
    }
}

fn point((x, y): BackendCoord) -> [f64; 2] {
    [f64::from(x) / UNITS, f64::from(y) / UNITS]
}

fn rgb(color: BackendColor) -> Color {
    let (r, g, b) = color.rgb;
    Color { r, g, b, a: color.alpha }
}

fn solid<S: BackendStyle>(style: &S) -> Fill {
    Fill::Solid(rgb(style.color()))
}

fn stroke<S: BackendStyle>(style: &S) -> Stroke {
    Stroke::solid(rgb(style.color()), f64::from(style.stroke_width()) / UNITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use plotters::prelude::{BLUE, IntoDrawingArea, IntoTextStyle, Rectangle};
    use plotters::style::Color as _;

    #[test]
    fn plotters_draws_to_the_hundredth_of_a_point() {
        let mut scene = Scene::new(100.0, 50.0);
        let area = Canvas::on(&mut scene).into_drawing_area();
        area.draw(&Rectangle::new([(1025, 500), (2050, 1000)], BLUE.filled())).unwrap();
        area.draw_text("7 pt", &("sans-serif", 700.0).into_text_style(&area), (100, 100)).unwrap();
        drop(area);
        assert!(matches!(&scene.items[0], Item::Rect(f, _, _) if *f == Frame::new(10.25, 5.0, 10.25, 5.0)));
        assert!(matches!(&scene.items[1], Item::Text(t) if t.size == 7.0 && (t.y - 6.103).abs() < 1e-9));
    }
}
