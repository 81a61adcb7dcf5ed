//! The journal of a long run: what its sweeps have finished of the step in flight, so that a killed process loses only the
//! batch it was at.
//!
//! ```text
//! head     run, 32 bytes | step, u64 | check                     whose journal it is: one that another run left is refused
//! record   plan, 32 bytes | turn, u64 | batch, u64 | n, u64 | n × f64 | check
//! ```
//!
//! Numbers are little-endian and keep every bit; `check` is the first 8 bytes of the sha256 of what it closes. The file is only
//! ever appended to. A record that a kill or a full disk tore ends the journal, and the next is written over it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::atomic::failed;
use crate::error::{Error, Result};
use crate::lab::{self, Key};

/// Bytes of what is written before the numbers of a record, and of a check.
const FRONT: usize = 32 + 8 + 8 + 8;
const CHECK: usize = 8;
const HEAD: usize = 32 + 8 + CHECK;
/// A power cut may lose this much of the work; a kill loses none of it, for the system has it already.
const UNSYNCED: Duration = Duration::from_secs(1);

/// A journal beside the outputs of a run. Its file is made with the first note and removed with the step it belongs to.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    head: Vec<u8>,
    file: Option<File>,
    /// Where the last whole record ends.
    end: u64,
    /// Where the numbers of a batch begin, and how many they are.
    places: BTreeMap<Key, (u64, u64)>,
    /// How many sweeps of each plan were begun in this step.
    turns: BTreeMap<[u8; 32], u64>,
    synced: Option<Instant>,
    found: usize,
}

impl Journal {
    pub(super) fn at(path: PathBuf) -> Journal {
        Journal { path, state: Mutex::default() }
    }

    /// Begins a step of the run that this digest describes: all on which its numbers depend. What an earlier process noted of the
    /// same step is there to be read; a journal of another run is an error, one of an earlier step of no more use.
    pub fn begin_step(&self, run: &[u8; 32], step: u64) -> Result<()> {
        let mut state = self.state();
        let mut head = [run.as_slice(), &step.to_le_bytes()].concat();
        head.extend(check(&head));
        *state = State { head, found: state.found, ..State::default() };
        let read = |e: io::Error| failed("read", &self.path, &e);
        let file = match File::options().read(true).write(true).open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(read(e)),
        };
        let size = file.metadata().map_err(read)?.len();
        let mut from = BufReader::new(&file);
        let mut head = [0; HEAD];
        match from.read_exact(&mut head) {
            Ok(()) if closed(&head) => {}
            // torn before it held anything
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(e) => return Err(read(e)),
        }
        if !head.starts_with(run) {
            return Err(Error::usage(
                "the unfinished work was begun with other settings: another study, model, prompts, `--memory` or version of \
                 glassbox",
                "--resume continues with the same; --force drops it and starts again",
            ));
        }
        if head.as_slice() != state.head {
            return Ok(());
        }
        state.end = HEAD as u64;
        while let Some((key, n)) = record(&mut from, size - state.end).map_err(read)? {
            let begin = state.end + FRONT as u64;
            state.places.insert(key, (begin, n));
            state.end = begin + 8 * n + CHECK as u64;
        }
        file.set_len(state.end).map_err(|e| failed("write", &self.path, &e))?;
        state.found += state.places.len();
        state.file = Some(file);
        Ok(())
    }

    /// The step is done and written elsewhere: what was noted of it is of no more use.
    pub fn end_step(&self) -> Result<()> {
        let mut state = self.state();
        *state = State { found: state.found, ..State::default() };
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(failed("remove", &self.path, &e)),
            _ => Ok(()),
        }
    }

    /// How many batches of the step in flight are noted.
    pub fn noted(&self) -> usize {
        self.state().places.len()
    }

    /// How many batches an earlier process had noted of the steps begun so far.
    pub fn found(&self) -> usize {
        self.state().found
    }

    /// Puts what is noted beyond the reach of a power cut.
    pub(super) fn sync(&self) -> Result<()> {
        let state = self.state();
        state.file.as_ref().map_or(Ok(()), File::sync_data).map_err(|e| failed("write", &self.path, &e))
    }

    /// A thread that panicked between two steps of a note left no half of it: `end` moves last.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl lab::Journal for Journal {
    fn begin(&self, plan: &[u8; 32]) -> u64 {
        let mut state = self.state();
        let turns = state.turns.entry(*plan).or_insert(0);
        *turns += 1;
        *turns - 1
    }

    fn read(&self, key: &Key) -> Result<Option<Vec<f64>>> {
        let state = self.state();
        let (Some(&(begin, n)), Some(mut file)) = (state.places.get(key), state.file.as_ref()) else {
            return Ok(None);
        };
        let mut bytes = vec![0; 8 * n as usize];
        file.seek(SeekFrom::Start(begin))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| failed("read", &self.path, &e))?;
        let (numbers, _) = bytes.as_chunks();
        Ok(Some(numbers.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect()))
    }

    fn note(&self, key: &Key, numbers: &[f64]) -> Result<()> {
        let mut state = self.state();
        state.append(&self.path, key, numbers).map_err(|e| {
            state.mend(&self.path);
            failed("write", &self.path, &e)
        })
    }
}

