//! The page of a comparison: what was compared, what the models do, which parts changed, every shared picture, what is missing.

use std::collections::BTreeMap;

use super::Drawn;
use super::tables::{Made, heading};
use crate::compare::{Compared, Interval};
use crate::error::Result;
use crate::report::page::{Block, Figure, Inline, Page, Section, Table, Words, say};
use crate::report::story::{figure, listed, paragraph, plain};
use crate::row::{Column, Rows};

/// Sections of pictures: address, title, how the names of their pictures begin. The last takes the rest.
const SECTIONS: [(&str, &str, &[&str]); 9] = [
    ("stream", "Along the residual stream", &["lens", "accumulated"]),
    ("direct", "What writes the answer", &["attribution", "direct_total"]),
    ("patching", "What the answer depends on", &["resid_by_pos", "patch_", "atp_"]),
    ("paths", "Who tells whom", &["path", "edges", "circuit"]),
    ("lesions", "What happens without a part", &["ablate", "knockout", "trace", "repair"]),
    ("heads", "Heads", &["head_scores", "attention", "weights", "composition", "spectrum"]),
    ("encoding", "What can be read and steered", &["probe", "steer"]),
    ("training", "Along training", &["training", "forming"]),
    ("more", "More", &[""]),
];

/// Rows of a table that are shown.
const SHOWN: usize = 10;

pub(super) fn page(
    compared: &Compared,
    made: &Made,
    drawn: Vec<Drawn>,
    undrawn: &[String],
    command: &str,
) -> Result<Page> {
    let mut sections = vec![facts(compared, made)];
    sections.extend(behaviour(compared, made));
    let (of_components, mut drawn): (Vec<Drawn>, Vec<Drawn>) =
        drawn.into_iter().partition(|picture| picture.name.starts_with("components"));
    sections.extend(components(compared, made, of_components, command));
    for (id, title, starts) in SECTIONS {
        let belongs = |picture: &Drawn| starts.iter().any(|start| picture.name.starts_with(start));
        let (own, rest): (Vec<Drawn>, Vec<Drawn>) = drawn.into_iter().partition(belongs);
        drawn = rest;
        if !own.is_empty() {
            let blocks = own.into_iter().map(|drawn| picture(drawn, command)).collect();
            sections.push(Section { id: id.to_owned(), title: title.to_owned(), blocks });
        }
    }
    sections.extend(prompts(compared, made));
    sections.extend(missing(compared, made));
    sections.push(caveats(compared, undrawn));
    let [a, b, _] = &compared.names;
    Ok(Page {
        kicker: "glassbox compare".to_owned(),
        title: format!("{a} and {b} beside each other"),
        lead: lead(compared, made)?,
        sections,
        provenance: provenance(compared, command),
        data: None,
    })
}

/// How the runs differ, what that does to behaviour, and which component changed most.
fn lead(compared: &Compared, made: &Made) -> Result<Words> {
    let [a, b, _] = &compared.names;
    let name = |name: &String| Inline::Strong(name.clone());
    let told =
        ["model", "task.generate", "task.name", "task.n", "prompts used", "metric", "seed", "weights folded"];
    let differ = compared.facts.iter().filter(|fact| fact.differs && told.contains(&fact.fact.as_str()));
    let word = |word: &Option<String>| Inline::Code(word.clone().unwrap_or_else(|| "none".to_owned()));
    let differ: Vec<Words> = differ
        .map(|fact| say("{} ({}, {})", [Inline::Text(fact.fact.clone()), word(&fact.a), word(&fact.b)]))
        .collect();
    let mut words = say("{} and {} ", [name(a), name(b)]);
    if differ.is_empty() {
        words.extend(say("were asked the same of the same model.", []));
    } else {
        words.extend(say("differ in ", []));
        words.extend(listed(differ));
        words.push(Inline::Text(".".to_owned()));
    }
    if let Some(rows) = &made.behaviour {
        let metrics = rows.texts("metric")?;
        for (metric, said) in [("accuracy", "accuracy"), ("logit-diff", "the logit difference")] {
            let Some(i) = metrics.iter().position(|known| known == metric) else { continue };
            let cell = |name: &str| rows.numbers(name).ok()?.get(i).copied().flatten();
            let values = (cell(&heading(a)), cell(&heading(b)), cell("difference"));
            if let (Some(one), Some(two), Some(change)) = values {
                let interval = cell("difference_ci_lo").zip(cell("difference_ci_hi"));
                let interval = interval
                    .map_or_else(String::new, |(lo, hi)| format!(" [{}, {}]", figure(lo), figure(hi)));
                if change == 0.0 {
                    words
                        .extend(say(" In both, {} is {}.", [said.to_owned(), figure(one)].map(Inline::Text)));
                    continue;
                }
                words.extend(say(
                    " From {} to {}, {} goes from {} to {}: by **{}**{}.",
                    [
                        a.clone(),
                        b.clone(),
                        said.to_owned(),
                        figure(one),
                        figure(two),
                        figure(change),
                        interval,
                    ]
                    .map(Inline::Text),
                ));
            }
        }
    }
    if let Some(rows) = made.changes.as_ref().filter(|rows| !rows.is_empty())
        && let Some(change) = rows.numbers("change of total")?.first().copied().flatten()
        && change != 0.0
        && let Some(component) = rows.texts("component")?.first()
    {
        let end =
            |end: &str| rows.numbers(&format!("change of total_ci_{end}")).ok()?.first().copied().flatten();
        let interval = end("lo").zip(end("hi"));
        let interval =
            interval.map_or_else(String::new, |(lo, hi)| format!(" [{}, {}]", figure(lo), figure(hi)));
        let parts = [Inline::Code(component.clone()), Inline::Text(figure(change)), Inline::Text(interval)];
        words.extend(say(" The total effect of {} changed most, by **{}** logits{}.", parts));
    }
    Ok(words)
}

