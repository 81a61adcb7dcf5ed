//! Which positions the answer attends to, and in which layers it needs them.

use crate::report::page::{Block, Inline, Section, Table, Words, say};
use crate::report::story::{Story, listed, paragraph, percent};
use crate::row::Rows;

pub(super) fn section(story: &Story) -> Option<Section> {
    let rows = story.table("knockout")?;
    let mut blocks = vec![paragraph(
        "An answer can only use what attention brings to its position. Here that position is kept from attending to one source, in \
         the layers around each layer in turn, and the rest of the model runs on (*attention knockout*, Geva et al. 2023). Where \
         the answer's probability falls, something from that source arrives in those layers. It need not be the source's own \
         token: by then its position may hold what earlier layers moved there. What is cut off is shared out among the \
         other keys, so that a rise can be theirs.",
        [],
    )];
    blocks.extend(costliest(rows).map(Block::Paragraph));
    blocks.extend(story.figure("knockout", "knockout_view"));
    blocks.push(Block::Table(Table {
        rows: by_size(rows),
        columns: [
            "source", "first", "last", "relative", "ci_lo", "ci_hi", "q", "prob", "change", "change_q", "n",
        ]
        .map(str::to_owned)
        .to_vec(),
        max_rows: Some(12),
        bars: vec!["relative".to_owned()],
        caption: say("The cuts by the size of what they do.", []),
    }));
    blocks.extend(story.notes("knockout"));
    let title = "What it must attend to: attention knockout".to_owned();
    Some(Section { id: "knockout".to_owned(), title, blocks })
}

/// Each source at the layer where cutting it off costs most.
fn costliest(rows: &Rows) -> Option<Words> {
    let (sources, relative) = (rows.texts("source").ok()?, rows.numbers("relative").ok()?);
    let (first, last) = (rows.texts("first").ok()?, rows.texts("last").ok()?);
    let mut worst: Vec<usize> = Vec::new();
    for i in (0..rows.len()).filter(|&i| relative[i].is_some_and(|x| x < -0.05)) {
        match worst.iter_mut().find(|known| sources[**known] == sources[i]) {
            None => worst.push(i),
            Some(known) if relative[i] < relative[*known] => *known = i,
            Some(_) => {}
        }
    }
    worst.sort_by(|&a, &b| relative[a].unwrap_or(0.0).total_cmp(&relative[b].unwrap_or(0.0)));
    let items = worst.iter().take(4).map(|&i| {
        let layers =
            if first[i] == last[i] { first[i].clone() } else { format!("{} to {}", first[i], last[i]) };
        let mut words = vec![Inline::Code(sources[i].clone()), Inline::Text(format!(" in layer {layers} ("))];
        words.push(percent(relative[i].unwrap_or(f64::NAN)));
        words.push(Inline::Text(")".to_owned()));
        words
    });
    let items: Vec<Words> = items.collect();
    if items.is_empty() {
        return Some(say(
            "No source costs more than 5 % of the answer's probability when it is cut off.",
            [],
        ));
    }
    let mut words = say("What costs the answer's probability most: ", []);
    words.extend(listed(items));
    words.push(Inline::Text(".".to_owned()));
    Some(words)
}

fn by_size(rows: &Rows) -> Rows {
    let size: Vec<f64> =
        rows.numbers("change").unwrap_or_default().iter().map(|x| x.map_or(0.0, f64::abs)).collect();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|&a, &b| size[b].total_cmp(&size[a]).then(a.cmp(&b)));
    rows.take(&order)
}
