//! Chat templates: what a person says → the text that a model was trained to answer.
//!
//! A template is a program that comes with the model, in the language of Jinja2. It is given what Hugging Face's
//! `apply_chat_template` gives it, with `add_generation_prompt`, and renders the same text; it can reach nothing else, and
//! its steps are counted.

mod python;

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, ErrorKind, context};
use serde::Serialize;

use crate::error::{Error, Result};

/// Steps a template may take, a hundred times what one takes for a prompt; also a bound on what it may hold, 64 bytes for
/// each.
const FUEL: u64 = 250_000;
/// Bytes of the stack it is rendered on: values may nest as deep as its steps allow.
const STACK: usize = 256 << 20;

/// A model's chat template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    source: String,
    /// The file it stands in.
    origin: String,
    /// `bos_token`, `eos_token` and their like, as they are written.
    tokens: BTreeMap<String, String>,
}

impl Template {
    /// A template as it stands in a file called `origin`, and the special tokens it may write: `bos_token` → `<s>`.
    pub fn new(
        source: impl Into<String>,
        origin: impl Into<String>,
        tokens: BTreeMap<String, String>,
    ) -> Template {
        Template { source: source.into(), origin: origin.into(), tokens }
    }

    /// The file it stands in.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether it may ask for today's date, which is always [`DAY`].
    pub fn asks_for_the_date(&self) -> bool {
        self.source.contains("strftime_now")
    }

    /// One message of a user, after one of the system if there is any, and the beginning of the answer.
    pub fn render(&self, system: Option<&str>, prompt: &str) -> Result<String> {
        let render = || {
            let message = |role: &str, content: &str| context! { role, content };
            let system = system.map(|content| message("system", content));
            let messages: Vec<Value> = system.into_iter().chain([message("user", prompt)]).collect();
            let tokens = Value::from_pairs(self.tokens.clone());
            let asked = context! {
                messages, add_generation_prompt => true, tools => (), documents => (), ..tokens
            };
            let source = plain_marks(&self.source);
            environment()?.template_from_named_str("chat_template", &source)?.render(asked)
        };
        let rendered = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, render);
            let thread = thread.map_err(|cause| wrong(cause.to_string()))?;
            thread.join().unwrap_or_else(|_| Err(wrong("its rules contradict each other")))
        });
        rendered.map_err(|cause| self.refusal(&cause))
    }

    fn refusal(&self, cause: &minijinja::Error) -> Error {
        let why = match (cause.kind(), cause.detail()) {
            (ErrorKind::OutOfFuel, _) => format!("it takes more than {FUEL} steps"),
            (_, Some(said)) if said.starts_with(SAYS) => said.to_owned(),
            (kind, said) => {
                let said = said.map_or_else(String::new, |said| format!(": {said}"));
                format!("{kind}{said} (line {})", cause.line().unwrap_or_default())
            }
        };
        Error::input(
            format!("the chat template in {} cannot take this prompt: {why}", self.origin),
            "change `--system` if it names the system, or leave `--chat` out and write the special tokens yourself",
        )
    }
}

/// What a template's own refusal begins with.
const SAYS: &str = "it says ";

fn environment<'a>() -> std::result::Result<Environment<'a>, minijinja::Error> {
    let mut env = Environment::new();
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(100);
    env.set_unknown_method_callback(python::method);
    env.add_filter("tojson", json);
    env.add_function("strftime_now", day);
    env.add_function("raise_exception", |said: String| -> std::result::Result<Value, minijinja::Error> {
        Err(wrong(format!("{SAYS}{said:?}")))
    });
    Ok(env)
}

fn wrong(said: impl Into<String>) -> minijinja::Error {
    minijinja::Error::new(ErrorKind::InvalidOperation, said.into())
}

/// `{% generation %}` marks what training learns from, and changes no text.
fn plain_marks(source: &str) -> String {
    let mut parts = source.split("{%");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str("{%");
        let (tag, rest) = part.split_once("%}").map_or((part, None), |(tag, rest)| (tag, Some(rest)));
        match tag.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+') {
            "generation" => plain.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => plain.push_str(&tag.replace("endgeneration", "endif")),
            _ => plain.push_str(tag),
        }
        if let Some(rest) = rest {
            plain.push_str("%}");
            plain.push_str(rest);
        }
    }
    plain
}

