//! The ecosystem's cache of models: which snapshot of a repository a revision means.
//!
//! ```text
//! models--OWNER--NAME/refs/REVISION            the commit that a branch or tag was at when it was fetched
//! models--OWNER--NAME/snapshots/COMMIT/FILE    → ../../blobs/ETAG
//! models--OWNER--NAME/blobs/ETAG
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::id::{Id, MAIN};
use crate::checkpoint::{CONFIG, shards, tokenizer};

/// A model's files at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) path: PathBuf,
    pub(super) commit: String,
    /// Whether it is taken for want of a reference: the newest there is.
    pub(super) guessed: bool,
}

impl Snapshot {
    /// Whether config and weights are all there.
    pub(super) fn can_open(&self) -> bool {
        self.path.join(CONFIG).is_file() && shards::files(&self.path).is_ok()
    }

    /// Whether the tokenizer is there, too.
    pub(super) fn is_whole(&self) -> bool {
        self.can_open() && !tokenizer::files(&self.path).is_empty()
    }
}

/// The folder of a repository.
pub(super) fn folder(cache: &Path, name: &str) -> PathBuf {
    cache.join(format!("models--{}", name.replace('/', "--")))
}

/// Whether a word is a commit rather than a branch or tag.
pub(super) fn is_commit(word: &str) -> bool {
    word.len() == 40 && word.chars().all(|c| c.is_ascii_hexdigit())
}

/// The snapshot that an id means: the revision's own, or, where none was asked for and no reference leads to one, the newest
/// that can be opened. Never another than a revision that was asked for: it may be another step of a training.
pub(super) fn find(cache: &Path, id: &Id) -> Option<Snapshot> {
    let folders = || id.names.iter().map(|name| folder(cache, name));
    let named = |folder: PathBuf| {
        let revision = id.revision.as_deref().unwrap_or(MAIN);
        let commit = match is_commit(revision) {
            true => revision.to_owned(),
            // references that were written by hand end in a newline
            false => fs::read_to_string(folder.join("refs").join(revision)).ok()?.trim().to_owned(),
        };
        let path = folder.join("snapshots").join(&commit);
        let inside = is_commit(&commit) && path.join(CONFIG).is_file();
        inside.then_some(Snapshot { path, commit, guessed: false })
    };
    let named = folders().find_map(named);
    if named.is_some() || id.revision.is_some() {
        return named;
    }
    folders().find_map(|folder| newest(&folder))
}

/// The newest snapshot that no reference names: one that some other branch or tag leads to is not what was asked for.
fn newest(folder: &Path) -> Option<Snapshot> {
    let taken = references(&folder.join("refs"));
    let entries = fs::read_dir(folder.join("snapshots")).ok()?.flatten();
    let snapshots = entries.filter_map(|entry| {
        let commit = entry.file_name().to_string_lossy().into_owned();
        let written = entry.metadata().and_then(|about| about.modified()).ok()?;
        let snapshot = Snapshot { path: entry.path(), commit, guessed: true };
        let free = is_commit(&snapshot.commit) && !taken.contains(&snapshot.commit);
        (free && snapshot.can_open()).then_some((written, snapshot))
    });
    snapshots.max_by(|a, b| (a.0, &a.1.commit).cmp(&(b.0, &b.1.commit))).map(|(_, snapshot)| snapshot)
}

/// The commits that references in a folder, and below it, lead to.
fn references(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let commits = |path: PathBuf| match path.is_dir() {
        true => references(&path),
        false => fs::read_to_string(path).into_iter().map(|text| text.trim().to_owned()).collect(),
    };
    entries.flat_map(commits).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    const OLD: &str = "0123456789abcdef0123456789abcdef01234567";
    const NEW: &str = "89abcdef0123456789abcdef0123456789abcdef";

    fn cache() -> tempfile::TempDir {
        let cache = tempfile::tempdir().unwrap();
        let folder = folder(cache.path(), "some/model");
        for (commit, age) in [(OLD, 100), (NEW, 10)] {
            let snapshot = folder.join("snapshots").join(commit);
            fs::create_dir_all(&snapshot).unwrap();
            fs::write(snapshot.join(CONFIG), "{}").unwrap();
            fs::write(snapshot.join("model.safetensors"), "").unwrap();
            let then = SystemTime::now() - Duration::from_secs(age);
            fs::File::open(&snapshot).unwrap().set_modified(then).unwrap();
        }
        fs::create_dir_all(folder.join("refs/refs/pr")).unwrap();
        cache
    }

    fn refer(cache: &tempfile::TempDir, revision: &str, text: &str) {
        fs::write(folder(cache.path(), "some/model").join("refs").join(revision), text).unwrap();
    }

    fn found(cache: &tempfile::TempDir, word: &str) -> Option<(String, bool)> {
        find(cache.path(), &Id::parse(word).unwrap()).map(|snapshot| (snapshot.commit, snapshot.guessed))
    }

    #[test]
    fn references_lead_to_snapshots() {
        let cache = cache();
        refer(&cache, "main", &format!("{OLD}\n"));
        refer(&cache, "step3000", NEW);
        refer(&cache, "refs/pr/1", NEW);
        refer(&cache, "gone", &OLD.replace('0', "f"));
        refer(&cache, "outside", "../../../etc");
        assert_eq!(found(&cache, "some/model"), Some((OLD.into(), false)));
        assert_eq!(found(&cache, "some/model@main"), Some((OLD.into(), false)));
        assert_eq!(found(&cache, "some/model@step3000"), Some((NEW.into(), false)));
        assert_eq!(found(&cache, "some/model@refs/pr/1"), Some((NEW.into(), false)));
        assert_eq!(found(&cache, &format!("some/model@{NEW}")), Some((NEW.into(), false)));
        for absent in ["some/model@step4000", "some/model@gone", "some/model@outside", "other/model"] {
            assert_eq!(found(&cache, absent), None, "{absent}");
        }
    }

    #[test]
    fn without_a_reference_the_newest_snapshot_that_can_be_opened_is_a_guess() {
        let cache = cache();
        assert_eq!(found(&cache, "some/model"), Some((NEW.into(), true)));
        let newest = folder(cache.path(), "some/model").join("snapshots").join(NEW);
        fs::remove_file(newest.join("model.safetensors")).unwrap();
        assert_eq!(found(&cache, "some/model"), Some((OLD.into(), true)));
    }

    #[test]
    fn a_model_with_two_names_is_found_under_either() {
        let cache = tempfile::tempdir().unwrap();
        let snapshot = folder(cache.path(), "openai-community/gpt2").join("snapshots").join(OLD);
        fs::create_dir_all(&snapshot).unwrap();
        fs::write(snapshot.join(CONFIG), "{}").unwrap();
        assert_eq!(found(&cache, &format!("gpt2-small@{OLD}")), Some((OLD.into(), false)));
    }
}