fn facts(compared: &Compared, made: &Made) -> Section {
    let [a, b, _] = &compared.names;
    let mut blocks = vec![paragraph(
        "Two finished runs, read from their folders; nothing was computed anew. A difference is always {} minus {}. What differs \
         between them stands first.",
        [Inline::Text(b.clone()), Inline::Text(a.clone())],
    )];
    blocks.extend(compared.warnings.iter().map(|warning| Block::Warning(plain(warning))));
    let names: Vec<String> = made.facts.columns.iter().map(|(name, _, _)| name.clone()).collect();
    blocks.push(Block::Table(Table {
        rows: shortened(&made.facts),
        columns: names,
        caption: say("What was asked of each run, and of which model.", []),
        ..Table::default()
    }));
    section("compared", "What was compared", blocks)
}

/// With hashes cut to what tells them apart; the files have them whole.
fn shortened(rows: &Rows) -> Rows {
    let mut rows = rows.clone();
    for (_, _, column) in &mut rows.columns {
        let Column::Text(cells) = column else { continue };
        for text in cells.iter_mut().flatten() {
            if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                text.truncate(12);
                text.push('\u{2026}');
            }
        }
    }
    rows
}

fn behaviour(compared: &Compared, made: &Made) -> Option<Section> {
    let rows = made.behaviour.as_ref()?;
    let interval = compared.tables.get("behaviour").map(|joined| &joined.interval);
    let stands = interval.map_or("", |interval| match interval {
        Interval::Paired(_) => {
            "Both runs saw the same prompts: intervals of differences resample them together, so that what makes a prompt hard for \
             both does not widen them."
        }
        Interval::Apart(_) => {
            "The runs did not see the same prompts throughout: intervals of differences resample each run by itself."
        }
        Interval::None(_) => "Differences of behaviour have no interval here.",
    });
    let blocks = vec![
        paragraph("How well each does the task. {}", [Inline::Text(stands.to_owned())]),
        Block::Table(Table {
            rows: rows.clone(),
            caption: say(
                "Behaviour in both runs, each with its 95 % interval, and the difference with its own.",
                [],
            ),
            ..Table::default()
        }),
    ];
    Some(section("behaviour", "What they do", blocks))
}

fn components(compared: &Compared, made: &Made, drawn: Vec<Drawn>, command: &str) -> Option<Section> {
    let rows = made.changes.as_ref()?;
    let [a, b, _] = &compared.names;
    let mut blocks = vec![paragraph(
        "Each component once, by its effect in {} and in {}: what lies on the diagonal is as it was. A head of one model has nothing \
         to do with the head of the same name in another, unless one is a later state of the other.",
        [Inline::Text(a.clone()), Inline::Text(b.clone())],
    )];
    blocks.extend(drawn.into_iter().map(|drawn| picture(drawn, command)));
    // a page has no room for the intervals of both runs too
    let totals = [a, b].map(|name| format!("total, {}", heading(name)));
    let change = ["", "_ci_lo", "_ci_hi"].map(|end| format!("change of total{end}"));
    let wanted = ["component", "role"].map(str::to_owned).into_iter().chain(totals).chain(change);
    let columns = wanted.filter(|name| rows.column(name).is_ok()).collect();
    blocks.push(Block::Table(Table {
        rows: rows.clone(),
        columns,
        max_rows: Some(SHOWN),
        bars: vec!["change of total".to_owned()],
        caption: say("The components whose total effect changed most (logits), with the 95 % interval of the change; the file has those of both \
             runs too.", []),
    }));
    Some(section("components", "Which components changed", blocks))
}

fn prompts(compared: &Compared, made: &Made) -> Option<Section> {
    let rows = made.prompts.as_ref()?;
    let [a, b, _] = &compared.names;
    let blocks = vec![
        paragraph(
            "The prompts on which {} and {} disagree most in how far they prefer the answer to the wrong one.",
            [Inline::Text(a.clone()), Inline::Text(b.clone())],
        ),
        Block::Table(Table {
            rows: rows.clone(),
            max_rows: Some(SHOWN),
            bars: vec!["change".to_owned()],
            caption: say("Prompts by the size of the change of their logit difference.", []),
            ..Table::default()
        }),
    ];
    Some(section("prompts", "Prompts on which they disagree", blocks))
}

