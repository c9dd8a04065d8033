//! What a sandbox leaves behind when it is killed, and how that is found and removed: processes by the mark in their environment, folders
//! by the holder they name. Only what belongs to a sandbox whose holder is dead is ever touched.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::time::wall_now;

/// The variable that every process of a sandbox carries.
pub const MARK: &str = "SQUALL_SANDBOX";
const PREFIX: &str = "squall-sandbox-";
const CARD: &str = "sandbox.json";
/// How long a killed process may take to be gone.
const DEATH_MAX: Duration = Duration::from_secs(5);

/// What is killed while it starts others takes another look; so many are enough for anything but a fork bomb.
pub(super) const LOOKS_MAX: usize = 10;

/// Which sandboxes to look at.
#[derive(Clone, Debug)]
pub enum Scope {
    /// All that left a mark on a process, or a folder in this process's temporary folder.
    All,
    /// The one of that id, with its folder.
    One { id: String, dir: PathBuf },
}

/// What was found of one dead sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remains {
    pub id: String,
    /// Its processes, by id, all killed now.
    pub killed: Vec<u32>,
    /// Those that would not go, or are not ours to end.
    pub left: Vec<u32>,
    /// Its folder, if it was still there. It is gone now.
    pub folder: Option<PathBuf>,
    /// Its folder, if it could not be removed.
    pub folder_left: Option<PathBuf>,
}

/// Who holds a sandbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Holder {
    Lives(u32),
    Dead,
    /// Nothing says whose it is.
    Unknown,
}

/// Who holds a sandbox: written into its folder, so that others can tell whether it lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Card {
    id: String,
    name: String,
    pid: u32,
    /// In clock ticks since boot, which tells a process from a later one with its id.
    started: u64,
}

/// Ends and removes what dead sandboxes left. Sandboxes whose holder lives are not touched and not reported.
pub fn sweep(scope: &Scope) -> Vec<Remains> {
    let marked = marked_processes();
    let mut places: BTreeMap<String, PathBuf> = BTreeMap::new();
    match scope {
        Scope::One { id, dir } => drop(places.insert(id.clone(), dir.clone())),
        Scope::All => {
            let ids = marked.iter().map(|(id, _)| id.clone()).chain(ids_of_folders());
            places.extend(ids.map(|id| (id.clone(), folder(&id))));
        }
    }
    let dead = places.into_iter().filter(|(id, dir)| holder(id, dir) == Holder::Dead);
    let remains = dead.map(|(id, dir)| {
        let own = marked.iter().filter(|(of, _)| *of == id).map(|(_, process)| *process);
        let (killed, left): (Vec<_>, Vec<_>) = own.map(|process| (process.pid, end(process, &id))).partition(|(_, gone)| *gone);
        let pids = |list: Vec<(u32, bool)>| list.into_iter().map(|(pid, _)| pid).collect();
        let was_there = dir.is_dir();
        if was_there {
            remove_dir(&dir);
        }
        let (folder_left, folder) = Some(dir).filter(|_| was_there).map_or((None, None), |dir| match dir.exists() {
            true => (Some(dir), None),
            false => (None, Some(dir)),
        });
        Remains { id, killed: pids(killed), left: pids(left), folder, folder_left }
    });
    remains.filter(|r| !r.killed.is_empty() || !r.left.is_empty() || r.folder.is_some() || r.folder_left.is_some()).collect()
}

/// Finishes one dead sandbox: what was done, in words, or why it is not proven to be gone.
pub async fn finish(id: String, dir: PathBuf) -> Result<String, String> {
    let work = move || {
        match holder(&id, &dir) {
            Holder::Lives(pid) => return Err(format!("sandbox {id} is held by process {pid}, which lives: end that first")),
            Holder::Unknown => return Err(format!("nothing says who holds sandbox {id}: it is left alone")),
            Holder::Dead => {}
        }
        let found = sweep(&Scope::One { id: id.clone(), dir: dir.clone() });
        let Some(remains) = found.first() else { return Ok(format!("nothing was left of sandbox {id}")) };
        if !remains.left.is_empty() {
            return Err(format!("processes {:?} of sandbox {id} would not end: kill them by hand", remains.left));
        }
        if remains.folder_left.is_some() {
            return Err(format!("the folder {} of sandbox {id} could not be removed: remove it by hand", dir.display()));
        }
        Ok(format!("sandbox {id}: {} processes ended, its folder is gone", remains.killed.len()))
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(format!("the sweep broke off: {error}")))
}

