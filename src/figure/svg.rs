//! Scenes as SVG. The same scene gives the same bytes, and no token can become markup.

use std::fmt::Write;

use crate::figure::color::{Color, HATCH, MISSING};
use crate::figure::font;
use crate::figure::png;
use crate::figure::scene::{Anchor, Fill, Frame, Group, Item, Scene, Stroke, Text};

/// The drawing as one SVG document; text stays text.
pub fn write(scene: &Scene) -> String {
    let mut svg = Writer { out: String::with_capacity(1 << 14), name: name(scene), clips: 0 };
    let (w, h) = (num(scene.width), num(scene.height));
    // `write!` to a String cannot fail.
    let _ = write!(
        svg.out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}pt\" height=\"{h}pt\" viewBox=\"0 0 {w} {h}\" role=\"img\" \
         font-family=\"{}, Verdana, Arial, sans-serif\">\n<title>{}</title>\n<desc>{}</desc>\n",
        font::FAMILY,
        escape(&scene.title),
        escape(&scene.caption),
    );
    if hatched(&scene.items) {
        let (ground, lines) = (paint(MISSING), paint(HATCH));
        let _ = writeln!(
            svg.out,
            "<defs><pattern id=\"{}missing\" width=\"3\" height=\"3\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><rect width=\"3\" height=\"3\" fill=\"{ground}\"/>\
             <rect width=\"0.7\" height=\"3\" fill=\"{lines}\"/></pattern></defs>",
            svg.name
        );
    }
    let _ = writeln!(svg.out, "<rect width=\"{w}\" height=\"{h}\" fill=\"#ffffff\"/>");
    svg.items(&scene.items);
    svg.out.push_str("</svg>\n");
    svg.out
}

/// A document under construction.
struct Writer {
    out: String,
    /// Before every id, so that several documents can stand in one page.
    name: String,
    clips: usize,
}

impl Writer {
    fn items(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::Rect(frame, fill, stroke) => {
                    let _ = write!(self.out, "<rect {}", place(frame));
                    self.look(*fill, stroke.as_ref());
                }
                Item::Path { points, closed, fill, stroke } => {
                    self.out.push_str(if *closed { "<polygon" } else { "<polyline" });
                    self.out.push_str(" points=\"");
                    for (i, [x, y]) in points.iter().enumerate() {
                        let gap = if i == 0 { "" } else { " " };
                        let _ = write!(self.out, "{gap}{},{}", num(*x), num(*y));
                    }
                    self.out.push('"');
                    self.look(*fill, stroke.as_ref());
                }
                Item::Circle { at: [x, y], r, fill, stroke } => {
                    let _ =
                        write!(self.out, "<circle cx=\"{}\" cy=\"{}\" r=\"{}\"", num(*x), num(*y), num(*r));
                    self.look(*fill, stroke.as_ref());
                }
                Item::Text(text) => self.text(text),
                Item::Image { at, columns, rgba } => {
                    let data = base64(&png::raster(rgba, *columns).unwrap_or_default());
                    let _ = writeln!(
                        self.out,
                        "<image {} preserveAspectRatio=\"none\" style=\"image-rendering:pixelated\" \
                         href=\"data:image/png;base64,{data}\"/>",
                        place(at)
                    );
                }
                Item::Group(group) => self.group(group),
            }
        }
    }

    fn group(&mut self, group: &Group) {
        let clip = group.clip.map(|frame| {
            self.clips += 1;
            let id = format!("{}clip{}", self.name, self.clips);
            let _ = writeln!(self.out, "<clipPath id=\"{id}\"><rect {}/></clipPath>", place(&frame));
            id
        });
        self.out.push_str("<g");
        for (name, value) in &group.data {
            let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            let _ = write!(self.out, " data-{}=\"{}\"", name.to_ascii_lowercase(), escape(value));
        }
        if let Some(id) = clip {
            let _ = write!(self.out, " clip-path=\"url(#{id})\"");
        }
        if group.crisp {
            self.out.push_str(" shape-rendering=\"crispEdges\"");
        }
        self.out.push('>');
        if !group.tip.is_empty() {
            let _ = write!(self.out, "<title>{}</title>", escape(&group.tip));
        }
        self.items(&group.items);
        self.out.push_str("</g>\n");
    }

    fn text(&mut self, text: &Text) {
        let anchor = match text.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let (x, y) = (num(text.x), num(text.y));
        let _ = write!(self.out, "<text x=\"{x}\" y=\"{y}\" font-size=\"{}\"{anchor}", num(text.size));
        if text.bold {
            self.out.push_str(" font-weight=\"bold\"");
        }
        if text.angle != 0.0 {
            let _ = write!(self.out, " transform=\"rotate({} {x} {y})\"", num(text.angle));
        }
        let _ = writeln!(
            self.out,
            " fill=\"{}\">{}</text>",
            paint(text.color),
            escape(&font::visible(&text.text))
        );
    }

    /// Closes a shape's tag with its fill and outline.
    fn look(&mut self, fill: Fill, stroke: Option<&Stroke>) {
        let _ = match fill {
            Fill::None => write!(self.out, " fill=\"none\""),
            Fill::Hatch => write!(self.out, " fill=\"url(#{}missing)\"", self.name),
            Fill::Solid(color) => {
                let _ = write!(self.out, " fill=\"{}\"", paint(color));
                if color.a < 1.0 { write!(self.out, " fill-opacity=\"{}\"", num(color.a)) } else { Ok(()) }
            }
        };
        if let Some(stroke) = stroke {
            let (color, width) = (paint(stroke.color), num(stroke.width));
            let _ =
                write!(self.out, " stroke=\"{color}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"");
            if stroke.color.a < 1.0 {
                let _ = write!(self.out, " stroke-opacity=\"{}\"", num(stroke.color.a));
            }
            if !stroke.dash.is_empty() {
                let dash: Vec<String> = stroke.dash.iter().map(|d| num(*d)).collect();
                let _ = write!(self.out, " stroke-dasharray=\"{}\"", dash.join(" "));
            }
        }
        self.out.push_str("/>\n");
    }
}

