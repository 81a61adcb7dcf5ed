//! A drawing made fit to stand inside a page: no two figures share an id, and nothing in it can run or load.

use crate::error::{Error, Result};
use std::fmt::Write;

/// The elements a drawing may hold. Whatever can run, load or style the page around it is not among them.
const ELEMENTS: [&str; 23] = [
    "svg",
    "g",
    "title",
    "desc",
    "defs",
    "rect",
    "path",
    "line",
    "polyline",
    "polygon",
    "circle",
    "ellipse",
    "text",
    "tspan",
    "image",
    "use",
    "clipPath",
    "mask",
    "pattern",
    "symbol",
    "marker",
    "linearGradient",
    "stop",
];

/// A drawing to be put into a page.
#[derive(Debug, PartialEq)]
pub(super) struct Drawing {
    /// `<svg …>…</svg>`, without prologue and without a size of its own.
    pub(super) markup: String,
    /// Its natural width, in the units of its view box (points for our figures).
    pub(super) width: f64,
}

impl Drawing {
    /// The drawing with a title, HTML text, in place of its own: what a reader hears, and sees under the pointer.
    pub(super) fn titled(mut self, title: &str) -> Drawing {
        if let Some((open, inside)) = self.markup.split_once('>').filter(|_| !title.is_empty()) {
            let own =
                inside.trim_start().strip_prefix("<title>").and_then(|rest| rest.split_once("</title>"));
            let inside = own.map_or(inside, |(_, after)| after);
            self.markup = format!("{open}>\n<title>{title}</title>{inside}");
        }
        self
    }
}

/// Reads a drawing, puts `prefix` before every id and refuses what our own figures never hold.
pub(super) fn inline(svg: &str, prefix: &str) -> Result<Drawing> {
    let refuse = |why: String| {
        Error::input(
            format!("the figure `{prefix}` cannot be put into the page: {why}"),
            "figures are SVG drawings with a viewBox, without scripts, style sheets or links",
        )
    };
    let mut markup = String::with_capacity(svg.len());
    let mut width = None;
    let mut rest = svg;
    while let Some(start) = rest.find('<') {
        markup.push_str(if width.is_some() { &rest[..start] } else { "" });
        rest = &rest[start..];
        let skip = [("<?", "?>"), ("<!--", "-->"), ("<!DOCTYPE", ">")]
            .into_iter()
            .find(|(open, _)| rest.starts_with(open));
        if let Some((_, close)) = skip {
            rest = rest.split_once(close).map_or("", |(_, after)| after);
            continue;
        }
        let tag = Tag::read(rest).ok_or_else(|| refuse("its markup is broken".into()))?;
        rest = &rest[tag.length..];
        if !ELEMENTS.contains(&tag.name) {
            return Err(refuse(format!("it holds an element <{}>", tag.name)));
        }
        if tag.closing {
            markup += &format!("</{}>", tag.name);
            continue;
        }
        let root = tag.name == "svg" && width.is_none();
        if root {
            let view = tag.attributes.iter().find(|(name, _)| *name == "viewBox").map(|(_, view)| view);
            let wide = view.and_then(|view| view.split_whitespace().nth(2)?.parse::<f64>().ok());
            width = Some(
                wide.filter(|w| w.is_finite() && *w > 0.0)
                    .ok_or_else(|| refuse("it has no viewBox".into()))?,
            );
        }
        let _ = write!(markup, "<{}", tag.name); // writing to a string cannot fail
        for (name, value) in tag.attributes {
            let value = match name {
                _ if name.starts_with("xmlns") || root && matches!(name, "width" | "height") => continue,
                _ if name.to_ascii_lowercase().starts_with("on") => {
                    return Err(refuse(format!("it holds an attribute {name}")));
                }
                "id" => format!("{prefix}-{value}"),
                "href" | "xlink:href" => match value.strip_prefix('#') {
                    Some(id) => format!("#{prefix}-{id}"),
                    None if value.starts_with("data:image/png;base64,") => value.to_owned(),
                    None => return Err(refuse("it links to something outside of it".into())),
                },
                "aria-labelledby" | "aria-describedby" => {
                    value.split_whitespace().map(|id| format!("{prefix}-{id}")).collect::<Vec<_>>().join(" ")
                }
                _ if value.contains("url(") => {
                    let local = value.replace("url(#", &format!("url(#{prefix}-"));
                    if local.matches("url(").count() != local.matches("url(#").count() {
                        return Err(refuse("it loads something from outside of it".into()));
                    }
                    local
                }
                _ => value.to_owned(),
            };
            let _ = write!(markup, " {name}=\"{}\"", value.replace('"', "&quot;"));
        }
        markup.push_str(if tag.empty { "/>" } else { ">" });
    }
    let width = width.ok_or_else(|| refuse("it is empty".into()))?;
    Ok(Drawing { markup, width })
}

