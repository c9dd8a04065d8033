//! The undo journal, `journal.jsonl` in the run's folder: what will have to be undone is on disk before it is done. Plain JSON lines,
//! each flushed to the disk before the call returns; the last may be torn. It holds no secret. While its run lives it is locked.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Undo;
use crate::cluster::{Applied, Impersonation};
use crate::names::Name;
use crate::time::wall_now;

/// The journal's name in a run's folder.
pub const FILE: &str = "journal.jsonl";

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Wall time, ISO 8601 in UTC.
    pub at: String,
    pub entry: Entry,
}

/// What is written down. Intentions come before the deed, the rest after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    RunStarted {
        run: String,
        pid: u32,
        seed: u64,
    },
    /// An embedded cluster was started in this process, and dies with it.
    Sandbox(SandboxLine),
    /// The cluster that the following entries are about.
    Cluster(ClusterLine),
    /// These are about to be made.
    Manifests {
        objects: Vec<Applied>,
    },
    ManifestsRemoved,
    /// This fault is about to be injected.
    Intent {
        fault: Name,
        kind: String,
        spec: Value,
        undos: Vec<Undo>,
    },
    /// It is about to touch more.
    More {
        fault: Name,
        undos: Vec<Undo>,
    },
    Applied {
        fault: Name,
    },
    Healed {
        fault: Name,
        proof: String,
    },
    HealingFailed {
        fault: Name,
        reason: String,
    },
    SandboxStopped {
        id: String,
    },
    /// Everything above is undone and proven.
    Closed,
}

/// Enough to find what is left of an embedded cluster: whether its holder lives is written in its folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SandboxLine {
    pub id: String,
    pub dir: PathBuf,
    /// Where its API listened.
    pub api: String,
}

/// Enough to find a cluster again, without its credentials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterLine {
    pub server: String,
    pub context: Option<String>,
    /// `$KUBECONFIG` as it was.
    pub kubeconfig: Option<String>,
    /// As whom the run spoke to it, where not as itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impersonation: Option<Impersonation>,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} cannot be {doing}: {source}", path.display())]
    File { path: PathBuf, doing: &'static str, source: std::io::Error },
    /// Its run still lives.
    #[error("{} is in use{}; stop that run first (Ctrl-C heals)", path.display(), pid.map(|p| format!(" by process {p}")).unwrap_or_default())]
    Alive { path: PathBuf, pid: Option<u32> },
}

/// A journal that this process holds.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    tail: Mutex<Tail<File>>,
}

/// The end of a file that grows by whole lines only.
#[derive(Debug)]
struct Tail<D> {
    disk: D,
    /// Bytes of whole lines.
    whole: u64,
    /// Why nothing can be written any more.
    spoilt: Option<String>,
}

/// What a journal lies on.
trait Disk: Write {
    fn cut(&mut self, bytes: u64) -> std::io::Result<()>;
    /// Returns when everything is on the disk.
    fn sync(&mut self) -> std::io::Result<()>;
}

impl Disk for File {
    fn cut(&mut self, bytes: u64) -> std::io::Result<()> {
        self.set_len(bytes)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.sync_data()
    }
}

impl<D: Disk> Tail<D> {
    fn new(disk: D, whole: u64) -> Tail<D> {
        Tail { disk, whole, spoilt: None }
    }

    /// Appends a whole line, or nothing: what a full disk took of it is cut off again, since the next line would otherwise be written
    /// onto the torn half, and never be read.
    fn append(&mut self, line: &[u8]) -> std::io::Result<()> {
        if let Some(why) = &self.spoilt {
            return Err(std::io::Error::other(format!("an earlier line is torn and cannot be cut off: {why}")));
        }
        let written = self.disk.write_all(line).and_then(|()| self.disk.sync());
        match written {
            Ok(()) => self.whole += line.len() as u64,
            Err(_) => self.spoilt = self.disk.cut(self.whole).err().map(|error| error.to_string()),
        }
        written
    }
}

/// What a journal says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    pub lines: Vec<Line>,
    /// Numbers of whole lines that are not what this writes, from 1: not from a crash, so they are told.
    pub unreadable: Vec<usize>,
    /// Bytes of whole lines: what follows is torn.
    whole: u64,
}