impl State {
    fn append(&mut self, path: &Path, key: &Key, numbers: &[f64]) -> io::Result<()> {
        let n = numbers.len() as u64;
        let mut record = Vec::with_capacity(FRONT + 8 * numbers.len() + CHECK);
        record.extend(key.plan);
        [key.turn, key.batch, n].iter().for_each(|word| record.extend(word.to_le_bytes()));
        numbers.iter().for_each(|number| record.extend(number.to_le_bytes()));
        record.extend(check(&record));
        if self.file.is_none() {
            // in one write with the first record: a head alone would be a journal of nothing
            record.splice(0..0, self.head.iter().copied());
            self.file = Some(File::options().read(true).write(true).create(true).truncate(true).open(path)?);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.seek(SeekFrom::Start(self.end))?;
        file.write_all(&record)?;
        let end = self.end + record.len() as u64;
        if self.synced.get_or_insert_with(Instant::now).elapsed() > UNSYNCED {
            file.sync_data()?;
            self.synced = Some(Instant::now());
        }
        self.end = end;
        self.places.insert(key.clone(), (end - (8 * numbers.len() + CHECK) as u64, n));
        Ok(())
    }

    /// Takes away what was written of a record that did not fit; where that fails too, it is a torn one.
    fn mend(&mut self, path: &Path) {
        if self.places.is_empty() {
            self.file = None;
            fs::remove_file(path).unwrap_or_default();
        } else if let Some(file) = &self.file {
            file.set_len(self.end).unwrap_or_default();
        }
    }
}

/// The next whole record, of which at most `left` bytes can be there.
fn record(from: &mut impl Read, left: u64) -> io::Result<Option<(Key, u64)>> {
    let whole = |read: io::Result<()>| match read {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    };
    let mut front = [0; FRONT];
    if !whole(from.read_exact(&mut front))? {
        return Ok(None);
    }
    let (plan, rest) = front.split_at(32);
    let [turn, batch, n] = words(rest);
    let Ok(plan) = plan.try_into() else { return Ok(None) };
    let size = n.checked_mul(8).and_then(|size| size.checked_add(CHECK as u64));
    let Some(size) = size.filter(|&size| size <= left.saturating_sub(FRONT as u64)) else { return Ok(None) };
    let mut bytes = front.to_vec();
    bytes.resize(FRONT + size as usize, 0);
    if !whole(from.read_exact(bytes.split_at_mut(FRONT).1))? || !closed(&bytes) {
        return Ok(None);
    }
    Ok(Some((Key { plan, turn, batch }, n)))
}

/// Three numbers, one after the other.
fn words(bytes: &[u8]) -> [u64; 3] {
    let (words, _) = bytes.as_chunks();
    std::array::from_fn(|i| words.get(i).map_or(0, |&word| u64::from_le_bytes(word)))
}

fn check(bytes: &[u8]) -> [u8; CHECK] {
    let mut check = [0; CHECK];
    check.iter_mut().zip(Sha256::digest(bytes)).for_each(|(to, from)| *to = from);
    check
}

/// Whether these bytes end with the check of what comes before it.
fn closed(bytes: &[u8]) -> bool {
    bytes.split_last_chunk::<CHECK>().is_some_and(|(all, found)| check(all) == *found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Journal as _;

    const RUN: [u8; 32] = [7; 32];

    fn key(batch: u64) -> Key {
        Key { plan: [3; 32], turn: batch % 2, batch }
    }

    /// Every bit of a number counts: those of a NaN, and the sign of zero.
    fn numbers(batch: u64) -> Vec<f64> {
        let odd = [f64::from_bits(0x7ff8_0000_dead_beef), -0.0, f64::NEG_INFINITY, 1e-310];
        odd.into_iter().chain((0..batch).map(|i| 0.1 * i as f64)).skip(batch as usize % 3).collect()
    }

    fn bits(numbers: Option<Vec<f64>>) -> Option<Vec<u64>> {
        numbers.map(|numbers| numbers.into_iter().map(f64::to_bits).collect())
    }

    fn begun(path: &Path) -> Journal {
        let journal = Journal::at(path.to_owned());
        journal.begin_step(&RUN, 4).unwrap();
        journal
    }

    #[test]
    fn a_journal_cut_off_at_any_byte_holds_its_whole_records_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = begun(&path);
        let mut ends = vec![HEAD as u64];
        assert!(!path.exists(), "nothing was noted yet");
        for batch in 0..3 {
            journal.note(&key(batch), &numbers(batch)).unwrap();
            ends.push(fs::metadata(&path).unwrap().len());
        }
        let whole = fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            for rubbish in [&[][..], &[0; 90], &[0xff; 90]] {
                fs::write(&path, [&whole[..cut], rubbish].concat()).unwrap();
                let journal = begun(&path);
                let kept = ends.iter().skip(1).filter(|&&end| end <= cut as u64).count();
                assert_eq!((journal.noted(), journal.found()), (kept, kept), "cut at {cut}");
                for batch in 0..3 {
                    let read = bits(journal.read(&key(batch)).unwrap());
                    assert_eq!(read, bits(Some(numbers(batch))).filter(|_| batch < kept as u64));
                    if read.is_none() {
                        journal.note(&key(batch), &numbers(batch)).unwrap();
                        assert_eq!(bits(journal.read(&key(batch)).unwrap()), bits(Some(numbers(batch))));
                    }
                }
                assert!(fs::read(&path).unwrap() == whole, "cut at {cut}, gone on");
            }
        }
    }

