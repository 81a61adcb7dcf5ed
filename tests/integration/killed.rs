//! A process that is killed, at whatever moment, leaves a whole output folder or only `<out>.partial`, which `--resume`
//! completes to the bytes of an uninterrupted run, without a batch done twice. One that meets a full disk says so and leaves
//! what it had finished, or nothing.
#![cfg(unix)]

use std::collections::BTreeSet;
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

/// A step of many small batches.
const SWEEP: [&str; 10] = [
    "patch",
    "--task",
    "ioi",
    "--n",
    "8",
    "by=[\"head-position\", \"position\"]",
    "direction=both",
    "--memory",
    "2MiB",
    "--quiet",
];
const JOURNAL: &str = "run.partial/.glassbox-journal";

/// The whole records of the unfinished run's journal as they stand in the file: behind a head of 48 bytes each has a key of 48
/// bytes, the count of its numbers, the numbers and 8 bytes to check them by.
fn records(bench: &Bench) -> Vec<Vec<u8>> {
    let bytes = fs::read(bench.path(JOURNAL)).unwrap_or_default();
    let mut rest = bytes.get(48..).unwrap_or_default();
    let mut records = Vec::new();
    while let Some(n) = rest.get(48..56) {
        let size = 64 + 8 * u64::from_le_bytes(n.try_into().unwrap()) as usize;
        let Some((record, behind)) = rest.split_at_checked(size) else { break };
        records.push(record.to_vec());
        rest = behind;
    }
    records
}

fn begin(bench: &Bench, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_glassbox"))
        .args(arguments)
        .args(["--out", "run", "--resume"])
        .current_dir(bench.folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_sweep_killed_again_and_again_loses_no_batch_and_does_none_twice() {
    let bench = Bench::new();
    bench.ok(&[&SWEEP[..], &["--out", "whole"]].concat());
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let mut kills = 0;
    for more in [1, 1, 2, 3, 5, 8, 13] {
        let child = begin(&bench, &SWEEP);
        let killed = kill(child, || records(&bench).len() >= kept.len() + more);
        let now = records(&bench);
        if !killed || now.is_empty() {
            break; // it came to its end, or at least to that of the sweeps
        }
        kills += 1;
        assert!(now.starts_with(&kept), "what was noted stands");
        let keys: BTreeSet<&[u8]> = now.iter().map(|record| &record[..48]).collect();
        assert_eq!(keys.len(), now.len(), "a batch was done twice");
        kept = now;
        if more == 2 {
            // a kill in the middle of a write: the last record is torn, and its batch alone is done again
            let file = fs::File::options().write(true).open(bench.path(JOURNAL)).unwrap();
            file.set_len(file.metadata().unwrap().len() - 3).unwrap();
            kept.pop();
        }
    }
    assert!(kills >= 5, "{kills} runs were killed in time");
    let aloud: Vec<&str> = SWEEP.iter().copied().filter(|word| *word != "--quiet").collect();
    let output = begin(&bench, &aloud).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("went on after {} finished batch(es)", kept.len())), "{said}");
    assert_eq!(names(bench.folder.path()), ["run", "whole"]);
    assert_eq!(bench.files("run"), bench.files("whole"));
    assert_eq!(outputs(&bench, "run"), outputs(&bench, "whole"));
    assert!(!names(&bench.path("run")).iter().any(|name| name.starts_with('.')));
}

#[test]
fn a_sweep_that_is_interrupted_keeps_its_batches_for_the_same_settings() {
    let bench = Bench::new();
    let mut child = begin(&bench, &SWEEP);
    while records(&bench).len() < 3 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be interrupted");
        std::thread::sleep(Duration::from_micros(200));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    let kept = records(&bench).len();
    assert!(said.contains(&format!("{kept} batch(es)")) && said.contains("--resume"), "{said}");
    let with = |more: &[&'static str]| [&SWEEP[..], &["--out", "run"], more].concat();
    assert!(bench.refused(1, &with(&[])).contains("--resume"));
    for (own, other) in [("2MiB", "3MiB"), ("8", "9"), ("direction=both", "direction=noise")] {
        let mut other: Vec<&str> =
            with(&["--resume"]).iter().map(|&w| if w == own { other } else { w }).collect();
        let said = bench.refused(2, &other);
        other.retain(|word| *word != "--resume");
        assert!(bench.refused(1, &other).contains("--resume"));
        assert!(said.contains("--force"), "{said}");
        assert_eq!(records(&bench).len(), kept);
    }
    bench.ok(&with(&["--resume"]));
    bench.ok(&[&SWEEP[..], &["--out", "whole"]].concat());
    assert_eq!(bench.files("run"), bench.files("whole"));
}

#[test]
fn a_disk_that_fills_up_in_a_sweep_keeps_what_was_finished() {
    let bench = Bench::new();
    let words: Vec<String> = SWEEP.iter().map(|word| format!("'{word}'")).collect();
    let line = format!(
        "trap '' XFSZ; ulimit -f 16; exec '{}' {} --out run", // 16 blocks: 8 or 16 kB
        env!("CARGO_BIN_EXE_glassbox"),
        words.join(" ")
    );
    let output = Command::new("sh").args(["-c", &line]).current_dir(bench.folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write") && said.contains("files may not grow"), "{said}");
    assert!(said.contains("--resume goes on from there"), "{said}");
    assert!(!records(&bench).is_empty());
    bench.ok(&[&SWEEP[..], &["--out", "run", "--resume"]].concat());
    bench.ok(&[&SWEEP[..], &["--out", "whole"]].concat());
    assert_eq!(bench.files("run"), bench.files("whole"));
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
fn a_write_that_fails_midway_is_said_and_leaves_finished_steps_or_nothing() {
    let bench = Bench::new();
    let program = env!("CARGO_BIN_EXE_glassbox");
    let limited = |command: &str| {
        let line = format!("trap '' XFSZ; ulimit -f 16; exec {program} {command}"); // 16 blocks: 8 or 16 kB
        Command::new("sh").args(["-c", &line]).current_dir(bench.folder.path()).output().unwrap()
    };
    for (command, left) in [
        ("report --quiet --task ioi --n 8 --out run", &["run.partial"][..]),
        ("lens --quiet --task ioi --n 8 --out run", &[]),
        ("record --quiet --task ioi --n 2 --sites all -o all.safetensors", &[]),
    ] {
        let output = limited(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        assert!(
            said.contains("cannot write") && said.contains("hint: files may not grow"),
            "{command}: {said}"
        );
        assert!(output.stdout.is_empty());
        assert_eq!(names(bench.folder.path()), left, "{command}");
        if !left.is_empty() {
            assert!(said.contains("--resume goes on from there"), "{said}");
            bench.ok(&command.split(' ').chain(["--resume"]).collect::<Vec<_>>());
            fs::remove_dir_all(bench.path("run")).unwrap();
        }
    }
}
