//! The process that outlives a sandbox's holder. When the holder is killed, the kernel ends the processes that its pods began with, and
//! this one ends what those had started and removes the folder. It touches nothing while the holder lives, and goes with the sandbox.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};

use super::cleanup::{LOOKS_MAX, Scope, sweep};

/// A keeper that watches this process. Dropping it ends it.
pub struct Keeper(Child);

impl Keeper {
    /// Starts `squall sandbox keep` for the sandbox of that id and folder.
    pub fn start(squall: &Path, id: &str, dir: &Path) -> io::Result<Keeper> {
        let mut command = Command::new(squall);
        command.args(["sandbox", "keep", &std::process::id().to_string(), id]).arg(dir);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A group of its own: what a terminal sends to its holder's group is not for it.
        command.process_group(0).spawn().map(Keeper)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // One that has ended needs no signal.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `holder`, the process that started this one, is dead, and ends what its sandbox left.
pub fn keep(holder: u32, id: &str, dir: &Path) -> io::Result<()> {
    let holder = i32::try_from(holder).ok().and_then(Pid::from_raw);
    if let Some(holder) = holder.filter(|holder| getppid() == Some(*holder)) {
        let handle = pidfd_open(holder, PidfdFlags::empty())?;
        // subtle: asked again after the handle was taken: if the holder died before that, the handle may be of whoever has its id now.
        while getppid() == Some(holder) {
            match poll(&mut [PollFd::new(&handle, PollFlags::IN)], None) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    let scope = Scope::One { id: id.to_owned(), dir: dir.to_owned() };
    for _ in 0..LOOKS_MAX {
        if sweep(&scope).iter().all(|remains| remains.killed.is_empty()) {
            break;
        }
    }
    Ok(())
}
