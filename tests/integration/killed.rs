//! A process that is killed, at whatever moment, leaves a whole output folder or only `<out>.partial`, which `--resume`
//! completes to the bytes of an uninterrupted run. One that meets a full disk says so and leaves nothing.
#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use glassbox::output::{Folder, Manifest, Place};

use crate::command::Bench;

const REPORT: [&str; 8] = ["report", "--quiet", "--task", "ioi", "--n", "8", "--seed", "3"];
const PROGRESS: &str = "run.partial/.glassbox-progress.json";

/// Begins or continues the run `run`.
fn start(bench: &Bench) -> Child {
    Command::new(env!("CARGO_BIN_EXE_glassbox"))
        .args(REPORT)
        .args(["--out", "run", "--resume"])
        .current_dir(bench.folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills a run as soon as `when`, and says whether it had not ended by itself before.
fn kill(mut child: Child, when: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !when() && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the run neither ended nor came so far");
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().unwrap(); // SIGKILL: nothing of the program runs after it
    !child.wait().unwrap().success()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn outputs(bench: &Bench, run: &str) -> serde_json::Value {
    let text = fs::read_to_string(bench.path(run).join("manifest.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["outputs"].take()
}

/// How many steps the unfinished run has done.
fn steps(bench: &Bench) -> usize {
    let Ok(text) = fs::read_to_string(bench.path(PROGRESS)) else { return 0 };
    let progress: serde_json::Value = serde_json::from_str(&text).expect("a whole file, whenever it is read");
    progress["steps"].as_array().unwrap().len()
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let bench = Bench::new();
    let there = |name: &str| bench.path("run.partial").join(name).exists();
    let (mut killed, mut kept) = (0, Vec::new());
    let mut attempt = |when: &dyn Fn() -> bool| {
        if bench.path("run").exists() {
            return;
        }
        let before = steps(&bench);
        killed += usize::from(kill(start(&bench), when));
        if bench.path("run").exists() {
            return;
        }
        assert_eq!(names(bench.folder.path()), ["run.partial"], "nothing but the unfinished folder");
        // the manifest is written last; after it, the list of what is done goes before the folder is renamed
        let whole = there("manifest.json");
        assert!(whole || steps(&bench) >= before, "a step that was done is done again");
        kept.push(steps(&bench));
    };
    attempt(&|| there("")); // the folder alone, perhaps without its marker
    attempt(&|| there(".glassbox"));
    attempt(&|| there("tables")); // a step's tables without the list that says it is done
    for done in 1..=5 {
        attempt(&|| steps(&bench) >= done);
    }
    attempt(&|| there("tables/examples_patch_head.parquet"));
    attempt(&|| steps(&bench) >= 6); // while the pictures are drawn
    attempt(&|| there("figures/components.svg"));
    attempt(&|| there("index.html"));
    attempt(&|| there("study.toml"));
    attempt(&|| there("manifest.json"));
    assert!(killed >= 8, "{killed} runs were killed in time");
    assert!(kept.contains(&0) && kept.iter().any(|&steps| steps >= 5), "{kept:?}");
    if !bench.path("run").exists() {
        bench.ok(&[&REPORT[..], &["--out", "run", "--resume"]].concat());
    }
    bench.ok(&[&REPORT[..], &["--out", "whole"]].concat());
    assert_eq!(names(bench.folder.path()), ["run", "whole"]);
    assert_eq!(bench.files("run"), bench.files("whole"));
    assert_eq!(outputs(&bench, "run"), outputs(&bench, "whole"));
    assert!(!names(&bench.path("run")).iter().any(|name| name.starts_with('.')));
}

/// The states that a kill in the wrong microsecond leaves, made by hand: before the marker is written, between the removal
/// of the marker and the renaming of the finished folder, and while an unfinished one was being cleared away.
#[test]
fn no_moment_leaves_a_folder_that_nothing_can_continue() {
    let base = tempfile::tempdir().unwrap();
    let (out, partial) = (base.path().join("run"), base.path().join("run.partial"));
    let place = |resume, force| Place { out: Some(&out), verb: "report", resume, force, ..Place::default() };
    let left = |files: &[(&str, &str)]| {
        fs::create_dir(&partial).unwrap();
        files.iter().for_each(|(name, text)| fs::write(partial.join(name), text).unwrap());
    };
    let begun = [(".glassbox", ""), ("study.toml", "old")]; // or cleared away by half
    let whole = [("manifest.json", "{}"), ("study.toml", "old")];
    for (files, waits) in [(&[][..], false), (&begun, false), (&whole, true)] {
        left(files);
        let plain = Folder::create(&place(false, false));
        if waits {
            assert!(plain.unwrap_err().to_string().contains("--resume"), "{files:?}");
        } else {
            drop(plain.unwrap());
            left(files);
        }
        for force in [false, true] {
            let mut folder = Folder::create(&place(!force, force)).unwrap();
            assert!(!folder.resumed(), "there is nothing it could be continued from: it begins anew");
            assert_eq!(names(&partial), [".glassbox"], "{files:?}");
            folder.write(".glassbox-progress.json", b"{}").unwrap();
            folder.write("study.toml", b"new").unwrap();
            folder.finish(&Manifest::default()).unwrap();
            assert_eq!(names(base.path()), ["run"]);
            assert_eq!(names(&out), ["manifest.json", "study.toml"]);
            fs::remove_dir_all(&out).unwrap();
            if !force {
                left(files);
            }
        }
    }
    // what it was to be continued from is still there: it is
    left(&[("manifest.json", "{}"), ("study.toml", "old"), (".glassbox-progress.json", "{}")]);
    let folder = Folder::create(&place(true, false)).unwrap();
    assert!(folder.resumed() && folder.read("study.toml").unwrap().is_some());
    folder.finish(&Manifest::default()).unwrap();
    assert_eq!(names(&out), ["manifest.json", "study.toml"]);
    fs::remove_dir_all(&out).unwrap();
    // an error, as opposed to a kill, removes what it could have gone on from
    let mut folder = Folder::create(&place(false, false)).unwrap();
    folder.write(".glassbox-progress.json", b"{}").unwrap();
    drop(folder);
    assert_eq!(names(base.path()), [""; 0]);
}

/// A limit on the size of files stands in for a full disk: the write that meets it fails in the middle of the run.
#[cfg(target_os = "linux")]
#[test]
fn a_write_that_fails_midway_is_said_and_leaves_nothing() {
    let bench = Bench::new();
    let program = env!("CARGO_BIN_EXE_glassbox");
    let limited = |command: &str| {
        let line = format!("trap '' XFSZ; ulimit -f 16; exec {program} {command}"); // 16 blocks: 8 or 16 kB
        Command::new("sh").args(["-c", &line]).current_dir(bench.folder.path()).output().unwrap()
    };
    for command in [
        "report --quiet --task ioi --n 8 --out run",
        "lens --quiet --task ioi --n 8 --out run",
        "record --quiet --task ioi --n 2 --sites all -o all.safetensors",
    ] {
        let output = limited(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        assert!(
            said.contains("cannot write") && said.contains("hint: files may not grow"),
            "{command}: {said}"
        );
        assert!(output.stdout.is_empty());
        assert_eq!(names(bench.folder.path()), [""; 0], "{command}");
    }
}
