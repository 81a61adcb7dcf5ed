//! Who tells whom: single edges, and how far estimates of them can be trusted.

use crate::report::page::{Block, Inline, Section, Table, say};
use crate::report::story::{Story, number, paragraph};

pub(super) fn section(story: &Story) -> Option<Section> {
    let edges = story.table("edges")?;
    let mut blocks = vec![paragraph(
        "An edge goes from a part that writes to the residual stream to a part that reads it: a head's query, key or value, an \
         MLP, the logits. Cut, it carries what its writer wrote on the other prompt, to that one reader; every other reader \
         still gets the original. **Exact** scores cut each edge in a pass of its own. **EAP** estimates all of them from one gradient, \
         and **EAP-IG** from several between the two runs: cheap, and blind wherever softmax or a norm bends on the way.",
        [],
    )];
    blocks.extend(found(story));
    blocks.extend(story.figure("edges", "edges"));
    blocks.extend(story.figure("edges_agreement", "edges_agreement"));
    blocks.extend(story.figure("edges_roc", "edges_roc"));
    blocks.extend(table(
        story,
        "edges_truth",
        &["method", "auroc", "ci_lo", "ci_hi", "found", "known", "n", "last", "last_rank"],
        8,
        "Every method's ranking against the edges that the model was designed to have; ties count half.",
    ));
    blocks.extend(table(
        story,
        "edges_agreement_summary",
        &["method", "components", "checked", "top", "pearson", "spearman", "overlap", "misses"],
        8,
        "Estimates against exact cuts of the same edges.",
    ));
    blocks.extend(table(
        story,
        "edges_group",
        &["from", "to", "edges", "effect", "ci_lo", "ci_hi", "sum_of_parts", "interaction"],
        40,
        "All edges from one role into another, cut together, beside the sum of the same edges cut alone.",
    ));
    let columns = ["method", "rank", "edge", "effect", "ci_lo", "ci_hi", "n", "p", "q"];
    blocks.push(Block::Table(Table {
        rows: edges.clone(),
        columns: columns.map(str::to_owned).to_vec(),
        max_rows: Some(20),
        bars: vec!["effect".to_owned()],
        caption: say("The largest edges of the first method.", []),
    }));
    blocks.extend(story.notes("edges"));
    Some(Section { id: "edges".to_owned(), title: "Who tells whom: edges".to_owned(), blocks })
}

/// Which method finds the designed edges best and worst.
fn found(story: &Story) -> Option<Block> {
    let truth = story.table("edges_truth")?;
    let (methods, areas) = (truth.texts("method").ok()?, truth.numbers("auroc").ok()?);
    let (last, ranks) = (truth.texts("last").ok()?, truth.numbers("last_rank").ok()?);
    let each: Vec<(usize, f64)> =
        areas.iter().enumerate().filter_map(|(i, area)| Some((i, (*area)?))).collect();
    let best = each.iter().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))?;
    let worst = each.iter().min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)))?;
    let mut words = say(
        "Of the edges this model was designed to have, `{}` ranks a known edge above another with probability {}",
        [Inline::Text(methods[best.0].clone()), number(best.1)],
    );
    if worst.1 < best.1 {
        words.extend(say(
            ", `{}` with {}; the known edge it finds last, `{}`, is its number {}",
            [
                Inline::Text(methods[worst.0].clone()),
                number(worst.1),
                Inline::Text(last[worst.0].clone()),
                Inline::Text(ranks[worst.0].map_or_else(String::new, |rank| format!("{rank:.0}"))),
            ],
        ));
    }
    words.push(Inline::Text(".".to_owned()));
    Some(Block::Paragraph(words))
}

fn table(story: &Story, name: &str, columns: &[&str], most: usize, caption: &str) -> Option<Block> {
    let rows = story.table(name)?;
    let there = |column: &&&str| rows.column(column).is_ok();
    Some(Block::Table(Table {
        rows: rows.clone(),
        columns: columns.iter().filter(there).map(|&column| column.to_owned()).collect(),
        max_rows: Some(most),
        bars: Vec::new(),
        caption: say(caption, []),
    }))
}
