//! LaTeX: text that pdflatex can set, figure environments, numbers for the running text.
//!
//! Everything compiles with `pdflatex` in an article with `graphicx` and nothing else, whatever tokens say; no bitmap (Type 3)
//! font is asked for.

use std::collections::BTreeSet;

use crate::figure::font;
use crate::figure::style::{Span, Venue};

/// Text in which nothing is markup. What pdflatex's own fonts lack stands as its code point: `<U+65E5>`.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut before = '\0';
    for c in font::inert(text).chars() {
        if let Some(command) = command(c) {
            out.push_str(command);
        } else if c.is_ascii() || spelled(c) {
            // two hyphens or quotes in a row would become one other sign
            if c == before && matches!(c, '-' | '\'' | ',') {
                out.push_str("{}");
            }
            out.push(c);
        } else {
            out.push_str(&format!("\\textless{{}}U+{:04X}\\textgreater{{}}\\allowbreak{{}}", u32::from(c)));
        }
        before = c;
    }
    out
}

/// Accented Latin letters that TeX's first font encoding composes.
fn spelled(c: char) -> bool {
    const NOT: &str = "×÷ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲųſ";
    matches!(c, '\u{c0}'..='\u{17f}' | 'Ș' | 'ș' | 'Ț' | 'ț') && !NOT.contains(c)
}

/// The command for a character that is markup or that needs another font.
fn command(c: char) -> Option<&'static str> {
    let found = COMMANDS.iter().find(|(known, _)| *known == c);
    found.map(|(_, command)| *command)
}

#[rustfmt::skip]
const COMMANDS: &[(char, &str)] = &[
    ('\\', "\\textbackslash{}"), ('{', "\\{"), ('}', "\\}"), ('%', "\\%"), ('#', "\\#"), ('&', "\\&"), ('_', "\\_"),
    ('$', "\\ensuremath{\\mathdollar}"), ('~', "\\textasciitilde{}"), ('^', "\\textasciicircum{}"), ('<', "\\textless{}"),
    ('>', "\\textgreater{}"), ('|', "\\textbar{}"), ('"', "\\char34{}"), ('`', "\\char96{}"),
    ('\u{2010}', "-"), ('\u{2011}', "-"), ('–', "--"), ('—', "---"), ('\u{2018}', "`"), ('\u{2019}', "'"),
    ('\u{201c}', "``"), ('\u{201d}', "''"), ('…', "\\ldots{}"), ('␣', "\\textvisiblespace{}"), ('§', "\\ensuremath{\\S}"),
    ('−', "\\ensuremath{-}"), ('×', "\\ensuremath{\\times}"), ('÷', "\\ensuremath{\\div}"),
    ('·', "\\ensuremath{\\cdot}"), ('±', "\\ensuremath{\\pm}"), ('°', "\\ensuremath{^\\circ}"),
    ('◌', "\\ensuremath{\\circ}"), ('•', "\\ensuremath{\\bullet}"), ('¬', "\\ensuremath{\\neg}"),
    ('≤', "\\ensuremath{\\leq}"), ('≥', "\\ensuremath{\\geq}"), ('≠', "\\ensuremath{\\neq}"),
    ('≈', "\\ensuremath{\\approx}"), ('∞', "\\ensuremath{\\infty}"), ('√', "\\ensuremath{\\surd}"),
    ('∈', "\\ensuremath{\\in}"), ('∅', "\\ensuremath{\\emptyset}"), ('∂', "\\ensuremath{\\partial}"),
    ('∑', "\\ensuremath{\\Sigma}"), ('∇', "\\ensuremath{\\nabla}"), ('⟨', "\\ensuremath{\\langle}"),
    ('⟩', "\\ensuremath{\\rangle}"), ('→', "\\ensuremath{\\rightarrow}"), ('←', "\\ensuremath{\\leftarrow}"),
    ('↑', "\\ensuremath{\\uparrow}"), ('↓', "\\ensuremath{\\downarrow}"), ('↵', "\\ensuremath{\\hookleftarrow}"),
    ('²', "\\ensuremath{^2}"), ('³', "\\ensuremath{^3}"), ('¹', "\\ensuremath{^1}"), ('µ', "\\ensuremath{\\mu}"),
    ('₀', "\\ensuremath{_0}"), ('₁', "\\ensuremath{_1}"), ('₂', "\\ensuremath{_2}"), ('₃', "\\ensuremath{_3}"),
    ('₄', "\\ensuremath{_4}"), ('₅', "\\ensuremath{_5}"), ('₆', "\\ensuremath{_6}"), ('₇', "\\ensuremath{_7}"),
    ('₈', "\\ensuremath{_8}"), ('₉', "\\ensuremath{_9}"),
    ('α', "\\ensuremath{\\alpha}"), ('β', "\\ensuremath{\\beta}"), ('γ', "\\ensuremath{\\gamma}"),
    ('δ', "\\ensuremath{\\delta}"), ('ε', "\\ensuremath{\\varepsilon}"), ('ζ', "\\ensuremath{\\zeta}"),
    ('η', "\\ensuremath{\\eta}"), ('θ', "\\ensuremath{\\theta}"), ('ι', "\\ensuremath{\\iota}"),
    ('κ', "\\ensuremath{\\kappa}"), ('λ', "\\ensuremath{\\lambda}"), ('μ', "\\ensuremath{\\mu}"),
    ('ν', "\\ensuremath{\\nu}"), ('ξ', "\\ensuremath{\\xi}"), ('π', "\\ensuremath{\\pi}"),
    ('ρ', "\\ensuremath{\\rho}"), ('σ', "\\ensuremath{\\sigma}"), ('τ', "\\ensuremath{\\tau}"),
    ('υ', "\\ensuremath{\\upsilon}"), ('φ', "\\ensuremath{\\varphi}"), ('χ', "\\ensuremath{\\chi}"),
    ('ψ', "\\ensuremath{\\psi}"), ('ω', "\\ensuremath{\\omega}"), ('Γ', "\\ensuremath{\\Gamma}"),
    ('Δ', "\\ensuremath{\\Delta}"), ('Θ', "\\ensuremath{\\Theta}"), ('Λ', "\\ensuremath{\\Lambda}"),
    ('Ξ', "\\ensuremath{\\Xi}"), ('Π', "\\ensuremath{\\Pi}"), ('Σ', "\\ensuremath{\\Sigma}"),
    ('Φ', "\\ensuremath{\\Phi}"), ('Ψ', "\\ensuremath{\\Psi}"), ('Ω', "\\ensuremath{\\Omega}"),
];

