//! What `glassbox plot` says of tables, views and flags that people make: the fact with its place, and a way out that leads out.

use std::fs;
use std::path::Path;

use glassbox::figure::{FIGURES, View};

use crate::command::Bench;

/// Asserts that each command line is refused with this code and these words.
fn refused(bench: &Bench, cases: &[(i32, &str, &[&str])]) {
    for (code, words, expected) in cases {
        let arguments: Vec<&str> = std::iter::once("plot").chain(words.split_whitespace()).collect();
        let said = bench.refused(*code, &arguments);
        for part in *expected {
            assert!(said.contains(part), "{words}: `{part}` is not in: {said}");
        }
        assert!(!said.contains("os error") && !said.contains("_duplicated_"), "{words}: {said}");
    }
}

#[test]
fn a_file_that_is_no_such_table_is_refused_with_the_place() {
    let bench = Bench::new();
    bench.file("twice.csv", "layer,head,effect,effect\n0,0,1,2\n");
    bench.file("bare.csv", "0,0,0.5\n0,1,0.25\n");
    bench.file("counted.csv", "0,1,2\n5,1,2\n");
    bench.file("semicolons.csv", "layer;head;effect\n0;0;0,5\n");
    bench.file("tabs.csv", "layer\thead\teffect\n0\t0\t0.5\n");
    bench.file("long.csv", "layer,head,effect\n0,0,0.5\n0,1,0.25,x\n");
    bench.file("short.csv", "layer,head,effect\n0,0,0.5\n0,1\n");
    bench.file("text.parquet", "layer,head,effect\n0,0,0.5\n");
    bench.file("none.parquet", "");
    fs::write(bench.path("latin.csv"), b"layer,head,effect,name\n0,0,0.5,x\n0,1,0.5,caf\xe9\n").unwrap();
    fs::create_dir(bench.path("folder.csv")).unwrap();
    let heat = "--kind heatmap --x head --y layer --value effect -o a.svg";
    let cases: &[(&str, &[&str])] = &[
        (
            "twice.csv",
            &["columns 3 and 4 are both named `effect`", "hint: give each column a name of its own"],
        ),
        ("bare.csv", &["first line holds numbers, not names: 0,0,0.5", "names the columns"]),
        ("semicolons.csv", &["separated by semicolons", "save it with commas"]),
        ("tabs.csv", &["separated by tabs", "save it with commas"]),
        ("long.csv", &["line 3 has 4 cells where the first line names 3"]),
        ("short.csv", &["line 3 has 2 cells where the first line names 3"]),
        ("latin.csv", &["line 3 is not UTF-8 after \"0,1,0.5,caf\"", "save the file as UTF-8"]),
        ("text.parquet", &["it is no Parquet file", "let its name end in .csv"]),
        ("none.parquet", &["it is empty"]),
        (
            "missing.csv",
            &["cannot read missing.csv: No such file or directory\n", "check the path of the table"],
        ),
        ("folder.csv", &["cannot read folder.csv: ", "a file that ends in .csv or .parquet"]),
    ];
    for (table, expected) in cases {
        refused(&bench, &[(1, &format!("{table} {heat}"), *expected)]);
    }
    refused(
        &bench,
        &[(
            2,
            &format!("counted.csv {heat}"),
            &["the table has 0, 1, 2; its first line must name the columns"],
        )],
    );
    // an ending in capitals is that ending
    bench.file("LOUD.CSV", "layer,head,effect\n0,0,0.5\n");
    bench.ok(&[
        "plot", "LOUD.CSV", "--kind", "heatmap", "--x", "head", "--y", "layer", "--value", "effect", "-o",
        "a.svg",
    ]);
}

/// Two runs that were measured at the same steps.
const RUNS: &str = "run,step,layer,loss,low,high\na,1,0,3,2,4\na,2,0,2,1,3\nb,1,0,4,3,5\nb,2,0,3,2,4\n";

