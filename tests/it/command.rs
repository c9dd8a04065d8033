//! The built binary, run as a person would run it, in an empty folder of its own.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// One call of `squall` in a fresh folder that goes away with it.
pub struct Squall {
    pub folder: tempfile::TempDir,
}

/// What it said and how it ended.
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A call that is still going.
pub struct Running {
    child: Child,
    stdout: std::thread::JoinHandle<String>,
    stderr: std::thread::JoinHandle<String>,
}

impl Squall {
    pub fn new() -> Squall {
        Squall { folder: tempfile::tempdir().expect("a temporary folder can be made") }
    }

    /// Writes a file into the folder.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs to its end; a call that takes more than two minutes is a failure.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Said {
        self.start(args).wait(Duration::from_secs(120))
    }

    /// Starts and leaves it running.
    pub fn start(&self, args: &[&str]) -> Running {
        self.start_with(args, &[])
    }

    /// Starts with these variables in its environment.
    pub fn start_with(&self, args: &[&str], variables: &[(&str, &Path)]) -> Running {
        self.spawn(Command::new(env!("CARGO_BIN_EXE_squall")).args(args).envs(variables.iter().copied()))
    }

    /// Starts as a command of another program, which is told the binary and `args` after `before`.
    pub fn start_under(&self, before: &[&str], args: &[&str]) -> Running {
        self.spawn(Command::new(before[0]).args(&before[1..]).arg(env!("CARGO_BIN_EXE_squall")).args(args))
    }

    fn spawn(&self, command: &mut Command) -> Running {
        let mut child = command
            .current_dir(self.folder.path())
            .env_remove("SQUALL_LOG")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary was built");
        let stdout = collect(child.stdout.take().expect("stdout is piped"));
        let stderr = collect(child.stderr.take().expect("stderr is piped"));
        Running { child, stdout, stderr }
    }
}

impl Running {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends a signal to this process and to nothing else.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid()).expect("a child has a pid");
        rustix::process::kill_process(pid, signal).expect("our own child can be signalled");
    }

    /// Whether it has ended; what it said is still there to be waited for.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our own child can be waited for").is_some()
    }

    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Said {
        let status = wait_until(limit, || self.child.try_wait().expect("our own child can be waited for")).unwrap_or_else(|| {
            let _ = self.child.kill();
            panic!("squall did not end within {limit:?}")
        });
        Said { code: code(status), stdout: self.stdout.join().expect("read"), stderr: self.stderr.join().expect("read") }
    }
}

impl Said {
    #[track_caller]
    pub fn expect(&self, code: i32) -> &Said {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// It ran to its end and found nothing wrong: a pass, or, where others kept the machine busy, nothing that can be claimed.
    #[track_caller]
    pub fn found_nothing_wrong(&self) -> &Said {
        assert!(self.code == 0 || self.code == 3, "exit {}, stdout:\n{}\nstderr:\n{}", self.code, self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn saying(&self, words: &str) -> &Said {
        let all = format!("{}\n{}", self.stdout, self.stderr);
        assert!(all.contains(words), "`{words}` was not said:\n{all}");
        self
    }
}

/// Asks `ready` again and again until it has an answer; `None` when `limit` has passed without one.
pub fn wait_until<T>(limit: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ready() {
            return Some(answer);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Whether a file exists and holds `words`.
pub fn file_says(path: &Path, words: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.contains(words))
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().expect("a process without a code was ended by a signal"))
}

fn collect(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