/// A figure environment around `<name>.pdf`, which is `width` points wide: as wide as the span that it was drawn for, so that nothing
/// is scaled, and across both columns where it fills the page of a venue that has two.
///
/// The name should be plain (letters, digits, `-`, `_`), as LaTeX wants of files; the label has it with `fig:` in front.
pub fn figure(name: &str, caption: &str, width: f64, venue: Venue) -> String {
    let is = |span: Span| (width - venue.width(span)).abs() < 0.5;
    let columns = venue.width(Span::Col) < venue.width(Span::Full);
    let size = match columns {
        true if is(Span::Col) => "width=\\columnwidth".to_owned(),
        true if is(Span::Full) => "width=\\textwidth".to_owned(),
        false if is(Span::Full) => "width=\\linewidth".to_owned(),
        false if is(Span::Half) => "width=0.49\\linewidth".to_owned(),
        _ => format!("width={width:.1}bp"),
    };
    let star = if columns && width > venue.width(Span::Col) + 0.5 { "*" } else { "" };
    let label: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    // a number stays in the line of what it counts
    let caption = escape(caption).replace(" \\%", "~\\%").replace("seed ", "seed~").replace("n = ", "n~=~");
    format!(
        "% Needs \\usepackage{{graphicx}}, and \\graphicspath{{{{figures/}}}} where the file does not lie beside the text.\n\
         \\begin{{figure{star}}}[tbp]\n  \\centering\n  \\includegraphics[{size}]{{{name}.pdf}}\n  \\caption{{{caption}}}\n  \
         \\label{{fig:{label}}}\n\\end{{figure{star}}}\n"
    )
}

