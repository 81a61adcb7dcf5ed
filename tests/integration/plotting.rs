//! Figures as files: what a run writes of each, `glassbox plot`, captions, venues, and LaTeX that takes them as they are.

mod sentences;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use glassbox::figure::{FIGURES, Venue, tex};

use crate::command::Bench;

const ENDINGS: [&str; 6] = ["svg", "pdf", "png", "csv", "toml", "tex"];

/// A small run, drawn for ACL, in the folder `run`.
fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let bench = Bench::new();
        bench.ok(&["report", "--task", "ioi", "--n", "8", "--venue", "acl", "--out", "run", "--quiet"]);
        bench
    })
}

/// Names of the figures of a folder that can be drawn again.
fn figures(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn every_figure_of_a_run_is_drawn_again_from_its_numbers_and_its_view() {
    let bench = bench();
    let names = figures(&bench.path("run/figures"));
    assert!(names.len() > 8, "{names:?}");
    fs::create_dir(bench.path("moved")).unwrap();
    for name in &names {
        let own = |ending: &str| fs::read(bench.path(&format!("run/figures/{name}.{ending}"))).unwrap();
        assert!(ENDINGS.iter().all(|ending| !own(ending).is_empty()));
        // as an author does who takes two files into a paper's folder
        for ending in ["csv", "toml"] {
            fs::write(bench.path(&format!("moved/{name}.{ending}")), own(ending)).unwrap();
        }
        let (csv, view) = (format!("moved/{name}.csv"), format!("moved/{name}.toml"));
        let (svg, pdf) = (format!("moved/{name}.svg"), format!("moved/{name}.pdf"));
        let said = bench.ok(&["plot", &csv, "--view", &view, "-o", &svg, "-o", &pdf]);
        assert_eq!(said, format!("{svg}\n{pdf}\n"));
        for ending in ["svg", "pdf"] {
            let again = fs::read(bench.path(&format!("moved/{name}.{ending}"))).unwrap();
            assert!(again == own(ending), "{name}.{ending} differs when it is drawn again");
        }
    }
}

#[test]
fn the_gallery_is_drawn_again_from_its_numbers() {
    let reports = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports");
    let bench = Bench::new();
    for study in fs::read_dir(reports).unwrap().map(|entry| entry.unwrap().path()) {
        let folder = study.join("figures");
        // one of each run: the others are drawn again when the study is
        if let Some(name) = figures(&folder).first() {
            let path = |ending: &str| folder.join(format!("{name}.{ending}")).display().to_string();
            bench.ok(&["plot", &path("csv"), "--view", &path("toml"), "-o", "again.svg", "--force"]);
            let again = fs::read(bench.path("again.svg")).unwrap();
            assert!(again == fs::read(path("svg")).unwrap(), "{} differs", path("svg"));
        }
    }
}

#[test]
fn a_venue_decides_widths_and_is_kept_by_the_study() {
    let bench = bench();
    let read = |path: &str| fs::read_to_string(bench.path(path)).unwrap();
    assert!(read("run/study.toml").contains("venue = \"acl\"\n"));
    for name in figures(&bench.path("run/figures")) {
        let svg = read(&format!("run/figures/{name}.svg"));
        assert!(svg.contains("width=\"218.3pt\"") || svg.contains("width=\"453.5pt\""), "{name}");
    }
    let wide = read("run/figures/components.tex");
    assert!(
        wide.contains("\\begin{figure*}[tbp]") && wide.contains("[width=\\textwidth]{components.pdf}"),
        "{wide}"
    );
    let narrow = read("run/figures/direct_total.tex");
    assert!(narrow.contains("\\begin{figure}[tbp]") && narrow.contains("[width=\\columnwidth]"), "{narrow}");
    assert!(narrow.contains("\\label{fig:direct_total}"));

    // of a single method with a folder, too; a study's own word is changed by the flag
    bench.ok(&["attribution", "--task", "ioi", "--n", "2", "--venue", "slide", "--out", "one", "--quiet"]);
    assert!(read("one/figures/attribution.svg").contains("width=\"720pt\""));
    bench.ok(&["run", "one/study.toml", "--venue", "icml", "--out", "two", "--quiet"]);
    assert!(read("two/figures/attribution.svg").contains("width=\"486pt\""));
    let fresh = Bench::new();
    let said = fresh.refused(2, &["heads", "--venue", "acl"]);
    assert!(said.contains("`--venue`") && said.contains("--out DIR"), "{said}");
    let said = fresh.refused(2, &["report", "--venue", "nips"]);
    assert!(said.contains("neurips"), "{said}");
}

#[test]
fn captions_tell_where_numbers_come_from_and_no_table_of_ones_own_does() {
    let bench = bench();
    let desc = |svg: &str| {
        let text = fs::read_to_string(bench.path(svg)).unwrap();
        text.split_once("<desc>").unwrap().1.split_once("</desc>").unwrap().0.to_owned()
    };
    let own = desc("run/figures/patch_head.svg");
    let hash = fs::read_to_string(bench.path("run/manifest.json")).unwrap();
    let hash: serde_json::Value = serde_json::from_str(&hash).unwrap();
    let source = format!(
        "Model: textbook (weights {}); data: 8 prompt pairs of ioi; seed 0.",
        &hash["model"]["sha256"].as_str().unwrap()[..7]
    );
    assert!(own.ends_with(&source), "{own}");
    assert!(own.contains("The gap is that in logit difference between clean and corrupt prompts."), "{own}");
    assert!(
        own.contains("Outlined: 0.05 or more from 0, with a 95 % bootstrap interval (over whole pairs)"),
        "{own}"
    );
    assert!(
        desc("run/figures/head_scores.svg")
            .contains("data: 16 sequences of random tokens said twice; seed 0.")
    );
    assert!(
        desc("run/figures/components.svg").contains("Whiskers: 95 % bootstrap intervals over whole pairs.")
    );
    let markdown = fs::read_to_string(bench.path("run/report.md")).unwrap();
    assert!(markdown.contains("data: 8 prompt pairs of ioi; seed 0."));

    // a table where the run wrote it, and the same table elsewhere
    let heat = [
        "--kind",
        "heatmap",
        "--x",
        "head",
        "--y",
        "layer",
        "--value",
        "effect",
        "--only",
        "direction=noise",
    ];
    let plot = |table: &str, out: &str| {
        let arguments = [&["plot", table][..], &heat, &["--only", "site=z", "-o", out]].concat();
        bench.ok(&arguments);
        desc(out)
    };
    let known = plot("run/tables/patch_head.parquet", "known.svg");
    assert_eq!(
        known.split_once(" Model").unwrap().0,
        "Effect by head and layer; direction noise and site z only. Noising: values of the corrupt run are put into the \
         clean run."
    );
    assert!(known.ends_with(&source), "{known}");
    fs::copy(bench.path("run/tables/patch_head.csv"), bench.path("mine.csv")).unwrap();
    let mine = plot("mine.csv", "mine.svg");
    assert_eq!(mine, "Effect by head and layer; direction noise and site z only.");
}

/// A table as others make them: numbers as they come, some missing, and tokens that mean harm.
const FOREIGN: &str = "layer,head,effect,ci_lo,ci_hi,token,kind\n\
    0,0,0.5,0.4,0.6,<script>alert(1)</script>,a\n\
    0,1,NaN,,,\"50% of $x_{i}^2 & #1 ~ \\end{document}\",a\n\
    1,0,-0.25,-0.5,0.1,\"日本 ∑ “é” \u{202e}rtl\",a\n\
    1,1,,,,\"=cmd()\",a\n\
    0,0,0.1,0.0,0.2,x,b\n";

#[test]
fn a_table_of_ones_own_is_drawn_in_every_format() {
    let bench = Bench::new();
    bench.file("foreign.csv", FOREIGN);
    let heat = [
        "plot",
        "foreign.csv",
        "--kind",
        "heatmap",
        "--x",
        "head",
        "--y",
        "layer",
        "--value",
        "effect",
        "--only",
        "kind=a",
        "--x-label",
        "head of <script>",
        "--caption",
        "50% of $x_i$ & #1 \\end{document} 日本",
        "--limits",
        "-0.3,0.3",
    ];
    let plot = |more: &[&str]| bench.ok(&[&heat[..], more].concat());
    let said = plot(&["-o", "fig", "--text", "token"]);
    assert_eq!(said.lines().collect::<Vec<_>>(), ENDINGS.map(|ending| format!("fig.{ending}")));
    let read = |name: &str| fs::read(bench.path(name)).unwrap();
    let svg = String::from_utf8(read("fig.svg")).unwrap();
    assert!(!svg.contains("<script") && svg.contains("&lt;script&gt;"));
    // NaN and a missing number, each hatched
    assert_eq!(svg.matches("missing)").count(), 2);
    assert!(svg.contains("Hatched: no value. Colours are clipped at 0.3.</desc>"), "{svg}");
    assert_eq!(&read("fig.pdf")[..5], b"%PDF-");
    assert_eq!(&read("fig.png")[1..4], b"PNG");
    // the drawn rows alone, all of their columns
    let csv = String::from_utf8(read("fig.csv")).unwrap();
    assert_eq!(csv.lines().count(), 5);
    assert!(csv.starts_with("\"layer\",\"head\",\"effect\",\"ci_lo\",\"ci_hi\",\"token\",\"kind\"\n"));
    assert!(csv.contains("\"'=cmd()\""));
    let tex = String::from_utf8(read("fig.tex")).unwrap();
    assert!(tex.contains("50\\% of \\ensuremath{\\mathdollar}x\\_i\\ensuremath{\\mathdollar} \\& \\#1 \\textbackslash{}end\\{document\\}"), "{tex}");
    let venue = Venue::Neurips;
    assert_eq!(
        tex,
        tex::figure(
            "fig",
            "50% of $x_i$ & #1 \\end{document} 日本. Hatched: no value. Colours are clipped at 0.3.",
            194.0,
            venue
        )
    );

    // what was drawn is drawn again from what was written, letter for letter, in one file or in several
    bench.ok(&[
        "plot",
        "fig.csv",
        "--view",
        "fig.toml",
        "-o",
        "again.svg",
        "-o",
        "again.pdf",
        "-o",
        "again.png",
    ]);
    for ending in ["svg", "pdf", "png"] {
        assert!(read(&format!("again.{ending}")) == read(&format!("fig.{ending}")), "{ending}");
    }
    // a flag changes the view
    bench.ok(&[
        "plot", "fig.csv", "--view", "fig.toml", "--venue", "icml", "--span", "full", "-o", "wide.svg",
    ]);
    assert!(String::from_utf8(read("wide.svg")).unwrap().contains("width=\"486pt\""));
    plot(&["-o", "shapes.pdf", "--text-as", "path"]);
    assert!(!String::from_utf8_lossy(&read("shapes.pdf")).contains("/FontFile2"));

    // what exists stays, unless it is said otherwise
    let said = bench.refused(1, &[&heat[..], &["-o", "new.svg", "-o", "fig.svg"]].concat());
    assert!(said.contains("fig.svg: it exists") && said.contains("--force"), "{said}");
    plot(&["-o", "fig.svg", "--force"]);
}

#[test]
fn mistakes_are_told_with_a_way_out() {
    let bench = Bench::new();
    bench.file("foreign.csv", FOREIGN);
    bench.file("view.toml", "kind = \"heatmap\"\nvalues = \"effect\"\n");
    bench.file("notes.txt", "x");
    let refused = |code: i32, words: &str| {
        let arguments: Vec<&str> = std::iter::once("plot").chain(words.split_whitespace()).collect();
        bench.refused(code, &arguments)
    };
    let heat = "foreign.csv --kind heatmap --x head --y layer --value effect";
    let cases: &[(i32, String, &[&str])] = &[
        (2, format!("{heat} -o fig.jpg"), &["not written as .jpg", ".svg, .pdf, .png, .csv, .toml, .tex"]),
        (2, format!("{heat} -o a.svg -o a.svg"), &["a.svg is asked for twice"]),
        (2, format!("{heat} -o folder/"), &["folder/ names a folder, not a figure", "-o figures/heads"]),
        (2, format!("{heat} -o foreign.csv --force"), &["foreign.csv is what the figure is drawn from"]),
        (2, "foreign.csv -o a.svg".into(), &["no `--kind`", "heatmap: ", "curve: "]),
        (
            2,
            heat.replace("heatmap", "heatmpa") + " -o a.svg",
            &["no kind of figure named `heatmpa`", "heatmap: "],
        ),
        (
            2,
            heat.replace("effect", "efect") + " -o a.svg",
            &["no column named `efect`", "did you mean `effect`?", "the table has layer, head"],
        ),
        (
            2,
            heat.replace("effect", "zzz") + " -o a.svg",
            &["no column named `zzz`", "the table has layer, head"],
        ),
        (
            2,
            heat.replace(" --value effect", "") + " -o a.svg",
            &["needs `value =", "add `--value COLUMN`", "the table has layer"],
        ),
        (
            1,
            format!("{heat} -o a.svg"),
            &["two rows of `foreign`", "differ in `kind` (a, b), `token` (", "--only kind=…", "--facet kind"],
        ),
        (1, heat.replace("--value effect", "--value token") + " -o a.svg", &["holds text, not numbers"]),
        (1, format!("{heat} --only kind=c -o a.svg"), &["nothing to draw", "kind = \"c\""]),
        (2, format!("{heat} --only kind -o a.svg"), &["`--only kind`", "--only site=z"]),
        (2, format!("{heat} --limits 1,-1 -o a.svg"), &["`limits` are 1 and -1"]),
        (2, format!("{heat} --limits 1 -o a.svg"), &["invalid value '1'", "--limits -0.5,0.5"]),
        (2, format!("{heat} --venue nips -o a.svg"), &["invalid value 'nips'", "neurips"]),
        (2, format!("{heat} --reference high -o a.svg"), &["--reference 0.5=chance"]),
        (2, format!("{heat} --series a,b -o a.svg"), &["one end of an interval"]),
        (2, "foreign.csv --view view.toml -o a.svg".into(), &["cannot be drawn", "values"]),
        (1, "notes.txt --kind bars -o a.svg".into(), &["neither CSV nor Parquet"]),
        (1, "none.csv --kind bars -o a.svg".into(), &["cannot read none.csv"]),
        (1, format!("{heat} -o no/where.svg"), &["cannot write no/where.svg"]),
        (2, format!("{heat} --only kind=a -o 50%"), &["cannot be called \"50%\""]),
    ];
    for (code, words, expected) in cases {
        let said = refused(*code, words);
        for words_said in *expected {
            assert!(said.contains(words_said), "{words}: {said}");
        }
    }
    let kinds = bench.ok(&["list", "figures", "--format", "csv"]);
    assert!(
        FIGURES
            .iter()
            .all(|figure| kinds.contains(figure.name)
                && kinds.contains(figure.about.split('`').next().unwrap()))
    );
}

/// Whether LaTeX is at hand; without it, a sentence and no test, unless `GLASSBOX_REQUIRE` names it.
fn latex() -> bool {
    let found =
        Command::new("pdflatex").arg("--version").output().is_ok_and(|output| output.status.success());
    let required = std::env::var("GLASSBOX_REQUIRE").is_ok_and(|words| words.contains("latex"));
    assert!(found || !required, "GLASSBOX_REQUIRE asks for LaTeX, and there is no pdflatex");
    if !found {
        println!("skipped: there is no pdflatex to compile figures with");
    }
    found
}

/// Compiles `<name>.tex` twice, so that references are known, and gives the log.
fn compiled(bench: &Bench, name: &str, text: &str) -> String {
    bench.file(&format!("{name}.tex"), text);
    for _ in 0..2 {
        let output = Command::new("pdflatex")
            .args(["-interaction=nonstopmode", "-halt-on-error", name])
            .current_dir(bench.folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    String::from_utf8_lossy(&fs::read(bench.path(&format!("{name}.log"))).unwrap()).into_owned()
}

/// A page as ACL sets it: two columns of 218.3 bp.
const PREAMBLE: &str = "\\documentclass[10pt,twocolumn]{article}\n\\usepackage[utf8]{inputenc}\n\\usepackage{graphicx}\n\
    \\setlength\\textwidth{453.5bp}\\setlength\\columnsep{16.9bp}\\setlength\\textheight{700bp}\n\
    \\setlength\\oddsidemargin{0bp}\\setlength\\topmargin{-40bp}\\frenchspacing\n";

#[test]
fn a_paper_takes_figures_and_numbers_as_they_are() {
    if !latex() {
        return;
    }
    let bench = bench();
    for name in ["patch_head", "lens_end", "attribution"] {
        let (csv, view) = (format!("run/figures/{name}.csv"), format!("run/figures/{name}.toml"));
        bench.ok(&["plot", &csv, "--view", &view, "--span", "col", "-o", &format!("{name}-col")]);
    }
    let macros = fs::read_to_string(bench.path("run/figures/macros.tex")).unwrap();
    let commands: Vec<&str> =
        macros.lines().filter_map(|line| line.strip_prefix("\\newcommand{")?.split('}').next()).collect();
    for known in [
        "\\gbN",
        "\\gbAccuracy",
        "\\gbLogitDiff",
        "\\gbLogitDiffCI",
        "\\gbTotalATwoHZero",
        "\\gbDirectATwoHZero",
    ] {
        assert!(commands.contains(&known), "{known} is missing from {commands:?}");
    }
    assert!(commands.iter().all(|command| command[1..].chars().all(|c| c.is_ascii_alphabetic())));
    let all: String = commands.iter().map(|command| format!("{command}, ")).collect();
    let paper = format!(
        "{PREAMBLE}\\graphicspath{{{{run/figures/}}}}\n\\input{{run/figures/macros}}\n\\begin{{document}}\n\
         \\input{{run/figures/direct_total}}\n\\input{{run/figures/attribution_head}}\n\\input{{patch_head-col}}\n\
         \\input{{lens_end-col}}\n\\input{{attribution-col}}\n\\input{{run/figures/components}}\n\
         On \\gbN\\ pairs the logit difference of \\gbModel\\ is \\gbLogitDiff\\ (95\\,\\% interval \\gbLogitDiffCI), and it \
         prefers the answer on a share of \\gbAccuracy. Head 2.0 has a total effect of $\\gbTotalATwoHZero$ \
         (Figure~\\ref{{fig:direct_total}}). All there is: {all}and no more.\n\\end{{document}}\n"
    );
    let log = compiled(bench, "paper", &paper);
    assert!(!log.contains("undefined") && !log.contains("Missing character"), "{log}");
    let wide: Vec<&str> = log.lines().filter(|line| line.starts_with("Overfull \\hbox")).collect();
    assert!(wide.is_empty(), "{wide:?}");
    if let Ok(fonts) = Command::new("pdffonts").arg(bench.path("paper.pdf")).output() {
        assert!(!String::from_utf8_lossy(&fonts.stdout).contains("Type 3"));
    }
}

#[test]
fn latex_sets_whatever_tokens_say() {
    if !latex() {
        return;
    }
    let bench = Bench::new();
    // every character up to the end of the symbols, in lines of sixteen, and some beyond
    let all: Vec<char> =
        (1..0x2800).chain([0x65e5, 0xfb01, 0xfeff, 0xfffd, 0x1f600]).filter_map(char::from_u32).collect();
    let lines: String =
        all.chunks(16).map(|line| tex::escape(&line.iter().collect::<String>()) + "\n\n").collect();
    let figure = tex::figure(
        "none",
        "\\end{document} $x_i$ 50% {a} ~^ \"``''\" --- ?` !` <<>> ,, 日本 \u{202e}",
        100.0,
        Venue::Acl,
    );
    let figure = figure.replace("\\includegraphics[width=100.0bp]{none.pdf}", "");
    let text = format!("{PREAMBLE}\\begin{{document}}\\sloppy\n{lines}{figure}\\end{{document}}\n");
    let log = compiled(&bench, "tokens", &text);
    assert!(!log.contains("Missing character"), "{log}");
    if let Ok(fonts) = Command::new("pdffonts").arg(bench.path("tokens.pdf")).output() {
        assert!(!String::from_utf8_lossy(&fonts.stdout).contains("Type 3"));
    }
}
