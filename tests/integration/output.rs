//! Run folders and files appear whole or not at all, and leave nothing behind.

use candle_core::{Device, Tensor};
use glassbox::Error;
use glassbox::output::{Folder, Manifest, Place, read_table, write_file_atomically, write_tensors};
use glassbox::row::{Column, Rows};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn at(out: &Path) -> Place<'_> {
    Place { out: Some(out), verb: "report", model: "textbook", ..Place::default() }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn sample() -> Rows {
    let cells = Column::Text(vec![Some("</script>\u{1b}[31m".into()), None]);
    Rows { name: "lens".into(), columns: vec![("token".into(), "the token".into(), cells)] }
}

#[test]
fn a_run_appears_whole_with_true_hashes() {
    let base = tempfile::tempdir().unwrap();
    let out = base.path().join("deep/er/run");
    let mut folder = Folder::create(&at(&out)).unwrap();
    folder.write("index.html", b"<p>").unwrap();
    folder.write("study.toml", b"a = 1").unwrap();
    folder.write("study.toml", b"a = 2").unwrap();
    folder.table(&sample()).unwrap();
    folder.figure("heads", &[("svg", b"<svg/>".to_vec()), ("png", b"png".to_vec())]).unwrap();
    let tensor = Tensor::new(&[1f64, 2.0], &Device::Cpu).unwrap();
    folder.tensors(&BTreeMap::from([("z".to_owned(), tensor)]), &BTreeMap::new()).unwrap();
    assert!(!out.exists());
    let mut manifest =
        Manifest { argv: vec!["glassbox".into(), "report".into()], seed: 7, ..Manifest::default() };
    manifest.more.insert("note".into(), f64::NAN.into());
    assert_eq!(folder.finish(&manifest).unwrap(), out);

    assert_eq!(names(out.parent().unwrap()), ["run"]);
    assert_eq!(
        names(&out),
        ["figures", "index.html", "manifest.json", "study.toml", "tables", "tensors.safetensors"]
    );
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["schema_version"], 1);
    assert_eq!(manifest["seed"], 7);
    assert!(manifest["note"].is_null() && manifest["wall_seconds"].is_number());
    for ending in ["csv", "parquet"] {
        let back = read_table(&out.join("tables/lens").with_extension(ending)).unwrap();
        assert_eq!((back.name.as_str(), &back.columns[0].2), ("lens", &sample().columns[0].2));
    }
    assert!(
        read_table(&out.join("manifest.json")).unwrap_err().to_string().contains("neither CSV nor Parquet")
    );
    let outputs = manifest["outputs"].as_array().unwrap();
    assert_eq!(outputs.len(), 7);
    for output in outputs {
        let bytes = fs::read(out.join(output["path"].as_str().unwrap())).unwrap();
        let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            (output["sha256"].as_str().unwrap(), output["bytes"].as_u64().unwrap()),
            (&*hash, bytes.len() as u64)
        );
    }
}

#[test]
fn nothing_is_overwritten_without_force() {
    let base = tempfile::tempdir().unwrap();
    let out = base.path().join("run/");
    let run = |force: bool, text: &str| {
        let mut folder = Folder::create(&Place { force, ..at(&out) })?;
        folder.write("text", text.as_bytes())?;
        folder.finish(&Manifest::default())
    };
    run(false, "old").unwrap();
    let refusal = run(false, "new").unwrap_err();
    assert!(refusal.to_string().contains("--force") && refusal.exit_code() == 1, "{refusal}");
    assert_eq!(fs::read(out.join("text")).unwrap(), b"old");

    let mut folder = Folder::create(&Place { force: true, ..at(&out) }).unwrap();
    folder.write("other", b"half").unwrap();
    drop(folder); // an error on the way: the old run is untouched
    assert_eq!(
        (names(base.path()), names(&out)),
        (vec!["run".to_owned()], vec!["manifest.json".into(), "text".into()])
    );

    run(true, "new").unwrap();
    assert_eq!(
        (names(base.path()), fs::read(out.join("text")).unwrap()),
        (vec!["run".to_owned()], b"new".to_vec())
    );

    // Force is for runs, not for somebody's folder.
    let home = base.path().join("home");
    fs::create_dir(&home).unwrap();
    Folder::create(&at(&home)).expect("an empty folder is free");
    fs::write(home.join("thesis.tex"), "").unwrap();
    let refusal = Folder::create(&Place { force: true, ..at(&home) }).unwrap_err();
    assert!(refusal.to_string().contains("glassbox did not write it"), "{refusal}");
    assert_eq!(names(&home), ["thesis.tex"]);
}

