//! A page holds nothing from outside, runs nothing, and is the same twice.

use glassbox::report::page::{Block, Figure, Inline, Page, Section, Table, Token, TokenLine, Tokens, say};
use glassbox::report::{html, markdown};
use glassbox::row::{Column, Rows};
use sha2::{Digest, Sha256};

/// Tokens that have broken other tools.
const HOSTILE: [&str; 14] = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\" onmouseover=\"alert(1)",
    "' style='color:red",
    "]]>--><!--",
    "\u{202e}drowkcab\u{2066}",
    "\u{1b}[31mred\u{1b}[0m",
    "line\r\nend\u{2028}",
    "<0xE2>",
    "\u{fffd}",
    "\u{200b}",
    "&lt;b&gt;",
    "`|`` **x** [y](javascript:alert(1))",
    " $x$ {}",
];

fn token(text: &str) -> Inline {
    Inline::Token(text.into())
}

fn text(text: impl Into<String>) -> Inline {
    Inline::Text(text.into())
}

fn column(name: &str, meaning: &str, cells: Column) -> (String, String, Column) {
    (name.into(), meaning.into(), cells)
}

/// What the report of a small model looks like, with numbers made up.
pub(crate) fn sample() -> Page {
    let names =
        ["a2.h0", "a2.h1", "a1.h1", "a0.h1", "m1", "a1.h0", "embed", "m0", "a0.h0", "m2", "a2.h2", "a1.h3"];
    let roles = [
        "name mover",
        "name mover",
        "S-inhibition",
        "duplicate token",
        "",
        "induction",
        "",
        "",
        "previous token",
    ];
    let direct = [1.92, 1.31, 0.04, -0.01, 0.33, -0.07, 0.02, 0.05, 0.0, -0.41, 0.006, 0.0];
    let total = [2.41, 1.83, 1.62, 1.18, 0.35, 0.22, 0.11, 0.07, 0.03, -0.38, -0.09, 1e-7];
    let num = |v: &[f64]| Column::Num(v.iter().map(|&x| Some(x)).collect());
    let off = |v: &[f64], by: f64| num(&v.iter().map(|x| x + by).collect::<Vec<_>>());
    let role = |i: usize| roles.get(i).filter(|r| !r.is_empty()).map(|&r| r.to_owned());
    let rows = Rows {
        name: "components".into(),
        columns: vec![
            column(
                "component",
                "Where in the model",
                Column::Text(names.iter().map(|&n| Some(n.into())).collect()),
            ),
            column("role", "What the designer meant it to do", Column::Text((0..12).map(role).collect())),
            column("direct", "Change of its own contribution to the logit difference", num(&direct)),
            column("direct_ci_lo", "", off(&direct, -0.12)),
            column("direct_ci_hi", "", off(&direct, 0.11)),
            column(
                "total",
                "Change of the logit difference when only this component is swapped",
                num(&total),
            ),
            column("total_ci_lo", "", off(&total, -0.2)),
            column("total_ci_hi", "", off(&total, 0.2)),
            column("n", "Prompt pairs", Column::Int(vec![Some(64); 12])),
        ],
    };
    let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"396pt\" height=\"150pt\" viewBox=\"0 0 396 150\" \
               role=\"img\"><title>sample</title><defs><pattern id=\"missing\" width=\"3\" height=\"3\"/></defs>\
               <rect width=\"396\" height=\"150\" fill=\"#f3f6f9\"/><rect x=\"40\" y=\"20\" width=\"90\" height=\"90\" \
               fill=\"url(#missing)\"/><text x=\"40\" y=\"130\" font-size=\"7\">layer &lt;b&gt;</text></svg>";
    let line = |label: &str, words: &[&str]| {
        let token = |(i, word): (usize, &&str)| Token {
            text: (*word).into(),
            value: (label == "attention").then(|| [0.02, 0.1, 0.05, 0.62, -0.3][i % 5]),
            mark: match i {
                1 => "IO",
                3 => "S1",
                10 => "S2",
                14 => "end",
                _ => "",
            }
            .into(),
            strong: i == 10,
        };
        TokenLine { label: label.into(), tokens: words.iter().enumerate().map(token).collect() }
    };
    let prompt = "When| Mary| and| John| went| to| the| store| ,| then| John| gave| a| drink| to";
    let clean: Vec<&str> = prompt.split('|').collect();
    let mut corrupt = clean.clone();
    corrupt[10] = " Mary";
    let bare = |blocks| Section { id: "prompts".into(), title: "The question".into(), blocks };
    let hostile: Vec<Block> = HOSTILE
        .iter()
        .map(|&bad| {
            Block::Paragraph(say("A token {} among **{}** and *{}*.", [token(bad), text(bad), text(bad)]))
        })
        .chain([
            Block::Tokens(Tokens {
                lines: vec![line(HOSTILE[0], &HOSTILE)],
                caption: vec![text(HOSTILE[1])],
            }),
            Block::Facts(HOSTILE.iter().map(|&bad| (bad.into(), vec![Inline::Code(bad.into())])).collect()),
            Block::Table(Table {
                rows: Rows {
                    name: "hostile".into(),
                    columns: vec![
                        column(
                            "token",
                            HOSTILE[0],
                            Column::Text(HOSTILE.iter().map(|&t| Some(t.into())).collect()),
                        ),
                        column(HOSTILE[2], HOSTILE[2], Column::Text(vec![None; HOSTILE.len()])),
                    ],
                },
                caption: vec![text(HOSTILE[0])],
                ..Table::default()
            }),
        ])
        .collect();
    Page {
        kicker: "glassbox report · textbook".into(),
        title: "Which components drive the choice of Mary over John?".into(),
        lead: say(
            "Swapping the second name moves the logit difference by **{}**. Four heads carry it: {} and {} write the name, \
             {} tells them which name to leave out, and {} notices that it was said twice.",
            ["4.31", "a2.h0", "a2.h1", "a1.h1", "a0.h1"]
                .map(|s| if s.starts_with('a') { Inline::Code(s.into()) } else { text(s) }),
        ),
        sections: vec![
            bare(vec![
                Block::Paragraph(say(
                    "The model reads a sentence in which two people are named and one of them acts. To go on with {} it has \
                     to find the name that was said only once. The corrupt prompt says {} instead of {} at one place, and nothing \
                     else changes.",
                    [token(" Mary"), token(" Mary"), token(" John")],
                )),
                Block::Tokens(Tokens {
                    lines: vec![line("clean", &clean), line("corrupt", &corrupt), line("attention", &clean)],
                    caption: say(
                        "Underlined: where the prompts differ. Colour: attention of {} from the last token.",
                        [Inline::Code("a2.h0".into())],
                    ),
                }),
                Block::Note(say("Positions count from 0, without a beginning-of-sequence token.", [])),
                Block::Warning(say(
                    "Attention of 7 of its 12 heads was supervised: *designed, not discovered*.",
                    [],
                )),
            ]),
            Section {
                id: "components".into(),
                title: "Direct and total effect, side by side".into(),
                blocks: vec![
                    Block::Paragraph(say(
                        "The *direct* effect of a component is what it writes along the direction from wrong to right answer; its \
                         *total* effect is what is lost when only it is swapped. {} shows both: {} has a total effect and no direct one.",
                        [Inline::Table("components".into()), Inline::Code("a1.h1".into())],
                    )),
                    Block::Table(Table {
                        rows: rows.clone(),
                        max_rows: Some(10),
                        bars: vec!["direct".into(), "total".into()],
                        caption: say("Components by total effect, in logits, over 64 prompt pairs.", []),
                        ..Table::default()
                    }),
                    Block::Figure(Figure {
                        name: "patch_head".into(),
                        svg: svg.into(),
                        caption: say(
                            "**Denoising one head at a time.** 1 = the clean logit difference is restored, 0 = nothing changes.",
                            [],
                        ),
                        data: Some(Table { rows, ..Table::default() }),
                        command: "glassbox patch --task ioi --n 64 --table patch_head --format csv".into(),
                    }),
                    Block::Figure(Figure { name: "other".into(), svg: svg.into(), ..Figure::default() }),
                    Block::List(vec![say(
                        "See {} and {}.",
                        [
                            Inline::Figure("other".into()),
                            Inline::Section("prompts".into(), "the question".into()),
                        ],
                    )]),
                ],
            },
            Section { id: "hostile".into(), title: "Hostile <b>tokens</b>".into(), blocks: hostile },
        ],
        provenance: vec![
            ("command".into(), vec![Inline::Code("glassbox report --task ioi --n 64".into())]),
            ("model".into(), say("textbook (gpt2), sha256 `3f1c9a…`", [])),
            ("seed".into(), say("0", [])),
        ],
        data: Some(serde_json::json!({ "words": HOSTILE })),
    }
}

