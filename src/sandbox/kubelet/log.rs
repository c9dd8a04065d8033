//! What a container wrote: a file of time-stamped lines that never holds more than the last megabytes, read while it grows.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream::BoxStream;
use rustix::fs::FallocateFlags;
use tokio::sync::watch;

use crate::sandbox::api::access::LogOptions;
use crate::time::wall_now;

/// What is kept at least once so much was written; twice that is kept at most.
pub const KEPT: u64 = 2 << 20;
/// A line is cut into pieces of this size.
const LINE_MAX: usize = 16 << 10;
const CHUNK: usize = 64 << 10;

/// The log of one run of one container.
pub struct Log {
    path: PathBuf,
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
}

struct State {
    file: File,
    /// Offsets in the file never move: what is dropped becomes a hole.
    written: u64,
    floor: u64,
    /// A line that has not ended yet.
    open: Vec<u8>,
    /// The file system cannot make holes: no more is written.
    full: bool,
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Progress {
    written: u64,
    closed: bool,
}

impl Log {
    pub fn create(path: PathBuf) -> io::Result<Log> {
        let file = File::options().create_new(true).read(true).write(true).open(&path)?;
        let state = State { file, written: 0, floor: 0, open: vec![], full: false };
        Ok(Log { path, state: Mutex::new(state), progress: watch::Sender::new(Progress::default()) })
    }

    /// Adds what the container wrote.
    pub fn append(&self, bytes: &[u8]) {
        let mut state = self.lock();
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            state.open.extend_from_slice(piece);
            if state.open.ends_with(b"\n") || state.open.len() >= LINE_MAX {
                state.end_line();
            }
        }
        let written = state.written;
        drop(state);
        self.progress.send_if_modified(|p| std::mem::replace(&mut p.written, written) != written);
    }

    /// The container has ended: readers that follow end too.
    pub fn close(&self) {
        let mut state = self.lock();
        if !state.open.is_empty() {
            state.end_line();
        }
        let written = state.written;
        drop(state);
        self.progress.send_replace(Progress { written, closed: true });
    }