/// Ends every process of a sandbox, whoever holds it: for the holder itself, when it gives it up.
pub(super) fn end_all(id: &str) {
    for _ in 0..LOOKS_MAX {
        let own: Vec<Found> = marked_processes().into_iter().filter(|(of, _)| of == id).map(|(_, process)| process).collect();
        if own.is_empty() {
            return;
        }
        for process in own {
            if !end(process, id) {
                tracing::warn!("process {} of sandbox {id} could not be ended", process.pid);
                return;
            }
        }
    }
}

/// The ids of sandboxes whose holder lives, with the holder's pid.
pub fn living() -> Vec<(String, u32)> {
    let holders = ids_of_folders().map(|id| (holder(&id, &folder(&id)), id));
    holders.filter_map(|(holder, id)| if let Holder::Lives(pid) = holder { Some((id, pid)) } else { None }).collect()
}

/// A new sandbox's id: its block, its holder and the time, so that none comes twice.
pub(super) fn new_id(api: Ipv4Addr) -> String {
    format!("{:02x}{:x}{:x}", api.octets()[1], std::process::id(), wall_now().as_millisecond())
}

/// Makes the folder of a sandbox, for its owner only, with the card in it.
pub(super) fn make_dir(id: &str, name: &str) -> anyhow::Result<PathBuf> {
    let dir = folder(id);
    fs::DirBuilder::new().mode(0o700).create(&dir).with_context(|| {
        format!("failed to make the sandbox's folder {}; set TMPDIR to a folder that can be written", dir.display())
    })?;
    let pid = std::process::id();
    let card = Card { id: id.into(), name: name.into(), pid, started: started(pid).unwrap_or_default() };
    let text = serde_json::to_string(&card).context("failed to describe the sandbox")?;
    fs::write(dir.join(CARD), text).with_context(|| format!("failed to write {}", dir.join(CARD).display()))?;
    Ok(dir)
}

pub(super) fn remove_dir(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("failed to remove {}: {error}", dir.display());
    }
}

fn folder(id: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{PREFIX}{id}"))
}

fn ids_of_folders() -> impl Iterator<Item = String> {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    entries.filter_map(|e| Some(e.file_name().to_str()?.strip_prefix(PREFIX)?.to_owned()))
}

/// Who holds a sandbox: who wrote the card, or, where no card is to be seen, who the id names. The folder may lie where this process
/// does not look (another TMPDIR), so its absence proves nothing: what is not known to be dead is not touched. An id that is none of
/// ours (a variable that somebody set in their shell, a folder with such a name) names nobody.
fn holder(id: &str, dir: &Path) -> Holder {
    let card = fs::read_to_string(dir.join(CARD)).ok().and_then(|text| serde_json::from_str::<Card>(&text).ok());
    let (pid, lives) = match (card, holder_in(id)) {
        (Some(card), _) => (card.pid, started(card.pid) == Some(card.started)),
        // A process that started after the sandbox was made is a later one with the same pid; a second for the clocks' grain.
        (None, Some((pid, made_ms))) => (pid, started_ms(pid).is_some_and(|started| started <= made_ms + 1_000)),
        (None, None) => return Holder::Unknown,
    };
    if lives { Holder::Lives(pid) } else { Holder::Dead }
}

/// Ids hold their holder's pid in hexadecimal between the block (two digits) and the time in milliseconds (eleven).
fn holder_in(id: &str) -> Option<(u32, i64)> {
    let time = id.len().checked_sub(11)?;
    Some((u32::from_str_radix(id.get(2..time)?, 16).ok()?, i64::from_str_radix(id.get(time..)?, 16).ok()?))
}

/// When a process started, in milliseconds of wall time.
fn started_ms(pid: u32) -> Option<i64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot_s: i64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let ticks = i64::try_from(started(pid)?).ok()?;
    Some(boot_s * 1_000 + ticks * 1_000 / i64::try_from(rustix::param::clock_ticks_per_second()).ok()?)
}

#[derive(Clone, Copy, Debug)]
struct Found {
    pid: u32,
    started: u64,
}

/// Every process of this user that carries a sandbox's mark.
fn marked_processes() -> Vec<(String, Found)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter_map(|pid| Some((mark_of(pid)?, Found { pid, started: started(pid)? })))
        .collect()
}

/// The mark in a process's environment; `None` as well when it is not ours to read.
fn mark_of(pid: u32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = environment.split(|b| *b == 0).find_map(|variable| variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"="))?;
    Some(String::from_utf8_lossy(value).into_owned()).filter(|id| !id.is_empty())
}

