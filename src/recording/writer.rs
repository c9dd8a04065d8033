//! The one writer of a recording: a thread that numbers events and appends them to `recording.jsonl` and `latency.hlog`. It flushes
//! whenever nothing waits, so a killed run leaves a readable prefix; a full disk is remembered and told, never retried over.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvError, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use hdrhistogram::Histogram;
use tokio::sync::broadcast;

use crate::recording::fact::{Event, Fact, RunEnded, RunStarted};
use crate::recording::hlog::HlogWriter;
use crate::recording::sink::{Entry, Interval, Measured, Sink};
use crate::recording::tap::Tap;
use crate::recording::timings;
use crate::recording::{EVENTS_FILE, HISTOGRAMS_FILE};
use crate::time::{Clock, Offset};

/// A recording that is being written.
pub struct Recording {
    sink: Sink,
    thread: JoinHandle<()>,
    broken: Broken,
    /// Subscribed before anything was written, until somebody reads: what nobody reads is kept for it, by the thousand.
    live: Option<broadcast::Receiver<Arc<Event>>>,
}

/// The first write that failed, in words.
type Broken = Arc<Mutex<Option<String>>>;

impl Recording {
    /// Starts a recording in `dir`, which is made when it is missing, with `started` as its first event.
    ///
    /// # Errors
    /// When the folder cannot be made or written, or holds a recording already.
    pub fn create(dir: &Path, clock: Clock, started: RunStarted) -> Result<(Sink, Recording)> {
        Recording::tapped(dir, clock, started, None)
    }

    /// The same with somebody who reads along from the first event on.
    ///
    /// # Errors
    /// As [`Recording::create`].
    pub fn tapped(dir: &Path, clock: Clock, started: RunStarted, tap: Option<Box<dyn Tap>>) -> Result<(Sink, Recording)> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make the run's folder {}", dir.display()))?;
        let events = BufWriter::with_capacity(1 << 16, create(&dir.join(EVENTS_FILE))?);
        let path = dir.join(HISTOGRAMS_FILE);
        let histograms = HlogWriter::begin(BufWriter::with_capacity(1 << 16, create(&path)?), clock.wall(Offset::ZERO))
            .with_context(|| format!("cannot write {}", path.display()))?;

        let (sink, entries) = Sink::new(clock);
        let from_the_first = sink.subscribe();
        let (live, lost) = sink.writer_parts();
        let broken = Broken::default();
        let (spare, broken_too) = (Some(timings::histogram()), broken.clone());
        let mut writer = Writer { dir: dir.to_owned(), events, histograms, next: 0, live, tap, lost, spare, broken: broken_too };
        writer.fact(clock.now(), Fact::RunStarted(Box::new(started)));
        writer.flush();
        if let Some(why) = broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(anyhow!(why));
        }

        let thread = std::thread::Builder::new()
            .name("recording".to_owned())
            .spawn(move || writer.drain(&entries))
            .context("cannot start the recording's thread")?;
        Ok((sink.clone(), Recording { sink, thread, broken, live: Some(from_the_first) }))
    }

    /// Every event from the first on, for the first who asks; for those after, what comes from then on.
    pub fn live(&mut self) -> broadcast::Receiver<Arc<Event>> {
        self.live.take().unwrap_or_else(|| self.sink.subscribe())
    }

    /// The first write that failed, if one did: what comes after it is not on disk.
    pub fn broken(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes what still waits, then `ended` as the last event, and brings both files to the disk. Facts that are emitted
    /// from now on are lost. What the sink lost is added to `ended.lost_events`.
    ///
    /// # Errors
    /// When any write of the whole run failed.
    pub fn close(self, ended: RunEnded) -> Result<()> {
        let (said, says) = sync_channel(1);
        let gone = || anyhow!("the recording's thread is gone: this is a bug in squall, please report it");
        self.sink.queue().send(Entry::Close(self.sink.clock().now(), Box::new(ended), said)).map_err(|_| gone())?;
        let outcome = says.recv().map_err(|_| gone())?;
        self.thread.join().map_err(|_| gone())?;
        outcome.map_err(|why| anyhow!(why))
    }
}

fn create(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(|| format!("cannot start a recording at {}: each run needs a folder of its own", path.display()))
}

/// What the thread owns.
struct Writer {
    dir: PathBuf,
    events: BufWriter<File>,
    histograms: HlogWriter<BufWriter<File>>,
    /// The number of the next event.
    next: u64,
    live: broadcast::Sender<Arc<Event>>,
    tap: Option<Box<dyn Tap>>,
    lost: Arc<AtomicU64>,
    /// What seconds are counted in, one after the other.
    spare: Option<Histogram<u64>>,
    broken: Broken,
}