#[test]
fn hints_name_what_the_kind_takes_and_the_view_does_not_use() {
    let bench = Bench::new();
    bench.file("runs.csv", RUNS);
    bench.file("same.csv", "step,loss,low,high\n1,3,2,4\n1,4,3,5\n");
    let hint = |words: &str| {
        let arguments: Vec<&str> =
            ["plot"].into_iter().chain(words.split(' ')).chain(["-o", "a.svg"]).collect();
        bench.refused(1, &arguments).split_once("hint: ").unwrap().1.trim_end().to_owned()
    };
    let curve = "--kind curve --x step --value loss --lo low --hi high";
    assert_eq!(
        hint(&format!("runs.csv {curve}")),
        "two such rows differ in `run` (a, b): `--group run` draws a line of each, `--only run=…` keeps one kind of row"
    );
    assert_eq!(
        hint(&format!("same.csv {curve}")),
        "no other column tells two such rows apart: average their numbers, or keep one of them"
    );
    // whole numbers can tell kinds of rows apart, but not those that are drawn
    assert!(!hint("runs.csv --kind curve --x step --series loss,low,high").contains("`loss`"));
    assert_eq!(
        hint("runs.csv --kind heatmap --x step --y layer --value loss --lo low --hi high"),
        "two such rows differ in `run` (a, b): `--only run=…` keeps one kind of row, `--facet run` makes a panel of each"
    );
    assert_eq!(
        hint("runs.csv --kind tokens --x step --x-text layer --value loss --lo low --hi high"),
        "two such rows differ in `run` (a, b): `--group run` draws a strip of each, `--only run=…` keeps one kind of row"
    );
    // what a hint names is a flag, and leads out
    bench.ok(&[
        &["plot", "runs.csv", "-o", "b.svg", "--group", "run"][..],
        &curve.split(' ').collect::<Vec<_>>(),
    ]
    .concat());
}

#[test]
fn flags_say_what_they_cannot_mean() {
    let bench = Bench::new();
    bench.file("runs.csv", RUNS);
    let curve = "runs.csv --kind curve --x step --value loss --only run=a -o a.svg";
    refused(
        &bench,
        &[
            (2, &format!("{curve} --only run=b"), &["`--only` asks for `run` twice: `a` and `b`", "--group"]),
            (2, &format!("{curve} --series loss,low"), &["`--series loss,low` names one end of an interval"]),
            (
                2,
                &format!("{curve} --series loss,,high,x"),
                &["names one end of an interval", "--series total,,,NAME"],
            ),
            (2, &format!("{curve} --series ,low,high"), &["`--series ,low,high` names no column"]),
            (2, &format!("{curve} --strip loss,low"), &["`--strip loss,low` names one end", "--strip total"]),
            (2, &format!("{curve} --onset low"), &["write two columns: `--onset onset_after,onset_by`"]),
            // numbers below 0 are numbers: the figure says which it takes
            (2, &format!("{curve} --width -5"), &["`width` is -5 points", "choose 120 to 2000 points"]),
            (2, &format!("{curve} --height -5"), &["`height` is -5 points", "choose 20 to 4000 points"]),
            (2, &format!("{curve} --outline -0.5"), &["`outline` is -0.5"]),
            (2, &format!("{curve} --top -5"), &["write a whole number from 0 on"]),
            (2, &format!("{curve} --width wide"), &["write a number, such as 240"]),
        ],
    );
    // one text twice is one text, and a series may have a name and no interval
    let more = "--only run=a --series loss,,,shuffled --series loss,low,high,real --strip low,,,cost";
    let words = format!("plot {} {more}", curve.replace(" --value loss", ""));
    bench.ok(&words.split(' ').collect::<Vec<_>>());
    let svg = fs::read_to_string(bench.path("a.svg")).unwrap();
    assert!(["shuffled", "real", "cost"].iter().all(|name| svg.contains(name)));
    // the view that is written holds them, and is read back
    let drawn = format!("{words} -o b.toml -o b.svg --force");
    bench.ok(&drawn.split(' ').collect::<Vec<_>>());
    bench.ok(&["plot", "runs.csv", "--view", "b.toml", "-o", "c.svg"]);
    let read = |name: &str| fs::read_to_string(bench.path(name)).unwrap();
    assert_eq!(read("c.svg"), read("b.svg").replace("<title>b</title>", "<title>c</title>"));
}

