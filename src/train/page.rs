//! The page of a training run: its gates, and how the loss fell.

use super::gates::Gate;
use super::{Logged, Trainer};
use crate::error::Result;
use crate::figure::{self, SCREEN_2X, View};
use crate::output::Folder;
use crate::report::page::{Block, Figure, Page, Section, Table, say};
use crate::report::{self, page::Inline};
use crate::row::Rows;

/// Writes the tables `training` and `gates`, the curve of the loss and `index.html`.
pub(super) fn write(trainer: &Trainer, gates: &[Gate], folder: &mut Folder) -> Result<()> {
    let training = Rows::of("training", &trainer.logged);
    let all = Rows::of("gates", &trainer.gates);
    folder.table(&training)?;
    folder.table(&all)?;
    let view = View {
        name: "loss".into(),
        table: "training".into(),
        kind: "training".into(),
        x: Some("step".into()),
        value: Some("loss".into()),
        x_label: "update".into(),
        y_label: "loss of the next token (nats)".into(),
        ..View::default()
    };
    let scene = figure::draw(&training, &view)?;
    let (svg, png) = (scene.to_svg().into_bytes(), scene.to_png(SCREEN_2X)?);
    folder.figure("loss", &[("svg", svg), ("png", png)])?;
    let step = trainer.step.to_string();
    let last = all.only("step", &step)?;
    let held = gates.iter().filter(|gate| gate.holds()).count();
    let words = |text: String| vec![Inline::Text(text)];
    let table = Table {
        rows: last,
        caption: say("What the trained model reaches, and what it has to.", []),
        ..Table::default()
    };
    let curve = Figure {
        name: "loss".into(),
        svg: scene.to_svg(),
        caption: say("The loss of the next token while training, answers weighted as the recipe says.", []),
        ..Figure::default()
    };
    let section = |id: &str, title: &str, block: Block| Section {
        id: id.into(),
        title: title.into(),
        blocks: vec![block],
    };
    let page = Page {
        kicker: "training run".into(),
        title: trainer.recipe.name.clone(),
        lead: words(format!(
            "{} updates from seed {}; {held} of {} gates hold.",
            trainer.step,
            trainer.recipe.seed,
            gates.len()
        )),
        sections: vec![
            section("gates", "Gates", Block::Table(table)),
            section("loss", "Loss", Block::Figure(curve)),
        ],
        provenance: vec![
            ("recipe".into(), vec![Inline::Code("recipe.toml".into())]),
            (
                "last loss".into(),
                words(trainer.logged.last().map_or(String::new(), |l: &Logged| format!("{:.4}", l.loss))),
            ),
        ],
        data: None,
    };
    folder.write("index.html", report::html(&page)?.as_bytes())
}