/// Something found, for the running text.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What it is called: any text, of which the letters and digits are kept (see [`letters`]).
    pub name: String,
    /// The number or the name, as LaTeX; see [`number`] and [`escape`].
    pub value: String,
    /// Its interval, as LaTeX (see [`interval`]): a command of its own, whose name ends in `CI`.
    pub interval: Option<String>,
    /// What it is, in a few words.
    pub about: String,
}

/// One `\newcommand` for each finding, with what it is in a comment above. Names are unique: one that comes twice gets letters
/// after it.
pub fn macros(title: &str, findings: &[Finding]) -> String {
    let line = |text: &str| font::inert(text).replace('\n', " ");
    let mut out = format!(
        "% {}: numbers for the text. Read it with \\input{{macros}} before \\begin{{document}}.\n",
        line(title)
    );
    let mut known = BTreeSet::new();
    for finding in findings {
        let stem = letters(&finding.name);
        let free = |name: &String| !known.contains(name) && !known.contains(&format!("{name}CI"));
        let again = (0..).map(|i| format!("{stem}{}", "X".repeat(i)));
        let name = again.take(findings.len() + 1).find(free).unwrap_or(stem.clone());
        let about = line(&finding.about);
        out += &format!("\n% {about}\n\\newcommand{{\\gb{name}}}{{{}}}\n", finding.value);
        if let Some(interval) = &finding.interval {
            out += &format!("% {about}, 95 % interval\n\\newcommand{{\\gb{name}CI}}{{{interval}}}\n");
            known.insert(format!("{name}CI"));
        }
        known.insert(name);
    }
    out
}

/// A name of letters alone, as commands of TeX are: each word begins with a capital; digits are spelled, and so are
/// a minus before one and a point between two. `a2.h0` → `ATwoHZero`, `-1.5` → `MinusOnePointFive`.
pub fn letters(name: &str) -> String {
    const DIGITS: [&str; 10] =
        ["Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine"];
    let mut out = String::new();
    let mut begins = true;
    let mut before = ' ';
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        let digit = rest.peek().is_some_and(char::is_ascii_digit);
        match c {
            '-' | '−' if digit && !before.is_alphanumeric() => out.push_str("Minus"),
            '.' if digit && before.is_ascii_digit() => out.push_str("Point"),
            c if c.is_ascii_alphabetic() => {
                out.push(if begins { c.to_ascii_uppercase() } else { c });
                begins = false;
            }
            c => {
                out.push_str(
                    c.to_digit(10).and_then(|d| DIGITS.get(d as usize)).copied().unwrap_or_default(),
                );
                begins = true;
            }
        }
        before = c;
    }
    if out.is_empty() { "X".to_owned() } else { out }
}

/// Below this an end is what rounding in f32 makes of 0, and more decimals than show it no interval has.
const ROUNDING: f64 = 1e-5;
const MOST: usize = 5;

/// A number with the digits that its interval leaves it: two of half the interval's width; without an interval, three in all.
/// The minus sign is one in text and in mathematics.
pub fn number(value: f64, interval: Option<[f64; 2]>) -> String {
    signed(value, decimals(value, interval))
}

/// An interval with the decimals of [`number`]: `[9.91, 11.97]`.
pub fn interval(value: f64, [lo, hi]: [f64; 2]) -> String {
    let decimals = decimals(value, Some([lo, hi]));
    format!("[{}, {}]", signed(lo, decimals), signed(hi, decimals))
}

/// More than two digits of the half width where an end would read as 0 and is not: on which side of 0 it lies is to be seen.
fn decimals(value: f64, interval: Option<[f64; 2]>) -> usize {
    let (size, digits) = match interval {
        Some([lo, hi]) if hi > lo => ((hi - lo) / 2.0, 2),
        _ => (value.abs(), 3),
    };
    if !(size.is_finite() && size > 0.0) {
        return 2;
    }
    let least = (digits - 1 - size.log10().floor() as i64).clamp(0, 4) as usize;
    let seen = |end: &f64, decimals: usize| {
        end.abs() < ROUNDING || end.abs() >= 0.5 * 10f64.powi(-(decimals as i32))
    };
    let all_seen = |decimals: &usize| interval.iter().flatten().all(|end| seen(end, *decimals));
    (least..MOST).find(all_seen).unwrap_or(MOST)
}