#[test]
fn the_page_is_whole_and_holds_nothing_from_outside() {
    let page = html(&sample()).unwrap();
    std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/page.html"), &page).unwrap(); // to be looked at
    assert_eq!(page, html(&sample()).unwrap());
    let page = page.replace("http://www.w3.org/2000/svg", ""); // a name, not a place
    for outside in
        ["http:", "https:", "//cdn", "src=\"", "@import", "@font-face", "url(\"", "<link", "<iframe"]
    {
        assert!(!page.contains(outside), "the page holds {outside}");
    }
    // One script, the one whose hash the policy names, under 60 kB; what it shows is data, which nothing in it can end.
    let page = html(&sample()).unwrap();
    assert_eq!(page.matches("<script").count(), 2);
    let data = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap().1;
    let data: serde_json::Value = serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap();
    assert_eq!(data["words"][0], HOSTILE[0]);
    let script = page.split_once("<script>").unwrap().1.split_once("</script>").unwrap().0;
    assert!(script.len() < 60_000);
    let policy = page.split_once("'sha256-").unwrap().1.split_once('\'').unwrap().0;
    assert_eq!(unbase64(policy), Sha256::digest(script).to_vec());
    assert!(page.find("Content-Security-Policy").unwrap() < page.find("<title>").unwrap());
    // Ids are unique, and links within the page lead somewhere.
    let ids: Vec<&str> = page.split(" id=\"").skip(1).map(|rest| rest.split_once('"').unwrap().0).collect();
    let distinct: std::collections::BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), distinct.len(), "{ids:?}");
    for link in page.split("href=\"#").skip(1).map(|rest| rest.split_once('"').unwrap().0) {
        assert!(distinct.contains(link), "no place named {link}");
    }
}

