//! Starts the processes of pods. All are children of one thread that lives as long as the sandbox: the kernel kills a child when the
//! thread that made it dies, so whatever ends the sandbox, `kill -9` included, ends its pods. What a child has started itself and
//! is not in its group any more ends when the sandbox is stopped, or by the [keeper](crate::sandbox::keeper).

use std::collections::HashSet;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, PidfdFlags, Signal, getppid, kill_process_group, pidfd_open, set_parent_process_death_signal};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

/// Starts that wait for the thread.
const WAITING_MAX: usize = 256;

/// A handle to the thread, which ends with the last handle.
#[derive(Clone)]
pub struct Spawner {
    requests: SyncSender<Request>,
    live: Live,
}

/// The process groups that are alive, for whoever must end them without waiting.
#[derive(Clone, Default)]
pub struct Live(Arc<Mutex<HashSet<u32>>>);

struct Request {
    command: Command,
    answer: oneshot::Sender<io::Result<Child>>,
}

/// A process and the group that it leads. Dropping it kills the group.
pub struct Process {
    child: Child,
    live: Live,
}

impl Spawner {
    pub fn start() -> io::Result<Spawner> {
        let (requests, queue) = sync_channel(WAITING_MAX);
        std::thread::Builder::new().name("squall-spawner".into()).spawn(move || serve(&queue))?;
        Ok(Spawner { requests, live: Live::default() })
    }

    /// Starts a command as the leader of a process group of its own.
    pub async fn spawn(&self, mut command: Command) -> io::Result<Process> {
        command.process_group(0);
        let parent = Pid::from_raw(std::process::id() as i32);
        let tie = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have died before the line above took effect.
            if getppid() == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error())) }
        };
        // SAFETY: the closure makes two system calls and touches no memory of the parent: no allocation, no lock.
        unsafe { command.pre_exec(tie) };
        let gone = || io::Error::other("the sandbox is stopping");
        let (answer, started) = oneshot::channel();
        self.requests.try_send(Request { command, answer }).map_err(|_| gone())?;
        let child = started.await.map_err(|_| gone())??;
        self.live.lock().insert(child.id());
        Ok(Process { child, live: self.live.clone() })
    }

    pub fn live(&self) -> &Live {
        &self.live
    }
}

fn serve(queue: &Receiver<Request>) {
    while let Ok(mut request) = queue.recv() {
        let started = request.command.spawn();
        if let Err(Ok(mut child)) = request.answer.send(started) {
            // Who asked has gone: nobody would ever end it.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Live {
    /// Kills every group now.
    pub fn kill_all(&self) {
        for pid in self.lock().iter() {
            kill_group(*pid, Signal::KILL);
        }
    }

    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// Its id, which is also that of its group. It is nobody else's until the process has been [reaped](Process::reap).
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, where it was made with a pipe.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Signals the whole group.
    pub fn signal(&self, signal: Signal) {
        kill_group(self.pid(), signal);
    }

    /// A future that completes when the process has ended, which it still has to be reaped for.
    pub fn ended(&self) -> io::Result<impl Future<Output = ()> + Send + 'static> {
        let pid = Pid::from_child(&self.child);
        let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
        // SAFETY: the descriptor is owned by the `AsyncFd`, which is the only one that could close it, and always gives the same number.
        let watched =
            unsafe { AsyncFd::register_with_interest(descriptor, tokio::io::Interest::READABLE) }.map_err(io::Error::from)?;
        Ok(async move {
            // A descriptor that cannot be waited for counts as ended: reaping then waits properly.
            let _ = watched.readable().await;
        })
    }

    /// Ends what is left of the group and takes the exit status. Call it when the process has [ended](Process::ended).
    pub fn reap(mut self) -> io::Result<ExitStatus> {
        self.finish()
    }

    fn finish(&mut self) -> io::Result<ExitStatus> {
        // The leader is not reaped yet, so the group's id is still ours.
        if self.live.lock().remove(&self.child.id()) {
            kill_group(self.child.id(), Signal::KILL);
        }
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

/// The exit code as a container runtime reports it: 128 + n for signal n.
pub fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn kill_group(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // A group that is gone needs no signal.
        let _ = kill_process_group(pid, signal);
    }
}