    #[test]
    fn a_byte_that_changed_takes_its_record_and_those_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = begun(&path);
        (0..3).for_each(|batch| journal.note(&key(batch), &numbers(batch)).unwrap());
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x10;
            fs::write(&path, &changed).unwrap();
            let journal = begun(&path);
            assert!(journal.noted() < 3);
            for batch in 0..3 {
                let read = bits(journal.read(&key(batch)).unwrap());
                assert!(read.is_none() || read == bits(Some(numbers(batch))), "byte {at}");
            }
        }
    }

    #[test]
    fn a_journal_serves_its_own_run_and_step_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = begun(&path);
        assert_eq!([journal.begin(&[1; 32]), journal.begin(&[2; 32]), journal.begin(&[1; 32])], [0, 0, 1]);
        journal.note(&key(0), &numbers(0)).unwrap();
        let other = Journal::at(path.clone());
        let refused = other.begin_step(&[8; 32], 4).unwrap_err().to_string();
        assert!(refused.contains("--force") && path.exists(), "{refused}");
        other.begin_step(&RUN, 5).unwrap();
        assert_eq!((other.noted(), other.begin(&[1; 32])), (0, 0));
        other.note(&key(1), &numbers(1)).unwrap();
        assert_eq!((other.noted(), bits(other.read(&key(0)).unwrap())), (1, None));
        other.end_step().unwrap();
        assert!(!path.exists());
        other.end_step().unwrap();
    }

    #[test]
    fn a_journal_that_cannot_be_written_says_where() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/journal");
        let said = begun(&path).note(&key(0), &[1.0]).unwrap_err().to_string();
        assert!(said.contains("cannot write") && said.contains("missing"), "{said}");
    }
}