impl Told {
    /// Whether everything in it is undone and proven.
    pub fn is_closed(&self) -> bool {
        self.unreadable.is_empty() && matches!(self.lines.last(), Some(Line { entry: Entry::Closed, .. }))
    }
}

impl Journal {
    /// Makes the journal of a new run and locks it.
    pub fn create(dir: &Path) -> Result<Journal, Error> {
        let path = dir.join(FILE);
        let fail = |doing| {
            let path = path.clone();
            move |source| Error::File { path, doing, source }
        };
        let file = OpenOptions::new().create_new(true).append(true).read(true).open(&path).map_err(fail("made"))?;
        lock(&file, &path)?;
        // The name must survive a crash as well as the content.
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(fail("made durable"))?;
        Ok(Journal { path, tail: Mutex::new(Tail::new(file, 0)) })
    }

    /// Opens the journal of a run that has ended somehow, locks it, reads it, and cuts a torn last line off.
    pub fn open(dir: &Path) -> Result<(Journal, Told), Error> {
        let path = dir.join(FILE);
        let fail = |doing| {
            let path = path.clone();
            move |source| Error::File { path, doing, source }
        };
        let mut file = OpenOptions::new().append(true).read(true).open(&path).map_err(fail("opened"))?;
        lock(&file, &path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail("read"))?;
        let told = read(&bytes);
        if told.whole < bytes.len() as u64 {
            file.set_len(told.whole).map_err(fail("mended"))?;
        }
        Ok((Journal { path, tail: Mutex::new(Tail::new(file, told.whole)) }, told))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one line and returns when it is on the disk.
    pub async fn write(self: &Arc<Self>, entry: Entry) -> std::io::Result<()> {
        let journal = self.clone();
        // The disk may take its time; the heartbeats of other faults must not wait for it.
        tokio::task::spawn_blocking(move || journal.write_now(entry)).await.map_err(std::io::Error::other)?
    }

    /// The undos that were journalled for a fault after its intent, in order.
    pub fn more_of(&self, name: &Name) -> std::io::Result<Vec<Undo>> {
        let told = read(&std::fs::read(&self.path)?);
        Ok(told
            .lines
            .into_iter()
            .filter_map(|line| match line.entry {
                Entry::More { fault, undos } if fault == *name => Some(undos),
                _ => None,
            })
            .flatten()
            .collect())
    }

    /// As [`write`](Self::write), for callers outside of a runtime.
    pub fn write_now(&self, entry: Entry) -> std::io::Result<()> {
        let mut bytes = serde_json::to_vec(&Line { at: wall_now().to_string(), entry }).map_err(std::io::Error::other)?;
        bytes.push(b'\n');
        self.tail.lock().map_err(|_| std::io::Error::other("a writer of the journal panicked"))?.append(&bytes)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that another thread has just forked has it open, and locked, until it runs its program.
        let _ = self.tail.get_mut().unwrap_or_else(PoisonError::into_inner).disk.unlock();
    }
}

fn lock(file: &File, path: &Path) -> Result<(), Error> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let pid = std::fs::read(path).ok().and_then(|bytes| {
                read(&bytes).lines.into_iter().find_map(|line| match line.entry {
                    Entry::RunStarted { pid, .. } => Some(pid),
                    _ => None,
                })
            });
            Err(Error::Alive { path: path.to_owned(), pid })
        }
        Err(TryLockError::Error(source)) => Err(Error::File { path: path.to_owned(), doing: "locked", source }),
    }
}