    /// What was asked for of it, as it is stored and, when following, as it comes.
    pub fn read(self: Arc<Log>, options: LogOptions) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
        let file = File::open(&self.path)?;
        let (floor, end) = {
            let state = self.lock();
            (state.floor, state.written)
        };
        let mut first = read_range(&file, floor, end)?;
        if floor > 0 {
            // The floor lies within a line.
            let begin = first.iter().position(|b| *b == b'\n').map_or(first.len(), |i| i + 1);
            first.drain(..begin);
        }
        if let Some(lines) = options.tail_lines {
            let keep = first.split_inclusive(|b| *b == b'\n').rev().take(usize::try_from(lines).unwrap_or(usize::MAX));
            let keep: usize = keep.map(<[u8]>::len).sum();
            first.drain(..first.len() - keep);
        }
        let reader = Reader {
            left: options.limit_bytes.unwrap_or(u64::MAX),
            progress: self.progress.subscribe(),
            at: end,
            log: self,
            file,
            options,
            first: Some(first),
        };
        Ok(Box::pin(futures::stream::unfold(reader, Reader::next)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end_line(&mut self) {
        let mut line = format!("{:.9} ", wall_now()).into_bytes();
        line.append(&mut self.open);
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        if self.full || self.file.write_all(&line).is_err() {
            // A full disk loses log lines, not pods.
            return;
        }
        self.written += line.len() as u64;
        if self.written - self.floor > 2 * KEPT {
            let floor = self.written - KEPT;
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            self.full = rustix::fs::fallocate(&self.file, hole, self.floor, floor - self.floor).is_err();
            self.floor = floor;
        }
    }
}

struct Reader {
    log: Arc<Log>,
    file: File,
    options: LogOptions,
    progress: watch::Receiver<Progress>,
    at: u64,
    left: u64,
    first: Option<Vec<u8>>,
}

impl Reader {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Reader)> {
        loop {
            if self.left == 0 {
                return None;
            }
            let raw = match self.first.take() {
                Some(first) => first,
                None if !self.options.follow => return None,
                None => {
                    let progress = *self.progress.borrow_and_update();
                    if progress.written == self.at {
                        if progress.closed || self.progress.changed().await.is_err() {
                            return None;
                        }
                        continue;
                    }
                    // A reader that the floor has overtaken goes on at the floor.
                    let floor = self.log.lock().floor;
                    let from = self.at.max(floor);
                    let to = progress.written.min(from + CHUNK as u64 * 16);
                    self.at = to;
                    match read_range(&self.file, from, to) {
                        Ok(raw) => raw,
                        Err(error) => return Some((Err(error), self)),
                    }
                }
            };
            let shown = self.shown(&raw);
            if !shown.is_empty() {
                return Some((Ok(shown), self));
            }
        }
    }

    /// The lines as asked for: with or without times, from a time on, up to a size.
    fn shown(&mut self, raw: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(raw.len());
        for line in raw.split_inclusive(|b| *b == b'\n') {
            let space = line.iter().position(|b| *b == b' ').map_or(0, |i| i + 1);
            if let Some(since) = self.options.since {
                let time = std::str::from_utf8(&line[..space]).ok().and_then(|t| t.trim().parse::<jiff::Timestamp>().ok());
                if time.is_some_and(|time| time < since) {
                    continue;
                }
            }
            out.extend_from_slice(if self.options.timestamps { line } else { &line[space..] });
        }
        out.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= out.len() as u64;
        out.into()
    }
}

fn read_range(file: &File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut raw = vec![0; usize::try_from(to - from).unwrap_or(0)];
    file.read_exact_at(&mut raw, from)?;
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    async fn all(log: &Arc<Log>, options: LogOptions) -> String {
        let chunks: Vec<_> = log.clone().read(options).unwrap().collect().await;
        let bytes: Vec<u8> = chunks.into_iter().flat_map(|c| c.unwrap().to_vec()).collect();
        String::from_utf8(bytes).unwrap()
    }

    #[tokio::test]
    async fn a_log_is_read_whole_by_its_tail_by_size_and_while_it_grows() {
        let dir = tempfile::tempdir().unwrap();
        let log = Arc::new(Log::create(dir.path().join("log")).unwrap());
        log.append(b"one\ntwo\nthr");
        log.append(b"ee\n");
        assert_eq!(all(&log, LogOptions::default()).await, "one\ntwo\nthree\n");
        assert_eq!(all(&log, LogOptions { tail_lines: Some(1), ..Default::default() }).await, "three\n");
        assert_eq!(all(&log, LogOptions { limit_bytes: Some(5), ..Default::default() }).await, "one\nt");
        let stamped = all(&log, LogOptions { timestamps: true, tail_lines: Some(1), ..Default::default() }).await;
        assert!(
            stamped.split(' ').next().unwrap().parse::<jiff::Timestamp>().is_ok() && stamped.ends_with(" three\n"),
            "{stamped}"
        );
        let later = wall_now() + std::time::Duration::from_secs(60);
        assert_eq!(all(&log, LogOptions { since: Some(later), ..Default::default() }).await, "");

        let mut following = log.clone().read(LogOptions { follow: true, tail_lines: Some(0), ..Default::default() }).unwrap();
        log.append(b"four\nfi");
        assert_eq!(following.next().await.unwrap().unwrap(), "four\n");
        log.close();
        assert_eq!(following.next().await.unwrap().unwrap(), "fi\n");
        assert!(following.next().await.is_none());
    }

    #[tokio::test]
    async fn a_log_never_holds_more_than_its_last_megabytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Arc::new(Log::create(path.clone()).unwrap());
        let line = [b'x'; 8191].into_iter().chain([b'\n']).collect::<Vec<u8>>();
        for _ in 0..(KEPT * 4 / 8192) {
            log.append(&line);
        }
        log.append(b"last\n");
        let text = all(&log, LogOptions::default()).await;
        assert!(text.len() as u64 >= KEPT - 10_000 && text.len() as u64 <= 2 * KEPT, "{}", text.len());
        assert!(text.ends_with("last\n") && text.starts_with("xxx"));
        use std::os::unix::fs::MetadataExt;
        let on_disk = std::fs::metadata(&path).unwrap().blocks() * 512;
        assert!(on_disk <= 2 * KEPT + (64 << 10), "{on_disk} bytes on disk");
    }
}
