//! A run as a folder: tables, tensors, figures, the page, and what reruns it.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Deserialize;

use super::story::{Picture, Run, Story};
use super::{derive, explore, html, markdown, progress, sections};
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::figure::{self, PRINT, View};
use crate::lab::{self, Lab};
use crate::output::{Folder, Manifest, ModelFacts};
use crate::row::Rows;
use crate::study::{Stage, Study};
use crate::task::Task;

/// The pictures a report draws when their table is there.
const VIEWS: &str = include_str!("views.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Views {
    figure: Vec<View>,
}

/// Writes everything but the manifest, and what [`run`](super::run) wrote, into the folder.
pub fn write(run: &Run, folder: &mut Folder) -> Result<()> {
    let done = run.outcomes.len();
    all(run, folder).map_err(|error| progress::kept(error, folder, done, done))
}

fn all(run: &Run, folder: &mut Folder) -> Result<()> {
    // the page tells of the study's own model, finished; what the other stages found is told beside it
    let own = run.outcomes.iter().map(|outcome| run.study.own(outcome)).collect::<Result<Vec<_>>>()?;
    let joined = run.outcomes.iter().filter(|_| run.study.is_series());
    let joined: Vec<Rows> = joined.flat_map(|outcome| &outcome.findings.tables).cloned().collect();
    let run = &Run { outcomes: &own, ..*run };
    let mut tables = BTreeMap::new();
    for outcome in run.outcomes {
        for rows in &outcome.findings.tables {
            tables.insert(rows.name.clone(), rows.clone());
        }
    }
    for rows in derive::training(&joined)? {
        folder.table(&rows)?;
        tables.insert(rows.name.clone(), rows);
    }
    let made = derive::tables(run, &tables)?;
    for (rows, is_result) in made {
        if is_result {
            folder.table(&rows)?;
        }
        tables.insert(rows.name.clone(), rows);
    }

    let mut story = Story { run: *run, tables, pictures: BTreeMap::new() };
    for (name, caption, svg, png) in draw(&story)? {
        folder.figure(&name, &svg, &png)?;
        story.pictures.insert(name, Picture { svg, caption });
    }
    let mut page = sections::page(&story);
    page.data = explore::data(&story, &page)?;
    folder.write("index.html", html(&page)?.as_bytes())?;
    folder.write("report.md", markdown(&page).as_bytes())?;
    rerun(run, folder)
}

/// Name, caption, SVG and PNG of a picture.
type Drawn = (String, String, String, Vec<u8>);

/// Draws every view whose table is there.
fn draw(story: &Story) -> Result<Vec<Drawn>> {
    let broken = |e: toml::de::Error| {
        Error::usage(format!("a figure of the study cannot be read: {e}"), "see the views in the README")
    };
    let mut views = toml::from_str::<Views>(VIEWS).map_err(broken)?.figure;
    for own in &story.run.study.figures {
        let view: View = own.clone().try_into().map_err(broken)?;
        story
            .table(&view.table)
            .ok_or_else(|| Error::unknown("table", &view.table, story.tables.keys().map(String::as_str)))?;
        views.push(view);
    }
    views.retain(|view| story.table(&view.table).is_some());
    let drawn = views.into_par_iter().map(|mut view| {
        view.caption = filled(&outlined(&view, story.run.task.examples.len()), story);
        view.value_label = filled(&view.value_label, story);
        let rows = story.table(&view.table).ok_or_else(|| Error::unknown("table", &view.table, []))?;
        if view.rows(rows).is_err() {
            // A run that asked for one direction has no rows for the other's picture.
            return Ok(None);
        }
        view.log_x |= decades(rows, &view)?;
        story.run.lab.check()?;
        let scene = figure::draw(rows, &view)?;
        Ok(Some((view.name, view.caption, scene.to_svg(), scene.to_png(PRINT)?)))
    });
    drawn.filter_map(Result::transpose).collect()
}

/// Whether a picture along training spans so many steps that only a logarithmic axis shows the early ones.
fn decades(rows: &Rows, view: &View) -> Result<bool> {
    if view.x.as_deref() != Some("step") {
        return Ok(false);
    }
    let steps: Vec<f64> = rows.numbers("step")?.into_iter().flatten().collect();
    let (least, most) = steps.iter().fold((f64::INFINITY, 0.0f64), |(a, b), &x| (a.min(x), b.max(x)));
    Ok(least > 0.0 && most >= 10.0 * least)
}