/// Text for an element or a quoted attribute: no markup, no invisible character, nothing XML forbids. What is drawn is
/// made [`visible`](font::visible) before.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in font::inert(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A number with at most three decimals and no needless zero; what is not finite becomes 0.
fn num(v: f64) -> String {
    if !v.is_finite() {
        return "0".to_owned();
    }
    let text = format!("{v:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn paint(c: Color) -> String {
    format!("#{:02x}{:02x}{:02x}", c.r, c.g, c.b)
}

fn place(f: &Frame) -> String {
    format!(
        "x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"",
        num(f.x),
        num(f.y),
        num(f.w.max(0.0)),
        num(f.h.max(0.0))
    )
}

/// A short name that follows from what the drawing is (FNV-1a).
fn name(scene: &Scene) -> String {
    let bytes = scene.title.bytes().chain(scene.caption.bytes()).chain(scene.height.to_le_bytes());
    let hash = bytes.fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("f{hash:08x}-")
}

/// Whether anything is hatched.
pub fn hatched(items: &[Item]) -> bool {
    items.iter().any(|item| match item {
        Item::Rect(_, fill, _) | Item::Path { fill, .. } | Item::Circle { fill, .. } => *fill == Fill::Hatch,
        Item::Group(group) => hatched(&group.items),
        Item::Text(_) | Item::Image { .. } => false,
    })
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().enumerate().fold(0u32, |bits, (i, b)| bits | u32::from(*b) << (16 - 8 * i));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= three.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        let mut scene = Scene::new(100.0, 50.0);
        scene.title = "</title><script>alert(1)</script>".into();
        scene.add(Text::new(1.0, 9.0, "<script>\"x\"&'\u{202e}\u{0}\n", 7.0));
        let data = vec![("on click".into(), "\"><img onerror=1>".into())];
        scene.add(Group { tip: "<b>".into(), data, ..Group::default() });
        let svg = write(&scene);
        for bad in ["<script", "<b>", "<img", "\u{202e}", "\u{0}", "data-on click"] {
            assert!(!svg.contains(bad), "{bad:?} in {svg}");
        }
        assert!(svg.contains("&lt;script&gt;&quot;x&quot;&amp;&#39;&lt;U+202E&gt;&lt;U+0000&gt;↵"));
    }

    #[test]
    fn numbers_are_short_and_finite() {
        assert_eq!([num(1.0), num(-0.0001), num(2.34567), num(f64::NAN)], ["1", "0", "2.346", "0"]);
    }

    #[test]
    fn drawings_in_one_page_share_no_id() {
        let drawing = |title: &str| {
            let mut scene = Scene::new(9.0, 9.0);
            scene.title = title.into();
            let items = vec![Item::Rect(Frame::default(), Fill::Hatch, None)];
            scene.add(Group { clip: Some(Frame::new(0.0, 0.0, 5.0, 5.0)), items, ..Group::default() });
            write(&scene)
        };
        let ids =
            |svg: &str| svg.split("id=\"").skip(1).map(|s| s[..s.find('"').unwrap()].to_owned()).collect();
        let (one, two): (Vec<String>, Vec<String>) = (ids(&drawing("a")), ids(&drawing("b")));
        assert!(one.len() == 2 && one.iter().all(|id| !two.contains(id)));
        assert!(one.iter().all(|id| drawing("a").contains(&format!("url(#{id})"))));
    }

    #[test]
    fn base64_pads() {
        assert_eq!([base64(b"a"), base64(b"ab"), base64(b"abc")], ["YQ==", "YWI=", "YWJj"]);
    }
}
