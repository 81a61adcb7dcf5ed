//! Pictures that would mislead are refused.

use glassbox::figure::{self, FIGURES, View};
use glassbox::row::{Column, Rows};

use super::samples::samples;

fn rows(columns: &[(&str, &[f64])]) -> Rows {
    let column = |(name, cells): &(&str, &[f64])| {
        let cells = cells.iter().map(|cell| Some(*cell)).collect();
        ((*name).to_owned(), String::new(), Column::Num(cells))
    };
    Rows { name: "t".to_owned(), columns: columns.iter().map(column).collect() }
}

fn drawn(rows: &Rows, view: &str) -> Result<String, String> {
    let view: View = toml::from_str(view).unwrap();
    figure::draw(rows, &view).map(|scene| scene.caption).map_err(|error| error.to_string())
}

/// A view with a part that its kind would leave out without a word: every kind, every part.
#[test]
fn what_a_kind_does_not_have_is_refused() {
    let parts = [
        ("facet", "facet = \"a\""),
        ("group", "group = \"a\""),
        ("height", "height = 200.0"),
        ("layer_axis", "layer_axis = \"up\""),
        ("log_x", "log_x = true"),
        ("onset", "onset = [\"a\", \"a\"]"),
        ("outline", "outline = 0.1"),
        ("references", "references = [{ at = 0.5 }]"),
        ("sort", "sort = \"size\""),
        ("strip", "strip = { value = \"a\" }"),
        ("top", "top = 3"),
    ];
    let mut tried = 0;
    for figure in FIGURES {
        let (_, rows, view) = samples().into_iter().find(|(_, _, view)| view.kind == figure.name).unwrap();
        for (part, words) in parts.iter().filter(|(part, _)| !figure.takes.contains(part)) {
            let mut table: toml::Table = toml::from_str(&view.to_toml().unwrap()).unwrap();
            table.extend(toml::from_str::<toml::Table>(words).unwrap());
            let view: View = table.try_into().unwrap();
            let said = figure::draw(&rows, &view).unwrap_err().to_string();
            assert!(said.contains(&format!("`{}` picture has no `{part}`", figure.name)), "{said}");
            tried += 1;
        }
        for part in figure.takes {
            assert!(parts.iter().any(|(known, _)| known == part), "{part} is not tried");
        }
    }
    assert!(tried > 100);
}

/// Two rows at one place are two lines, or one of them is not meant: never a zigzag.
#[test]
fn a_line_has_one_value_at_a_place() {
    let twice = rows(&[("x", &[1.0, 2.0, 2.0]), ("y", &[0.1, 0.2, 0.9])]);
    for kind in ["curve", "dose", "faithfulness", "probe", "training"] {
        let said = drawn(&twice, &format!("kind = '{kind}'\nx = 'x'\nvalue = 'y'")).unwrap_err();
        assert!(said.contains("fall into one place") && said.contains('2'), "{kind}: {said}");
    }
    let once = rows(&[("x", &[1.0, 2.0, 3.0]), ("y", &[0.1, 0.2, 0.9])]);
    drawn(&once, "kind = 'curve'\nx = 'x'\nvalue = 'y'").unwrap();
}

/// The curves of two methods in one are no curve, in whichever order their points come.
#[test]
fn a_roc_curve_never_falls() {
    let view = "kind = 'roc'\nx = 'x'\ny = 'y'";
    let two = rows(&[("x", &[0.0, 0.1, 0.5, 0.0, 0.2, 0.6]), ("y", &[0.0, 0.9, 1.0, 0.0, 0.3, 0.7])]);
    assert!(drawn(&two, view).unwrap_err().contains("not one ROC curve"));
    let one = rows(&[("x", &[0.5, 0.1, 0.0, 0.1]), ("y", &[1.0, 0.9, 0.0, 0.4])]);
    drawn(&one, view).unwrap();
}

#[test]
fn a_logarithmic_axis_has_no_negative_numbers() {
    let table = rows(&[("x", &[-1.0, 1.0, 10.0]), ("y", &[1.0, 2.0, 3.0])]);
    let said = drawn(&table, "kind = 'curve'\nx = 'x'\nvalue = 'y'\nlog_x = true").unwrap_err();
    assert!(said.contains("-1"), "{said}");
}

#[test]
fn limits_that_a_kind_has_by_itself_are_said_where_they_cut() {
    let table = rows(&[("q", &[0.0, 1.0, 1.0]), ("k", &[0.0, 0.0, 1.0]), ("w", &[1.0, -0.4, 1.4])]);
    let said = drawn(&table, "kind = 'attention'\nx = 'k'\ny = 'q'\nvalue = 'w'").unwrap();
    assert!(said.contains("Colours are clipped at 0 and 1."), "{said}");
    let fine = rows(&[("q", &[0.0, 1.0, 1.0]), ("k", &[0.0, 0.0, 1.0]), ("w", &[1.0, 0.4, 0.6])]);
    assert!(!drawn(&fine, "kind = 'attention'\nx = 'k'\ny = 'q'\nvalue = 'w'").unwrap().contains("clipped"));
}

#[test]
fn more_groups_than_signs_are_refused() {
    let many: Vec<f64> = (0..40).map(f64::from).collect();
    let table = rows(&[("x", &many), ("y", &many)]);
    let said = drawn(&table, "kind = 'scatter'\nx = 'x'\ny = 'y'\ngroup = 'x'").unwrap_err();
    assert!(said.contains("40 groups cannot be told apart"), "{said}");
}

#[test]
fn data_are_said_without_a_run_too() {
    let table = rows(&[("x", &[1.0, 2.0]), ("y", &[1.0, 2.0])]);
    let said = drawn(&table, "kind = 'curve'\nx = 'x'\nvalue = 'y'\ndata = '3 runs of my own'").unwrap();
    assert!(said.ends_with("Data: 3 runs of my own."), "{said}");
}