#[test]
fn each_part_that_a_kind_names_can_be_said_on_the_command_line() {
    let bench = Bench::new();
    let help = bench.ok(&["plot", "--help"]);
    let parts = serde_json::to_value(View::default()).unwrap();
    for figure in FIGURES {
        for word in figure.about.split('`').skip(1).step_by(2) {
            // pictures made of several views, which only a file can hold
            if parts.get(word).is_some() && word != "shared" {
                let flag = match word {
                    "references" => "--reference".to_owned(),
                    word => format!("--{}", word.replace('_', "-")),
                };
                assert!(help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")), "{flag}");
            }
        }
    }

    bench.file("lens.csv", "pos,token,layer,top,prob,next\n0,a,0,b,0.5,b\n1,b,0,c,0.25,d\n");
    let lens = "plot lens.csv --kind lens --x pos --y layer --text top --value prob --target next -o lens.toml -o lens.svg";
    bench.ok(&lens.split(' ').collect::<Vec<_>>());
    bench.file("steps.csv", "step,loss,low,high,run\n1,3,,,a\n2,2,1,3,a\n4,1,1,3,a\n");
    let training = "plot steps.csv --kind training --x step --value loss --label run --onset low,high -o steps.toml -o steps.svg";
    bench.ok(&training.split(' ').collect::<Vec<_>>());
    bench.file("sizes.csv", "edges,share,value\n1,0.1,0.2\n5,0.5,0.7\n10,1,1\n");
    let sizes = "plot sizes.csv --kind faithfulness --x edges --value value --fraction share -o sizes.toml -o sizes.svg";
    bench.ok(&sizes.split(' ').collect::<Vec<_>>());
    let read = |name: &str| fs::read_to_string(bench.path(name)).unwrap();
    assert!(read("lens.toml").contains("target = \"next\""));
    assert!(read("steps.toml").contains("onset = [\"low\", \"high\"]"));
    assert!(read("sizes.toml").contains("fraction = \"share\""));
}

#[test]
fn a_view_file_is_told_by_its_line() {
    let bench = Bench::new();
    bench.file("runs.csv", RUNS);
    let cases: &[(&str, &[&str])] = &[
        (
            "kind = \"curve\"\nvalues = \"loss\"\n",
            &["line 2: there is no key named `values`", "did you mean `value`"],
        ),
        (
            "kind = \"curve\"\nwidth = \"wide\"\n",
            &["line 2: string \"wide\" stands where a number is needed"],
        ),
        (
            "kind = \"curve\"\ntop = -1\n",
            &["line 2: integer `-1` stands where a whole number from 0 on is needed"],
        ),
        ("kind = \"curve\"\nvenue = \"nips\"\n", &["line 2: ", "neurips"]),
        ("kind = \"curve\"\n\n[[series]]\nvalue = \"a\"\nname = b\n", &["line 5: ", "hint: a view is TOML"]),
        ("[[series]]\nvalues = \"a\"\n", &["line 2: there is no key named `values`", "did you mean `value`"]),
    ];
    for (text, expected) in cases {
        bench.file("own.toml", text);
        let said = bench.refused(2, &["plot", "runs.csv", "--view", "own.toml", "-o", "a.svg"]);
        assert!(said.contains("the view own.toml cannot be drawn: "), "{said}");
        assert!(!said.contains("TOML parse error") && !said.contains("f64"), "{said}");
        for part in *expected {
            assert!(said.contains(part), "{text}: `{part}` is not in: {said}");
        }
    }
}

#[test]
fn a_place_that_takes_no_file_is_not_said_to_be_missing() {
    let bench = Bench::new();
    bench.file("runs.csv", RUNS);
    let plot = "runs.csv --kind curve --x step --value loss --group run -o";
    refused(&bench, &[(1, &format!("{plot} no/a.pdf"), &["the folder it should lie in does not exist"])]);
    // a folder of the system in which nobody can make a file
    if Path::new("/proc/self").exists() {
        let expected: &[&str] = &["cannot write /proc/a.pdf: its folder takes no new files", "-o (--out)"];
        refused(&bench, &[(1, &format!("{plot} /proc/a.pdf"), expected)]);
    }
}

#[test]
fn prompts_in_no_known_format_are_told_the_formats() {
    let bench = Bench::new();
    bench.file("x.csv", "layer,effect\n1,2\n");
    bench.file("x2.csv", "clean;answers\nthe; a\n");
    bench.file("x.jsonl", "{\"clean\": \"the\"}\n3\n{\"clean\": \"the\" \"corrupt\": 1}\n");
    let cases: &[(&str, &[&str])] = &[
        (
            "x.csv",
            &[
                "neither JSON nor CSV with a column of prompts (clean, ",
                "first line is \"layer,effect\"",
                "list formats",
            ],
        ),
        ("x2.csv", &["its cells are separated by semicolons", "with commas"]),
        (
            "x.jsonl",
            &[
                "line 2: it is not a JSON object but a number",
                "line 3: it is not a JSON object: expected `,` or `}` at column 17",
            ],
        ),
    ];
    for (file, expected) in cases {
        let said = bench.refused(1, &["predict", "--prompts", file]);
        for part in *expected {
            assert!(said.contains(part), "{file}: `{part}` is not in: {said}");
        }
        assert!(!said.contains("expected a map") && !said.contains("line 1 column"), "{said}");
    }
}