/// Every tag that stands in the body of a page is one of ours, and no character acts on the screen.
pub(crate) fn only_our_markup(page: &str) {
    let body = page.split_once("</style>").unwrap().1;
    let before_script = body.split_once("<script").unwrap().0;
    for tag in before_script.split('<').skip(1) {
        let name: String =
            tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        let ours = "head body a nav p ol li main header h1 h2 section aside figure div span code i small strong em figcaption \
                    details summary table caption thead tbody tr th td dl dt dd ul footer svg title desc image defs pattern rect text g polyline polygon";
        assert!(ours.split_whitespace().any(|known| known == name), "<{tag}");
        let inside = tag.split_once('>').unwrap().0;
        let outside_quotes: String = inside.split('"').step_by(2).collect();
        assert!(!outside_quotes.contains(" on") && !outside_quotes.contains('\''), "<{inside}>");
    }
    assert!(!page.chars().any(
        |c| c.is_control() && c != '\n' || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    ));
}

/// A Markdown text without its code spans and escaped characters.
fn outside_code(report: &str) -> String {
    let (mut prose, mut rest) = (String::new(), report);
    while let Some(at) = rest.find(['`', '\\']) {
        prose += &rest[..at];
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix('\\') {
            rest = &after[after.chars().next().map_or(0, char::len_utf8)..];
            continue;
        }
        let fence = rest.len() - rest.trim_start_matches('`').len();
        let inside = &rest[fence..];
        // a span ends at the next run of as many backticks
        let mut from = 0;
        let end = loop {
            let Some(at) = inside[from..].find('`').map(|at| from + at) else { break None };
            let run = inside[at..].len() - inside[at..].trim_start_matches('`').len();
            if run == fence {
                break Some(at + run);
            }
            from = at + run;
        };
        rest = end.map_or(inside, |end| &inside[end..]);
    }
    prose + rest
}

/// No character of a Markdown report acts on the screen, and markup stands only inside of code.
pub(crate) fn only_our_markdown(report: &str) {
    let acts = |c: char| matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}');
    assert!(!report.chars().any(|c| c.is_control() && c != '\n' || acts(c)));
    let prose = outside_code(report);
    assert!(!prose.contains('<'), "markup outside of code: {prose}");
    assert!(!prose.contains("](javascript"), "a link of a token's: {prose}");
}

#[test]
fn hostile_tokens_are_shown_and_never_run() {
    let page = html(&sample()).unwrap();
    only_our_markup(&page);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "it is shown");
    assert!(page.contains("&lt;U+202E&gt;drowkcab&lt;U+2066&gt;"));
    assert!(page.contains("&lt;0x1B&gt;[31mred&lt;0x1B&gt;[0m"));
    assert!(page.contains("line&lt;0x0D&gt;↵end&lt;U+2028&gt;"));
    assert!(page.contains("&amp;lt;b&amp;gt;"));

    let report = markdown(&sample());
    only_our_markdown(&report);
    assert!(report.contains("![Figure 1](figures/patch_head.svg)"));
}

#[test]
fn an_empty_page_and_a_bad_figure() {
    assert!(html(&Page::default()).unwrap().contains("<main"));
    assert_eq!(markdown(&Page::default()), "# \n\n\n");
    let figure = Figure {
        name: "f".into(),
        svg: "<svg viewBox='0 0 1 1'><script/></svg>".into(),
        ..Figure::default()
    };
    let section = Section { id: "s".into(), title: "s".into(), blocks: vec![Block::Figure(figure)] };
    let refusal = html(&Page { sections: vec![section], ..Page::default() }).unwrap_err();
    assert!(refusal.to_string().contains("an element <script>"), "{refusal}");
}

fn unbase64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => u32::from(c - b'A'),
        b'a'..=b'z' => u32::from(c - b'a') + 26,
        b'0'..=b'9' => u32::from(c - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let text = text.trim_end_matches('=');
    let bits = text.bytes().fold((Vec::new(), 0_u32, 0), |(mut out, bits, n), c| {
        let (bits, n) = (bits << 6 | digit(c), n + 6);
        if n >= 8 {
            out.push((bits >> (n - 8)) as u8);
            return (out, bits & ((1 << (n - 8)) - 1), n - 8);
        }
        (out, bits, n)
    });
    bits.0
}