/// JSON as Python writes it, a space after each comma and colon.
fn json(value: Value, options: Kwargs) -> std::result::Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.get::<Option<bool>>("ensure_ascii")?;
    options.assert_all_used()?;
    let mut bytes = Vec::new();
    let written = match indent {
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Spaced)),
        Some(n) => {
            let indent = vec![b' '; n.min(16)];
            let pretty = serde_json::ser::PrettyFormatter::with_indent(&indent);
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, pretty))
        }
    };
    written.map_err(|cause| wrong(cause.to_string()))?;
    String::from_utf8(bytes).map_err(|cause| wrong(cause.to_string()))
}

struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, to: &mut W) -> std::io::Result<()> {
        to.write_all(b": ")
    }
}

/// The day that a template is told it is, so that the same input gives the same tokens: the one that Llama 3's template falls
/// back to.
pub const DAY: &str = "26 Jul 2024";

/// That day, by Python's directives.
fn day(format: String) -> std::result::Result<String, minijinja::Error> {
    let (mut said, mut letters) = (String::new(), format.chars());
    while let Some(letter) = letters.next() {
        if letter != '%' {
            said.push(letter);
            continue;
        }
        let directive = letters.next().filter(|&directive| directive != '-').or_else(|| letters.next());
        said.push_str(match directive {
            Some('d') => "26",
            Some('b') => "Jul",
            Some('B') => "July",
            Some('m') => "07",
            Some('Y') => "2024",
            Some('y') => "24",
            Some('a') => "Fri",
            Some('A') => "Friday",
            Some('j') => "208",
            Some('H' | 'M' | 'S') => "00",
            Some('I') => "12",
            Some('p') => "AM",
            Some('F') => "2024-07-26",
            Some('T') => "00:00:00",
            Some('%') => "%",
            _ => return Err(wrong(format!("the date is asked for as {format:?}"))),
        });
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(template: &str) -> String {
        let tokens = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
        match Template::new(template, "here", tokens).render(None, " Hello <b> ") {
            Ok(text) => text,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn templates_are_given_what_hugging_face_gives_them() {
        assert_eq!(says("{{ bos_token }}{{ messages[0]['content'] | trim }}\n"), "<s>Hello <b>");
        assert_eq!(says("{{ messages | tojson }}"), r#"[{"role": "user", "content": " Hello <b> "}]"#);
        assert_eq!(
            says("{{ {'a': [1, true, none]} | tojson(indent=2) }}"),
            "{\n  \"a\": [\n    1,\n    true,\n    null\n  ]\n}"
        );
        assert_eq!(
            says("{% if tools is none and not eos_token %}\n  {% if true %}\nx{% endif %}{% endif %}"),
            "x"
        );
        assert_eq!(says("{{ strftime_now('%d %b %Y, %A') }}"), "26 Jul 2024, Friday");
        assert_eq!(says("a {%- generation %} b {%- endgeneration %}\nc"), "a bc");
    }

    #[test]
    fn a_template_that_refuses_or_never_ends_is_an_error() {
        assert!(says("{{ raise_exception('no system') }}").contains("it says \"no system\""));
        let loops = "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}";
        assert!(says(loops).contains("more than 250000 steps"));
        let doubles =
            "{% set n = namespace(x='aaaa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}";
        assert!(says(doubles).contains("more than 250000 steps"));
        let nested = "{% set n = namespace(x={}) %}{% for i in range(99999) %}{% set n.x = {'a': n.x} %}{% endfor %}{{ n.x | tojson }}";
        assert!(says(nested).contains("more than 250000 steps"));
        let nested = nested.replace("99999", "20000");
        assert!(says(&nested).ends_with("}}}}"));
        assert!(says(&nested.replace(" | tojson", " == n")).len() < 100);
        assert!(says(&nested.replace(" | tojson", "")).ends_with("}}}}"));
        assert!(says("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").contains("recursion"));
        assert!(says("{{ messages[0].content.nothing() }}").contains("line 1"));
        assert!(says("{% if %}").contains("syntax error"));
        assert!(says("{{ strftime_now('%Q') }}").contains("%Q"));
    }
}