fn signed(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let zero = text.chars().all(|c| c == '0' || c == '.');
    if value < 0.0 && !zero { format!("\\ensuremath{{-}}{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_markup() {
        assert_eq!(escape("50 % of a_b & #1 {x} \\y"), "50 \\% of a\\_b \\& \\#1 \\{x\\} \\textbackslash{}y");
        assert_eq!(
            escape("é日−1\n--"),
            "é\\textless{}U+65E5\\textgreater{}\\allowbreak{}\\ensuremath{-}1\\ensuremath{\\hookleftarrow}-{}-"
        );
        assert!(escape("\u{202e}x").starts_with("\\textless{}U+202E\\textgreater{}"));
        let all: String = (0..0x3000).filter_map(char::from_u32).collect();
        assert!(escape(&all).chars().all(|c| c == ' ' || c.is_ascii_graphic() || spelled(c)));
    }

    #[test]
    fn figures_take_the_width_they_were_drawn_for() {
        let of = |width, venue| figure("patch_head", "A.", width, venue);
        assert!(of(218.3, Venue::Acl).contains(
            "\\begin{figure}[tbp]\n  \\centering\n  \\includegraphics[width=\\columnwidth]{patch_head.pdf}"
        ));
        assert!(
            of(453.5, Venue::Acl).contains("{figure*}")
                && of(453.5, Venue::Acl).contains("width=\\textwidth")
        );
        assert!(
            of(194.0, Venue::Neurips).contains("width=0.49\\linewidth")
                && !of(396.0, Venue::Neurips).contains('*')
        );
        assert!(
            of(300.0, Venue::Icml).contains("width=300.0bp") && of(300.0, Venue::Icml).contains("figure*")
        );
        assert!(of(1.0, Venue::Blog).ends_with("\\label{fig:patch_head}\n\\end{figure}\n"));
    }

    #[test]
    fn commands_have_names_of_letters() {
        assert_eq!(letters("a2.h0"), "ATwoHZero");
        assert_eq!(letters("total a10.h11<q>"), "TotalAOneZeroHOneOneQ");
        assert_eq!((letters("日"), letters("logit-diff corrupt")), ("X".into(), "LogitDiffCorrupt".into()));
        assert_eq!((letters("steer -2"), letters("1.5")), ("SteerMinusTwo".into(), "OnePointFive".into()));
        let finding = |name: &str| Finding {
            name: name.into(),
            value: "1".into(),
            interval: Some("[0, 2]".into()),
            about: "a\nb".into(),
        };
        let text = macros("x", &[finding("n"), finding("N"), finding("n")]);
        for command in [
            "\\newcommand{\\gbN}{1}",
            "\\newcommand{\\gbNX}{1}",
            "\\newcommand{\\gbNXXCI}{[0, 2]}",
            "% a↵b\n",
        ] {
            assert!(text.contains(command), "{text}");
        }
    }

    #[test]
    fn digits_follow_the_interval() {
        assert_eq!(number(10.9197, Some([9.911, 11.97])), "10.9");
        assert_eq!(number(0.98892, Some([0.979, 0.9995])), "0.989");
        assert_eq!((number(1.0, Some([1.0, 1.0])), number(0.0, None)), ("1.00".into(), "0.00".into()));
        assert_eq!(
            (number(-0.1234, None), number(12345.6, None)),
            ("\\ensuremath{-}0.123".into(), "12346".into())
        );
        assert_eq!(interval(-0.001, [-0.2, 0.1]), "[\\ensuremath{-}0.20, 0.10]");
        assert_eq!(number(-0.001, Some([-0.2, 0.1])), "0.00");
        assert_eq!(
            interval(0.1, [-0.0012, 0.248]),
            "[\\ensuremath{-}0.001, 0.248]",
            "an end below 0 is seen to be"
        );
        assert_eq!(interval(-0.02, [-0.0432, 0.0002]), "[\\ensuremath{-}0.0432, 0.0002]");
        assert_eq!(number(0.1, Some([-0.0012, 0.248])), "0.100", "value and ends have the same decimals");
        assert_eq!(interval(-2e-6, [-3e-6, -1e-6]), "[0.0000, 0.0000]", "rounding of 0");
        assert_eq!(interval(1.0, [0.0, 2.0]), "[0.0, 2.0]", "an end at 0 is 0");
    }
}