/// Reads the bytes of a journal; a last line without its end is left out.
pub fn read(bytes: &[u8]) -> Told {
    let mut told = Told::default();
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if !line.ends_with(b"\n") {
            break;
        }
        told.whole += line.len() as u64;
        match serde_json::from_slice(line) {
            Ok(line) => told.lines.push(line),
            Err(_) => told.unreadable.push(index + 1),
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries() -> Vec<Entry> {
        let fault: Name = "slow".parse().unwrap();
        let undo = Undo { says: "wait".into(), detail: serde_json::json!({"pod": "a"}) };
        vec![
            Entry::RunStarted { run: "r1".into(), pid: 7, seed: 1 },
            Entry::Cluster(ClusterLine {
                server: "https://x".into(),
                context: None,
                kubeconfig: Some("/k".into()),
                impersonation: None,
            }),
            Entry::Intent { fault: fault.clone(), kind: "latency".into(), spec: serde_json::json!({}), undos: vec![undo] },
            Entry::Applied { fault: fault.clone() },
            Entry::Healed { fault, proof: "gone".into() },
            Entry::Closed,
        ]
    }

    #[test]
    fn a_journal_that_is_let_go_of_is_free_though_a_forked_child_still_has_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::create(dir.path()).unwrap();
        // A second descriptor of one open file, as a fork makes it.
        let _inherited = journal.tail.lock().unwrap().disk.try_clone().unwrap();
        drop(journal);
        Journal::open(dir.path()).unwrap();
    }

    #[test]
    fn what_is_written_is_read_and_a_live_journal_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::create(dir.path()).unwrap();
        for entry in entries() {
            journal.write_now(entry).unwrap();
        }
        let alive = Journal::open(dir.path()).unwrap_err();
        assert!(matches!(alive, Error::Alive { pid: Some(7), .. }), "{alive}");
        drop(journal);
        let (_, told) = Journal::open(dir.path()).unwrap();
        assert_eq!(told.lines.into_iter().map(|line| line.entry).collect::<Vec<_>>(), entries());
        assert!(Journal::create(dir.path()).is_err(), "a second run never takes over a journal");
    }

    /// A disk with room for so many bytes.
    struct Small {
        bytes: Vec<u8>,
        room: usize,
        cuts: bool,
    }

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            match bytes.len().min(self.room - self.bytes.len()) {
                0 => Err(std::io::ErrorKind::StorageFull.into()),
                some => self.bytes.write(&bytes[..some]),
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Disk for Small {
        fn cut(&mut self, bytes: u64) -> std::io::Result<()> {
            if !self.cuts {
                return Err(std::io::ErrorKind::PermissionDenied.into());
            }
            self.bytes.truncate(bytes as usize);
            Ok(())
        }
        fn sync(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Goal: an undo that was written can be read. How: a disk that takes half of the second line, and has room again for the third.
    #[test]
    fn a_line_that_a_full_disk_tore_never_spoils_the_next() {
        let line = |n: u8| [n, n, n, b'\n'];
        let mut tail = Tail::new(Small { bytes: Vec::new(), room: 6, cuts: true }, 0);
        tail.append(&line(b'1')).unwrap();
        assert!(tail.append(&line(b'2')).is_err());
        tail.disk.room = 100;
        tail.append(&line(b'3')).unwrap();
        assert_eq!(tail.disk.bytes, b"111\n333\n");

        tail.disk.room = 10;
        tail.disk.cuts = false;
        assert!(tail.append(&line(b'4')).is_err());
        tail.disk.room = 100;
        let error = tail.append(&line(b'5')).unwrap_err().to_string();
        assert!(error.contains("torn"), "what cannot be cut off is not written on: {error}");
    }

    proptest! {
        /// Goal: a crash at any byte leaves every whole line readable, and the next writer starts on a fresh line. Cut anywhere.
        #[test]
        fn a_journal_cut_anywhere_is_read_up_to_the_cut(cut in 0usize..2000) {
            let dir = tempfile::tempdir().unwrap();
            let journal = Journal::create(dir.path()).unwrap();
            entries().into_iter().for_each(|entry| journal.write_now(entry).unwrap());
            drop(journal);
            let path = dir.path().join(FILE);
            let bytes = std::fs::read(&path).unwrap();
            let cut = cut.min(bytes.len());
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let whole = bytes[..cut].iter().filter(|b| **b == b'\n').count();
            let (journal, told) = Journal::open(dir.path()).unwrap();
            prop_assert_eq!(told.lines.len(), whole);
            prop_assert!(told.unreadable.is_empty());
            journal.write_now(Entry::Closed).unwrap();
            drop(journal);
            let (_, told) = Journal::open(dir.path()).unwrap();
            prop_assert_eq!(told.lines.len(), whole + 1);
            prop_assert!(told.unreadable.is_empty());
        }
    }
}