/// What one run alone has, counted and listed.
fn missing(compared: &Compared, made: &Made) -> Option<Section> {
    let mut blocks = Vec::new();
    if compared.tables.values().any(|joined| joined.only.iter().any(|rows| !rows.is_empty())) {
        let counts = compared.tables.iter().flat_map(|(table, joined)| {
            joined.only.iter().zip(&compared.names).filter(|(rows, _)| !rows.is_empty()).map(
                move |(rows, run)| {
                    let parts = [
                        Inline::Code(table.clone()),
                        Inline::Text(rows.len().to_string()),
                        Inline::Text(run.clone()),
                    ];
                    say("{}: {} rows of {} alone", parts)
                },
            )
        });
        blocks.push(paragraph(
            "Rows that one run alone has are hatched in pictures, and are no part of any difference:",
            [],
        ));
        blocks.push(Block::List(counts.collect()));
    }
    if !made.unmatched.is_empty() {
        blocks.push(Block::Table(Table {
            rows: made.unmatched.clone(),
            max_rows: Some(SHOWN),
            caption: say("Rows without a counterpart; those of single prompts are only counted.", []),
            ..Table::default()
        }));
    }
    if !compared.left_out.is_empty() {
        blocks.push(paragraph("Tables that are not compared:", []));
        let each = compared.left_out.iter();
        blocks.push(Block::List(
            each.map(|(table, why)| say("{}: {}", [Inline::Code(table.clone()), Inline::Text(why.clone())]))
                .collect(),
        ));
    }
    (!blocks.is_empty()).then(|| section("missing", "What one run alone has", blocks))
}

fn caveats(compared: &Compared, undrawn: &[String]) -> Section {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, joined) in &compared.tables {
        if let Interval::None(why) = joined.interval {
            reasons.entry(why).or_default().push(name);
        }
    }
    let mut points: Vec<Words> = Vec::new();
    let mut point = |applies: bool, text: &str| {
        if applies {
            points.push(say(text, []));
        }
    };
    let [a, b] = &compared.sides;
    let fact = |name: &str| compared.facts.iter().find(|fact| fact.fact == name);
    let models_differ = fact("weights (sha256)").is_some_and(|fact| fact.differs);
    point(
        true,
        "A difference of two numbers is a finding only beyond its interval, and many are looked at here: at 95 %, one in twenty \
         excludes 0 by chance.",
    );
    point(
        reasons.contains_key(Interval::NO_EXAMPLES),
        "Tables whose runs keep no values of single examples have differences without intervals: a missing end is not a narrow \
         one.",
    );
    for (why, tables) in reasons.iter().filter(|(why, _)| **why != Interval::NO_EXAMPLES) {
        let text = format!("Differences without intervals, since {why}: {}.", tables.join(", "));
        point(true, &text);
    }
    let mut shares = compared.tables.values().filter(|joined| joined.is_share).peekable();
    let any = shares.peek().is_some();
    let drawn = shares.any(|joined| !matches!(joined.interval, Interval::None(_)));
    let resampled = if drawn { " Their intervals resample the gap with the effect." } else { "" };
    let text = format!(
        "Shares of a gap are shares of each run's own gap, which may differ between them: equal shares need not be equal changes of \
         the metric.{resampled}"
    );
    point(any, &text);
    point(
        models_differ,
        "Parts are matched by name. Between states of one model that is the same part; between models it is a coincidence of \
         numbering.",
    );
    point(
        a.is_series || b.is_series,
        "A run that asked several stages or models is compared by its own model, finished; tables along training are compared \
         whole.",
    );
    points.extend(undrawn.iter().map(|what| plain(&format!("Not drawn with both runs in it: {what}."))));
    section("caveats", "What to keep in mind", vec![Block::List(points)])
}

fn provenance(compared: &Compared, command: &str) -> Vec<(String, Words)> {
    let mut facts = Vec::new();
    for (side, name) in compared.sides.iter().zip(&compared.names) {
        let code = |text: String| vec![Inline::Code(text)];
        facts.push((format!("{name}: folder"), code(side.run.folder.display().to_string())));
        facts.push((format!("{name}: manifest (sha256)"), code(side.run.sha256.clone())));
    }
    facts.push(("glassbox".to_owned(), plain(env!("CARGO_PKG_VERSION"))));
    facts.push(("Run again".to_owned(), vec![Inline::Code(command.to_owned())]));
    facts
}

fn picture(drawn: Drawn, command: &str) -> Block {
    let data = Table { rows: drawn.data, max_rows: Some(200), ..Table::default() };
    Block::Figure(Figure {
        name: drawn.name,
        svg: drawn.svg,
        caption: plain(&drawn.caption),
        data: Some(data),
        command: command.to_owned(),
    })
}

fn section(id: &str, title: &str, blocks: Vec<Block>) -> Section {
    Section { id: id.to_owned(), title: title.to_owned(), blocks }
}