impl Writer {
    fn drain(mut self, entries: &Receiver<Entry>) {
        loop {
            let entry = match entries.try_recv() {
                Ok(entry) => entry,
                Err(TryRecvError::Empty) => {
                    self.flush();
                    match entries.recv() {
                        Ok(entry) => entry,
                        Err(RecvError) => return,
                    }
                }
                // Nobody can write any more and nobody said goodbye: the recording stays without its last event, and says so by that.
                Err(TryRecvError::Disconnected) => return self.flush(),
            };
            match entry {
                Entry::Fact(t, fact) => self.fact(t, *fact),
                Entry::Measured(measured) => self.interval(*measured),
                Entry::Close(t, mut ended, said) => {
                    ended.lost_events += self.lost.load(Ordering::Relaxed);
                    self.fact(t, Fact::RunEnded(*ended));
                    self.flush();
                    let synced = self.still_whole().then(|| self.events.get_ref().sync_all());
                    self.remember(synced, EVENTS_FILE);
                    let synced = self.still_whole().then(|| self.histograms.get_ref().get_ref().sync_all());
                    self.remember(synced, HISTOGRAMS_FILE);
                    let outcome = self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    // An error means that the closing side is gone; there is nobody left to tell.
                    let _ = said.send(outcome.map_or(Ok(()), Err));
                    return;
                }
            }
        }
    }

    /// Numbers a fact, appends it, and shows it to live readers: also when the disk is full, since they need no disk.
    fn fact(&mut self, t: Offset, fact: Fact) {
        let event = Arc::new(Event { n: self.next, t_ns: t, fact });
        self.next += 1;
        let wrote = self.still_whole().then(|| append(&mut self.events, &event));
        self.remember(wrote, EVENTS_FILE);
        self.tap.iter_mut().for_each(|tap| tap.event(&event));
        // An error means that nobody listens, which is fine.
        let _ = self.live.send(event);
    }

    /// Counts what was measured in a second, appends it, and shows it to who reads along.
    fn interval(&mut self, Measured { series, second, timings }: Measured) {
        let mut histogram = self.spare.take().unwrap_or_else(timings::histogram);
        histogram.reset();
        timings.fill(&mut histogram);
        let interval = Interval { series, second, histogram };
        let wrote = self.still_whole().then(|| self.histograms.append(&interval));
        self.remember(wrote, HISTOGRAMS_FILE);
        self.tap.iter_mut().for_each(|tap| tap.interval(&interval));
        self.spare = Some(interval.histogram);
    }

    fn flush(&mut self) {
        let wrote = self.still_whole().then(|| self.events.flush());
        self.remember(wrote, EVENTS_FILE);
        let wrote = self.still_whole().then(|| self.histograms.flush());
        self.remember(wrote, HISTOGRAMS_FILE);
    }