/// One tag as it is written.
struct Tag<'a> {
    name: &'a str,
    closing: bool,
    empty: bool,
    attributes: Vec<(&'a str, &'a str)>,
    length: usize,
}

impl<'a> Tag<'a> {
    /// The tag at the start of `text`, whose first character is `<`.
    fn read(text: &'a str) -> Option<Tag<'a>> {
        let word = |text: &'a str| {
            let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "-_:.".contains(c)))?;
            (end > 0).then(|| text.split_at(end))
        };
        let after = text.get(1..)?;
        let (closing, after) = after.strip_prefix('/').map_or((false, after), |after| (true, after));
        let (name, mut after) = word(after)?;
        let mut attributes = Vec::new();
        loop {
            after = after.trim_start();
            let end = [("/>", true), (">", false)].into_iter().find(|(end, _)| after.starts_with(end));
            if let Some((end, empty)) = end {
                let length = text.len() - after.len() + end.len();
                return Some(Tag { name, closing, empty, attributes, length });
            }
            let (key, rest) = word(after)?;
            let rest = rest.trim_start().strip_prefix('=')?.trim_start();
            let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            let (value, rest) = rest[1..].split_once(quote)?;
            attributes.push((key, value));
            after = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_prefixed_and_text_is_left_alone() {
        let svg = "<?xml version=\"1.0\"?>\n<!-- x --><svg xmlns=\"http://www.w3.org/2000/svg\" width=\"9pt\" \
                   viewBox=\"0 0 9 4\"><defs><pattern id='p' width=\"3\"/></defs><g clip-path=\"url(#p)\"><use \
                   href=\"#p\"/></g><text>id=\"p\" &lt;script&gt; url(#p) 'é'</text></svg>\n";
        let drawing = inline(svg, "f1").unwrap();
        assert_eq!(drawing.width, 9.0);
        assert_eq!(
            drawing.markup,
            "<svg viewBox=\"0 0 9 4\"><defs><pattern id=\"f1-p\" width=\"3\"/></defs><g \
             clip-path=\"url(#f1-p)\"><use href=\"#f1-p\"/></g><text>id=\"p\" &lt;script&gt; url(#p) 'é'</text></svg>"
        );
    }

    #[test]
    fn a_drawing_takes_the_title_of_its_page() {
        let titled = |svg: &str| inline(svg, "f").unwrap().titled("All of it.").markup;
        let wanted = "<svg viewBox=\"0 0 1 1\">\n<title>All of it.</title><g><title>x</title></g></svg>";
        assert_eq!(
            titled("<svg viewBox=\"0 0 1 1\">\n<title>f</title><g><title>x</title></g></svg>"),
            wanted
        );
        assert_eq!(titled("<svg viewBox=\"0 0 1 1\"><g><title>x</title></g></svg>"), wanted);
    }

    #[test]
    fn what_runs_or_loads_is_refused() {
        for inner in [
            "<script>1</script>",
            "<foreignObject/>",
            "<style>p{}</style>",
            "<g onclick=\"x\"/>",
            "<g ONLOAD='x'/>",
            "<image href=\"https://x/y.png\"/>",
            "<image href=\"data:image/svg+xml,x\"/>",
            "<g fill=\"url(http://x)\"/>",
            "<g fill=x/>",
            "<g",
            "<![CDATA[<p>]]>",
        ] {
            let svg = format!("<svg viewBox=\"0 0 1 1\">{inner}</svg>");
            assert!(inline(&svg, "f").is_err(), "{inner}");
        }
        assert!(inline("", "f").is_err() && inline("<svg></svg>", "f").is_err());
    }
}