/// A view's caption with what its outlines mean; a single prompt has no intervals, and so none.
fn outlined(view: &View, n: usize) -> String {
    let size = match view.outline {
        Some(least) => format!("{least} or more from 0"),
        None => "a twentieth of the largest or more".to_owned(),
    };
    let words = format!("; outlined cells are {size}, with a 95 % interval that excludes 0");
    view.caption.replace("{outlined}", if n > 1 { &words } else { "" })
}

/// A caption with its placeholders filled from the run.
fn filled(caption: &str, story: &Story) -> String {
    let run = &story.run;
    let pairs = if run.task.is_paired() { " (clean to corrupt)" } else { " (mean ablation)" };
    let which = if run.study.heads.is_empty() {
        "of the heads with the largest total effect,"
    } else {
        "of the heads asked for,"
    };
    let (n, task) = (run.task.examples.len(), &run.task.name);
    // a single prompt has no mean and no interval
    let many = |text: String| if n > 1 { text } else { String::new() };
    caption
        .replace(
            "{over}",
            &many(format!(
                "Mean over {n} prompts of {task}; the band is the 95 % bootstrap interval over whole prompts."
            )),
        )
        .replace(
            "{whiskers}",
            &many(format!("Whiskers: 95 % bootstrap intervals over {n} prompts of {task}. ")),
        )
        .replace("{which}", which)
        .replace("{probe}", &derive::probed(&story.tables))
        .replace("{model}", &run.lab.about.name)
        .replace("{task}", &run.task.name)
        .replace("{n}", &run.task.examples.len().to_string())
        .replace("{metric}", run.study.metric.name())
        .replace("{pairs}", pairs)
}

/// `study.toml` and the files it names, so that the folder alone reruns the study.
fn rerun(run: &Run, folder: &mut Folder) -> Result<()> {
    let mut own = run.study.clone();
    own.model = checkpoint::absolute(&own.model);
    if let Some(commit) = &run.lab.about.revision {
        // a branch moves on; what was studied does not
        let id = own.model.split_once('@').map_or(own.model.as_str(), |(id, _)| id);
        own.model = format!("{id}@{commit}");
    }
    own.values = run.lab.values.as_ref().map(|values| values.path().to_owned());
    own.activations = None; // of use to this machine only; without, they are recorded anew
    own.compare.iter_mut().for_each(|model| *model = checkpoint::absolute(model));
    own.task.name = own.task.file.is_some().then(|| run.task.name.clone());
    let files = [
        (&mut own.task.file, "prompts.jsonl"),
        (&mut own.reference, "reference.jsonl"),
        (&mut own.gains, "gains.json"),
        (&mut own.circuit, "given.json"),
    ];
    for (path, name) in files {
        if let Some(path) = path {
            folder.write(name, checkpoint::read_text(path)?.as_bytes())?;
            *path = name.into();
        }
    }
    folder.write("study.toml", own.text()?.as_bytes())
}

/// The other models a study was put to, with the hashes of their weights.
fn stages(study: &Study) -> Result<Vec<serde_json::Value>> {
    if !study.is_series() {
        return Ok(Vec::new());
    }
    let fact = |stage: &Stage| {
        let directory = checkpoint::locate(&stage.word)?;
        let hash = directory.weights_hash()?;
        let mut fact = serde_json::json!({ "name": stage.word, "step": stage.step, "sha256": hash });
        if let Some(revision) = directory.revision() {
            fact["revision"] = revision.into();
        }
        Ok(fact)
    };
    study.stages()?.iter().map(fact).collect()
}

/// What the manifest says about a run.
pub fn manifest(study: &Study, lab: &Lab, task: &Task, threads: usize) -> Manifest {
    let sizes = BTreeMap::from([
        ("parameters".to_owned(), lab.about.parameters as u64),
        ("prompts".to_owned(), task.examples.len() as u64),
    ]);
    let more = serde_json::Map::from_iter([
        ("bos".to_owned(), task.bos.into()),
        ("notes".to_owned(), task.notes.clone().into()),
        ("caveats".to_owned(), lab.about.caveats.clone().into()),
        ("stages".to_owned(), stages(study).unwrap_or_default().into()),
        ("folded".to_owned(), lab.about.folded.iter().map(|step| step.name()).collect()),
    ]);
    Manifest {
        argv: std::env::args().collect(),
        model: ModelFacts {
            name: lab.about.name.clone(),
            revision: lab.about.revision.clone(),
            family: lab.about.family.clone(),
            sha256: lab.about.hash.clone(),
        },
        tokenizer_sha256: lab.about.tokenizer_hash.clone(),
        seed: study.seed,
        dtype: study.dtype.clone(),
        device: lab::device_name(lab.model.device()),
        threads,
        sizes,
        more,
    }
}