#[test]
fn unfinished_work_is_removed_or_continued() {
    let base = tempfile::tempdir().unwrap();
    let out = base.path().join("run");
    let partial = base.path().join("run.partial");

    let mut folder = Folder::create(&at(&out)).unwrap();
    folder.write("a/b", b"1").unwrap();
    let refusal = Folder::create(&at(&out)).unwrap_err();
    assert!(refusal.to_string().contains("another run is writing"), "{refusal}");
    drop(folder);
    assert_eq!(names(base.path()), [""; 0]);

    let mut folder = Folder::create(&at(&out)).unwrap();
    folder.keep_partial();
    folder.write("a/b", b"12").unwrap();
    folder.write(".glassbox-done", b"a/b").unwrap(); // what makes it work that can be continued
    fs::write(partial.join("a/.c.999.tmp"), b"half").unwrap(); // as a killed process leaves it
    drop(folder);
    assert!(partial.exists() && !out.exists());
    let refusal = Folder::create(&at(&out)).unwrap_err();
    assert!(refusal.to_string().contains("--resume continues it"), "{refusal}");

    let folder = Folder::create(&Place { resume: true, ..at(&out) }).unwrap();
    assert!(folder.resumed());
    assert_eq!((folder.read("a/b").unwrap().unwrap(), folder.read("c").unwrap()), (b"12".to_vec(), None));
    folder.finish(&Manifest::default()).unwrap();
    assert_eq!((names(base.path()), names(&out.join("a"))), (vec!["run".to_owned()], vec!["b".to_owned()]));
    let manifest = fs::read_to_string(out.join("manifest.json")).unwrap();
    assert!(manifest.contains("\"a/b\"") && manifest.contains("\"bytes\": 2"), "{manifest}");

    // Nothing to continue is no fault, so that a job may always say --resume.
    let other = base.path().join("other");
    assert!(!Folder::create(&Place { resume: true, ..at(&other) }).unwrap().resumed());
    // A folder that only looks like ours stays.
    let third = base.path().join("third.partial");
    fs::create_dir(&third).unwrap();
    fs::write(third.join("thesis.tex"), "").unwrap();
    let refusal = Folder::create(&at(&base.path().join("third"))).unwrap_err();
    assert!(refusal.to_string().contains("in the way"), "{refusal}");
    // A panic is an error too.
    let panicked = std::panic::catch_unwind(|| {
        let _folder = Folder::create(&at(&other)).unwrap();
        panic!("on the way");
    });
    assert!(panicked.is_err() && names(base.path()) == ["run", "third.partial"]);
}

#[test]
fn places_that_cannot_be_written() {
    let base = tempfile::tempdir().unwrap();
    let file = base.path().join("file");
    fs::write(&file, "").unwrap();
    for (out, says) in [
        (file.clone(), "it is a file"),
        (file.join("run"), "is a file, not a folder"),
        (base.path().join(".."), "does not name a folder"),
        (base.path().join("x".repeat(300)), "hint"),
        (Path::new("/proc/glassbox/run").to_owned(), "hint"),
    ] {
        let refusal = Folder::create(&at(&out)).unwrap_err().to_string();
        assert!(refusal.contains(says), "{refusal}");
    }
    let mut folder = Folder::create(&at(&base.path().join("run"))).unwrap();
    for path in ["../escape", "/etc/escape", "", "a/../../b"] {
        assert!(folder.write(path, b"").unwrap_err().to_string().contains("outside the run folder"));
    }
    folder.write("tables", b"").unwrap();
    assert!(matches!(folder.table(&sample()), Err(Error::File { .. })));
    drop(folder);
    assert_eq!(names(base.path()), ["file"]);
}

#[test]
fn single_files() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("acts.safetensors");
    let tensors = BTreeMap::from([("logits".to_owned(), Tensor::new(&[1f32], &Device::Cpu).unwrap())]);
    write_tensors(&path, &tensors, &BTreeMap::new(), false).unwrap();
    let refusal = write_file_atomically(&path, b"x", false).unwrap_err();
    assert!(refusal.to_string().contains("--force"), "{refusal}");
    let written = write_file_atomically(&path, b"x", true).unwrap();
    assert_eq!(written.sha256, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881");
    assert!(
        write_file_atomically(base.path(), b"x", true).unwrap_err().to_string().contains("it is a folder")
    );
    let refusal = write_file_atomically(&base.path().join("no/x"), b"x", true).unwrap_err();
    assert!(refusal.to_string().contains("does not exist"), "{refusal}");
    assert_eq!(names(base.path()), ["acts.safetensors"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said() {
    let full = Path::new("/dev/full");
    for bytes in [10, 1 << 20] {
        let refusal = write_file_atomically(full, &vec![0; bytes], true).unwrap_err();
        assert!(refusal.to_string().contains("the disk is full"), "{refusal}");
    }
    write_file_atomically(Path::new("/dev/null"), b"x", false).unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file(), "a device is written to, not replaced");
}