/// When a process started, in ticks since boot; `None` when there is none, or only its remains.
pub fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    // Fields 3 and 22 of proc_pid_stat(5).
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(started)
}

/// Kills a process and waits until it is gone; whether it is.
fn end(process: Found, id: &str) -> bool {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return false };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    // subtle: checked after the handle was taken. The handle is of whoever has the id now, and this says that it is still the same.
    if started(process.pid) != Some(process.started) || mark_of(process.pid).as_deref() != Some(id) {
        return true;
    }
    if pidfd_send_signal(&handle, Signal::KILL).is_err() {
        return started(process.pid) != Some(process.started);
    }
    let limit = Timespec { tv_sec: DEATH_MAX.as_secs() as i64, tv_nsec: 0 };
    let gone = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&limit));
    matches!(gone, Ok(1..)) || started(process.pid) != Some(process.started)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_dead_sandboxes_processes_and_folder_are_found_and_ended_and_a_living_ones_are_not() {
        // A holder that cannot be: this process's id with another start.
        let id = format!("fe{:x}{:x}", std::process::id(), wall_now().as_millisecond());
        let dir = make_dir(&id, "test").unwrap();
        let one = Scope::One { id: id.clone(), dir: dir.clone() };
        let mut orphan = Command::new("sleep").arg("600").env(MARK, &id).spawn().unwrap();
        // Its environment can be read a moment after `exec` has let its parent go on.
        while mark_of(orphan.id()).is_none() {
            assert!(orphan.try_wait().unwrap().is_none(), "it sleeps");
            std::thread::yield_now();
        }
        assert_eq!(sweep(&one), vec![], "its holder lives");
        assert!(living().contains(&(id.clone(), std::process::id())));

        let dead = Card { id: id.clone(), name: "test".into(), pid: std::process::id(), started: 1 };
        fs::write(dir.join(CARD), serde_json::to_string(&dead).unwrap()).unwrap();
        let found = sweep(&one);
        let expected =
            Remains { id: id.clone(), killed: vec![orphan.id()], left: vec![], folder: Some(dir.clone()), folder_left: None };
        assert_eq!(found, vec![expected]);
        assert!(!dir.exists() && !orphan.wait().unwrap().success());
        assert_eq!(sweep(&one), vec![]);
    }

    #[test]
    fn a_living_holder_is_known_by_the_id_alone_wherever_its_folder_is() {
        let elsewhere = Path::new("/nonexistent");
        let me = std::process::id();
        let mine = format!("fd{me:x}{:x}", wall_now().as_millisecond());
        assert_eq!(holder(&mine, elsewhere), Holder::Lives(me));
        let of_an_earlier_process_with_my_pid = format!("fd{me:x}{:x}", started_ms(me).unwrap() - 60_000);
        assert_eq!(holder(&of_an_earlier_process_with_my_pid, elsewhere), Holder::Dead);
    }

    /// Goal: `export SQUALL_SANDBOX=dev` in somebody's shell costs them nothing. How: a process with that mark and a folder with such a
    /// name, swept.
    #[tokio::test]
    async fn what_only_looks_like_a_sandbox_is_left_alone() {
        let id = format!("notes-{}", std::process::id());
        let notes = folder(&id);
        fs::create_dir(&notes).unwrap();
        let mut theirs = Command::new("sleep").arg("600").env(MARK, &id).spawn().unwrap();
        let found = sweep(&Scope::One { id: id.clone(), dir: notes.clone() });
        let finished = finish(id.clone(), notes.clone()).await;
        let untouched = notes.is_dir() && theirs.try_wait().unwrap().is_none();
        theirs.kill().unwrap();
        theirs.wait().unwrap();
        fs::remove_dir(&notes).unwrap();
        assert!(untouched && found.is_empty(), "{found:?}");
        assert!(finished.is_err(), "it is not called finished either: {finished:?}");
    }

    #[test]
    fn a_folder_that_cannot_be_removed_is_said_to_be_left() {
        let me = std::process::id();
        let dead = format!("fc{me:x}{:x}", started_ms(me).unwrap() - 60_000);
        // In the kernel's own file system nothing can be removed, whoever asks.
        let found = sweep(&Scope::One { id: dead, dir: "/proc/self/task".into() });
        let [Remains { folder: None, folder_left: Some(left), .. }] = &found[..] else { panic!("{found:?}") };
        assert_eq!(left, Path::new("/proc/self/task"));
    }
}