    /// Nothing is written after a write that failed: what stands on disk stays a prefix, and reading it says where it ends.
    fn still_whole(&self) -> bool {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn remember(&self, wrote: Option<io::Result<()>>, file: &str) {
        if let Some(Err(error)) = wrote {
            let path = self.dir.join(file);
            let why = format!("cannot write {}: {error}; the recording ends there, and no verdict can rest on it", path.display());
            self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        }
    }
}

fn append(out: &mut impl Write, event: &Event) -> io::Result<()> {
    serde_json::to_writer(&mut *out, event)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ObjectRef;
    use crate::recording::History;
    use crate::recording::fact::{Ending, GeneratorSample, Reading, SCHEMA};
    use crate::recording::sink::{Measure, Series};
    use crate::recording::timings::Timings;
    use std::time::Duration;

    fn started() -> RunStarted {
        RunStarted {
            schema: SCHEMA.into(),
            run_id: "r".into(),
            squall: "0".into(),
            plan: "p".into(),
            claim: "c".into(),
            seed: 1,
            params: Default::default(),
            zero: "1970-01-01T00:00:00Z".into(),
            target: "http://127.0.0.1/".into(),
            workload: None,
            autoscaler: None,
            phases: Vec::new(),
            loads: Vec::new(),
            faults: Vec::new(),
            environment: Default::default(),
        }
    }

    fn sample(second: i64) -> Fact {
        Fact::Generator(GeneratorSample {
            second,
            cpu: 0.5,
            workers: vec![0.5, 0.25],
            steal: None,
            in_flight: 1,
            connections: 1,
            starved: None,
            window_us: 0,
        })
    }

    fn completed() -> RunEnded {
        RunEnded { how: Ending::Completed, lost_events: 2 }
    }

    #[test]
    fn events_are_numbered_in_order_and_the_end_comes_last() {
        let dir = tempfile::tempdir().unwrap();
        let (sink, mut recording) = Recording::create(dir.path(), Clock::starting_in(Duration::ZERO), started()).unwrap();
        let mut live = recording.live();
        let mut late = sink.subscribe();
        (0..1000).for_each(|second| sink.emit(sample(second)));
        recording.close(completed()).unwrap();
        sink.emit(sample(1000));
        assert_eq!(sink.lost(), 1, "what comes after the end is lost, and counted");

        let history = History::load(dir.path()).unwrap();
        assert_eq!(history.events.iter().map(|event| event.n).collect::<Vec<_>>(), (0..1002).collect::<Vec<_>>());
        assert_eq!(history.ended, Some(completed()));
        assert_eq!(history.torn, Vec::<String>::new());
        assert_eq!(live.try_recv().unwrap().n, 0, "the first live reader sees how the run started");
        assert_eq!(late.try_recv().unwrap().n, 1, "another sees what comes after it subscribed");
    }

    /// Goal: who reads along loses nothing, however much a live reader would have missed. How: more events than the live channel holds,
    /// and histograms, which it does not carry.
    #[test]
    fn who_reads_along_gets_everything_in_order() {
        #[derive(Clone, Default)]
        struct Along(Arc<Mutex<(Vec<u64>, u64)>>);
        impl Tap for Along {
            fn event(&mut self, event: &Event) {
                self.0.lock().unwrap().0.push(event.n);
            }
            fn interval(&mut self, interval: &Interval) {
                self.0.lock().unwrap().1 += interval.histogram.len();
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let along = Along::default();
        let clock = Clock::starting_in(Duration::ZERO);
        let (sink, recording) = Recording::tapped(dir.path(), clock, started(), Some(Box::new(along.clone()))).unwrap();
        (0..10_000).for_each(|second| sink.emit(sample(second)));
        for second in 0..3 {
            let mut timings = Timings::default();
            (0..7).for_each(|_| timings.record(5));
            let series = Series {
                load: "l".parse().unwrap(),
                phase: "p".parse().unwrap(),
                part: Default::default(),
                outcome: crate::recording::Outcome::Ok,
                measure: Measure::Response,
            };
            sink.record(Measured { series, second, timings });
        }
        recording.close(completed()).unwrap();
        let (events, values) = along.0.lock().unwrap().clone();
        assert_eq!(events, (0..10_002).collect::<Vec<_>>(), "the start, what was emitted, and the end");
        assert_eq!(values, 21);
    }

    #[test]
    fn a_reading_that_is_no_number_spoils_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (sink, recording) = Recording::create(dir.path(), Clock::starting_in(Duration::ZERO), started()).unwrap();
        let object: ObjectRef = "shop/pod/checkout-a".parse().unwrap();
        for value in [f64::INFINITY, 3.0, f64::NAN] {
            sink.emit(Fact::Reading(Reading { object: object.clone(), metric: "limit".into(), value }));
        }
        recording.close(completed()).unwrap();
        let history = History::load(dir.path()).unwrap();
        assert_eq!(history.torn, Vec::<String>::new());
        assert_eq!(history.series(&object, "limit").iter().map(|(_, _, value)| *value).collect::<Vec<_>>(), [3.0]);
    }

    /// Goal: kill -9 leaves a readable prefix. Method: read while the writer is idle and never closed; an event is waited for
    /// through the live channel, after which a flush follows as soon as the queue is empty.
    #[test]
    fn what_was_written_can_be_read_before_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (sink, _recording) = Recording::create(dir.path(), Clock::starting_in(Duration::ZERO), started()).unwrap();
        sink.emit(sample(7));
        let deadline = crate::time::monotonic_now() + Duration::from_secs(10);
        let history = loop {
            let history = History::load(dir.path()).unwrap();
            if history.events.len() == 2 {
                break history;
            }
            assert!(crate::time::monotonic_now() < deadline, "the writer never flushed");
            std::thread::yield_now();
        };
        assert_eq!(history.ended, None);
    }

    #[test]
    fn a_folder_holds_one_recording() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::starting_in(Duration::ZERO);
        let (_sink, first) = Recording::create(dir.path(), clock, started()).unwrap();
        let error = Recording::create(dir.path(), clock, started()).err().expect("the second must be refused").to_string();
        assert!(error.contains("each run needs a folder of its own"), "{error}");
        first.close(completed()).unwrap();
    }

    /// Goal: a full disk is told. Method: /dev/full refuses every byte that is flushed to it.
    #[test]
    fn a_full_disk_is_remembered_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let full = || BufWriter::with_capacity(16, OpenOptions::new().write(true).open("/dev/full").unwrap());
        let fine = BufWriter::new(create(&dir.path().join("fine")).unwrap());
        let (sink, entries) = Sink::new(Clock::starting_in(Duration::ZERO));
        let (live, lost) = sink.writer_parts();
        let broken = Broken::default();
        let histograms = HlogWriter::begin(fine, jiff::Timestamp::UNIX_EPOCH).unwrap();
        let writer = Writer {
            dir: dir.path().to_owned(),
            events: full(),
            histograms,
            next: 0,
            live,
            tap: None,
            lost,
            spare: None,
            broken: broken.clone(),
        };
        let thread = std::thread::spawn(move || writer.drain(&entries));
        let mut live = sink.subscribe();
        let recording = Recording { sink: sink.clone(), thread, broken, live: None };
        (0..100).for_each(|second| sink.emit(sample(second)));
        let error = recording.close(completed()).unwrap_err().to_string();
        assert!(error.contains("recording.jsonl") && error.contains("No space left"), "{error}");
        assert_eq!((0..101).filter(|_| live.try_recv().is_ok()).count(), 101, "live readers see everything all the same");
    }
}
