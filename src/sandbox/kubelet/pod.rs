//! One pod: starts its containers, watches, restarts and ends them, and keeps its status true. It ends when its object is gone.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::net::unix::pipe;
use tokio::process::ChildStdin;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::environment::{environment, expand};
use super::log::Log;
use super::probe::{Finding, Kind, Probe};
use super::spawner::{Process, exit_code};
use super::status::{self, Facts};
use super::usage::Watched;
use super::{Inner, lock};
use crate::sandbox::network::interposition;
use crate::sandbox::objects::{Key, int, is_leaving, key};
use crate::sandbox::recorder::Severity;
use crate::sandbox::resource::PODS;
use crate::sandbox::store::{StoreError, seconds, text};
use crate::time::{monotonic_now, until, wall_now};

/// Notes that wait for a pod's worker.
const NOTES_MAX: usize = 64;
/// How long a container whose configuration is not there yet waits before it looks again.
const CONFIG_RETRY: Duration = Duration::from_secs(1);
/// A crash loop's pauses double up to so many times the first: 5 min at 10 s.
const BACKOFF_MAX: u32 = 30;
/// A run of so many first pauses ends a crash loop: 10 min at 10 s.
const BACKOFF_RESET: u32 = 60;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Init,
    Main,
    Ephemeral,
}

/// One container of the pod, over all its runs.
pub struct Slot {
    pub role: Role,
    pub name: String,
    pub spec: Value,
    /// `state` and `lastState` as the status has them.
    pub state: Value,
    pub last_state: Value,
    pub restarts: u32,
    /// Runs begun so far.
    pub runs: u32,
    /// Its startup probe has passed, or there is none.
    pub started: bool,
    pub ready: bool,
    pub id: Option<String>,
    process: Option<Process>,
    began: Option<Instant>,
    began_at: String,
    backoff: Duration,
    /// When to start it again.
    retry: Option<Instant>,
    /// It will not be started again.
    over: bool,
    /// When SIGTERM becomes SIGKILL.
    kill_at: Option<Instant>,
    probes: Vec<AbortHandle>,
}

impl Slot {
    fn new(role: Role, spec: &Value) -> Slot {
        Slot {
            role,
            name: spec["name"].as_str().unwrap_or_default().to_owned(),
            spec: spec.clone(),
            state: json!({"waiting": {"reason": "ContainerCreating"}}),
            last_state: json!({}),
            restarts: 0,
            runs: 0,
            started: false,
            ready: false,
            id: None,
            process: None,
            began: None,
            began_at: String::new(),
            backoff: Duration::ZERO,
            retry: None,
            over: false,
            kill_at: None,
            probes: vec![],
        }
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// It has ended and will not be started again.
    pub fn is_over(&self) -> bool {
        self.over
    }

    pub fn succeeded(&self) -> bool {
        self.over && self.state["terminated"]["exitCode"] == 0
    }

    pub fn gave_up(&self) -> bool {
        self.over && !self.succeeded()
    }

    /// It waits for something that is wrong with it.
    fn was_refused(&self) -> bool {
        !self.state["waiting"]["message"].is_null()
    }

    fn is_fresh(&self) -> bool {
        self.runs == 0 && self.process.is_none() && self.retry.is_none() && !self.over && !self.was_refused()
    }

    fn field(&self) -> String {
        let list = match self.role {
            Role::Init => "initContainers",
            Role::Main => "containers",
            Role::Ephemeral => "ephemeralContainers",
        };
        format!("spec.{list}{{{}}}", self.name)
    }

    fn stop_probes(&mut self) {
        self.probes.drain(..).for_each(|probe| probe.abort());
    }
}

enum Note {
    Ended { slot: usize, run: u32 },
    Probed { slot: usize, run: u32, kind: Kind, finding: Finding },
}

/// Runs one pod.
pub(super) struct Worker {
    kubelet: Arc<Inner>,
    pod: Arc<Value>,
    at: Key,
    uid: String,
    ip: Ipv4Addr,
    started_at: String,
    slots: Vec<Slot>,
    notes: mpsc::Receiver<Note>,
    tell: mpsc::Sender<Note>,
    tasks: JoinSet<()>,
    interposes: Option<PathBuf>,
    /// Its network is there: containers may start.
    has_network: bool,
    /// The pod is on its way out: no container starts any more.
    ending: bool,
    /// Its object is gone, or nobody looks at it any more.
    unlisted: bool,
}

impl Worker {
    pub(super) fn new(kubelet: Arc<Inner>, pod: &Arc<Value>, ip: Ipv4Addr) -> Worker {
        let list = |field: &str, role| {
            pod["spec"][field].as_array().into_iter().flatten().map(move |spec| Slot::new(role, spec)).collect::<Vec<_>>()
        };
        let mut slots = list("initContainers", Role::Init);
        let waiting = if slots.is_empty() { "ContainerCreating" } else { "PodInitializing" };
        slots.extend(list("containers", Role::Main));
        slots.iter_mut().for_each(|slot| slot.state = json!({"waiting": {"reason": waiting}}));
        let (tell, notes) = mpsc::channel(NOTES_MAX);
        Worker {
            kubelet,
            at: key(pod),
            uid: text(pod, "uid").to_owned(),
            pod: pod.clone(),
            ip,
            started_at: seconds(wall_now()),
            slots,
            notes,
            tell,
            tasks: JoinSet::new(),
            interposes: None,
            has_network: false,
            ending: false,
            unlisted: false,
        }
    }

    /// Until the pod's object is gone and all its processes are.
    pub(super) async fn run(mut self, mut orders: watch::Receiver<Option<Arc<Value>>>) {
        let mut stopping = self.kubelet.stopping.subscribe();
        self.warn_of_volumes();
        self.publish();
        // A node makes the pod's network first, and says so before anything runs in it.
        self.has_network = true;
        self.publish();
        loop {
            self.advance().await;
            self.publish();
            let running = self.slots.iter().any(Slot::is_running);
            if self.ending && !running {
                break;
            }
            let alarm = self.slots.iter().filter_map(|s| s.kill_at.or(s.retry)).min();
            tokio::select! {
                changed = orders.changed() => {
                    let order = orders.borrow_and_update().clone();
                    match order.filter(|_| changed.is_ok()) {
                        Some(pod) => self.obey(pod).await,
                        None => self.force_out(),
                    }
                }
                Some(note) = self.notes.recv() => self.hear(note),
                () = until(alarm) => self.ring(),
                grace = asked_to_stop(&mut stopping), if !self.unlisted => {
                    self.unlisted = true;
                    self.end(grace, "");
                }
                Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => (),
            }
        }
        self.finish().await;
    }

    /// Starts what can be started now.
    async fn advance(&mut self) {
        if self.ending {
            return;
        }
        let now = monotonic_now();
        let due = |slot: &Slot| slot.is_fresh() || slot.retry.is_some_and(|at| at <= now);
        let first_init = self.slots.iter().position(|s| s.role == Role::Init && !s.succeeded());
        let ready: Vec<usize> = match first_init {
            Some(i) if self.slots[i].gave_up() => {
                // An init container that will not be tried again takes the pod with it.
                for slot in self.slots.iter_mut().filter(|s| s.role == Role::Main) {
                    slot.over = true;
                }
                vec![]
            }
            Some(i) => vec![i].into_iter().filter(|i| due(&self.slots[*i])).collect(),
            None => (0..self.slots.len()).filter(|i| self.slots[*i].role != Role::Init && due(&self.slots[*i])).collect(),
        };
        for i in ready {
            self.slots[i].retry = None;
            self.start(i).await;
        }
    }

    async fn start(&mut self, i: usize) {
        let (command, output) = match self.command(i) {
            Ok(made) => made,
            Err(refusal) => return self.refuse(i, refusal),
        };
        let image = self.slots[i].spec["image"].as_str().unwrap_or_default().to_owned();
        let pulled = format!("Container image {image:?} already present on machine and can be accessed by the pod");
        let program = command.get_program().to_string_lossy().into_owned();
        let restart = self.slots[i].runs > 0;
        let slot = &mut self.slots[i];
        slot.runs += 1;
        let run = slot.runs;
        slot.id = Some(format!("process://{}/{}/{run}", self.uid, slot.name));
        slot.began_at = seconds(wall_now());
        if restart {
            slot.restarts += 1;
            if !slot.state["terminated"].is_null() {
                slot.last_state = slot.state.take();
            }
        }
        self.say(i, Severity::Normal, "Pulled", &pulled);
        let mut process = match self.kubelet.spawner.spawn(command).await {
            Ok(process) => process,
            Err(error) => return self.failed_to_start(i, &program, &error),
        };
        let (stdin, ended) = match process.ended() {
            Ok(ended) => (process.take_stdin(), ended),
            Err(error) => return self.failed_to_start(i, &program, &error),
        };
        self.say(i, Severity::Normal, "Created", "Container created");
        let stdin = stdin.and_then(|stdin| ChildStdin::from_std(stdin).ok());
        let log = Log::create(self.kubelet.dir().join(format!("{}-{}-{run}.log", self.uid, self.slots[i].name)));
        match log.and_then(|log| Ok((log, pipe::Receiver::from_owned_fd(output)?))) {
            Ok((log, output)) => {
                let once = self.slots[i].spec["stdinOnce"] == true;
                let streams = self.kubelet.streams_of(&self.uid, &self.slots[i].name);
                self.tasks.spawn(streams.begin(log, output, stdin, once));
                self.drop_old_logs(i);
            }
            Err(error) => return self.failed_to_start(i, &program, &error),
        }
        let tell = self.tell.clone();
        self.tasks.spawn(async move {
            ended.await;
            // A worker that is gone has ended it itself.
            let _ = tell.send(Note::Ended { slot: i, run }).await;
        });
        let watched =
            Watched { pod: self.at.clone(), container: self.slots[i].name.clone(), pid: process.pid(), since: monotonic_now() };
        lock(&self.kubelet.running).insert(process.pid(), watched);
        let slot = &mut self.slots[i];
        slot.state = json!({"running": {"startedAt": slot.began_at}});
        slot.began = Some(monotonic_now());
        slot.process = Some(process);
        slot.started = false;
        slot.ready = false;
        self.say(i, Severity::Normal, "Started", "Container started");
        self.begin_probes(i);
    }

    /// The command of a container, and where its output will come out.
    fn command(&mut self, i: usize) -> Result<(Command, OwnedFd), Refusal> {
        let slot = &self.slots[i];
        let spec = slot.spec.clone();
        let words = |field: &str| -> Vec<String> {
            spec[field].as_array().into_iter().flatten().filter_map(|w| w.as_str().map(str::to_owned)).collect()
        };
        let command = words("command");
        if command.is_empty() {
            let image = slot.spec["image"].as_str().unwrap_or_default();
            return Err(Refusal::Image(format!(
                "container image {image:?} cannot be run: the sandbox runs commands of this machine, not images; give container {:?} \
                 a command, as in command: [python3, -m, http.server, --bind, $(POD_IP)]",
                slot.name
            )));
        }
        let mut own = vec![
            ("POD_IP", self.ip.to_string()),
            ("POD_NAME", self.at.1.clone()),
            ("POD_NAMESPACE", self.at.0.clone()),
            ("SQUALL_SANDBOX", self.kubelet.setup.marker.clone()),
        ];
        if slot.role == Role::Ephemeral {
            let path = self.interposition().map_err(Refusal::Config)?;
            own.push(("SQUALL_INTERPOSE", path.display().to_string()));
        }
        let slot = &self.slots[i];
        let mut pod = (*self.pod).clone();
        pod["status"]["podIP"] = json!(self.ip.to_string());
        pod["status"]["hostIP"] = json!(self.kubelet.setup.block.api().to_string());
        let mut env = environment(&self.kubelet.setup.store, &pod, &slot.spec, &own).map_err(Refusal::Config)?;
        // The mark by which a sandbox's processes are found is not a container's to change.
        env.insert("SQUALL_SANDBOX".into(), self.kubelet.setup.marker.clone());
        let mut line = command.iter().chain(words("args").iter()).map(|word| expand(word, &env)).collect::<Vec<_>>().into_iter();
        let program = line.next().unwrap_or_default();
        let program = if program == "squall" { self.kubelet.setup.squall.clone() } else { program.into() };
        let broken = |error: std::io::Error| Refusal::Config(format!("failed to make a pipe for its output: {error}"));
        let (read, write) = std::io::pipe().map_err(broken)?;
        let mut command = Command::new(program);
        command.args(line).env_clear().envs(&env);
        command.stdout(write.try_clone().map_err(broken)?).stderr(write);
        command.stdin(if slot.spec["stdin"] == true { Stdio::piped() } else { Stdio::null() });
        if let Some(dir) = slot.spec["workingDir"].as_str().filter(|dir| !dir.is_empty()) {
            command.current_dir(expand(dir, &env));
        }
        Ok((command, read.into()))
    }

    /// The pod's interposition socket, made when the first agent wants it.
    fn interposition(&mut self) -> Result<PathBuf, String> {
        if let Some(path) = &self.interposes {
            return Ok(path.clone());
        }
        // Short: a socket's path has 108 bytes at most.
        let path = self.kubelet.dir().join(format!("i{}", u32::from(self.ip) & 0xffff));
        let listener = UnixListener::bind(&path).map_err(|error| format!("failed to listen on {}: {error}", path.display()))?;
        self.tasks.spawn(interposition::serve(listener, self.kubelet.setup.network.clone(), self.ip));
        self.interposes = Some(path.clone());
        Ok(path)
    }

    fn refuse(&mut self, i: usize, refusal: Refusal) {
        let slot = &mut self.slots[i];
        match refusal {
            Refusal::Image(message) => {
                slot.state = json!({"waiting": {"reason": "ErrImageNeverPull", "message": message}});
                self.say(i, Severity::Warning, "ErrImageNeverPull", &message);
                self.say(i, Severity::Warning, "Failed", "Error: ErrImageNeverPull");
            }
            Refusal::Config(message) => {
                slot.state = json!({"waiting": {"reason": "CreateContainerConfigError", "message": message}});
                slot.retry = Some(monotonic_now() + CONFIG_RETRY);
                self.say(i, Severity::Warning, "Failed", &format!("Error: {message}"));
            }
        }
    }

    /// The system refused to run the command: a run that ended before it began.
    fn failed_to_start(&mut self, i: usize, program: &str, error: &std::io::Error) {
        let why = match error.kind() {
            std::io::ErrorKind::NotFound if program.contains('/') => {
                "no such file or directory, or its working directory is missing"
            }
            std::io::ErrorKind::NotFound => "executable file not found in $PATH, or its working directory is missing",
            std::io::ErrorKind::PermissionDenied => "permission denied",
            _ => &error.to_string(),
        };
        let message = format!("exec: {program:?}: {why}");
        self.say(i, Severity::Warning, "Failed", &format!("Error: {message}"));
        let slot = &self.slots[i];
        let ended = json!({"exitCode": 128, "reason": "StartError", "message": message, "startedAt": slot.began_at,
            "finishedAt": seconds(wall_now()), "containerID": slot.id});
        self.after_end(i, ended, 128, Duration::ZERO);
    }

    fn begin_probes(&mut self, i: usize) {
        let slot = &self.slots[i];
        if slot.role != Role::Main {
            self.slots[i].started = true;
            return;
        }
        if Probe::read(&self.pod, &slot.spec, Kind::Startup).is_some() {
            self.probe(i, Kind::Startup);
        } else {
            self.has_started(i);
        }
    }

    /// The startup probe has passed, or there was none.
    fn has_started(&mut self, i: usize) {
        self.slots[i].started = true;
        let has = |kind| Probe::read(&self.pod, &self.slots[i].spec, kind).is_some();
        let (readiness, liveness) = (has(Kind::Readiness), has(Kind::Liveness));
        if readiness {
            self.probe(i, Kind::Readiness);
        } else {
            self.slots[i].ready = true;
        }
        if liveness {
            self.probe(i, Kind::Liveness);
        }
    }

    fn probe(&mut self, i: usize, kind: Kind) {
        let Some(probe) = Probe::read(&self.pod, &self.slots[i].spec, kind) else { return };
        let (tell, run, ip) = (self.tell.clone(), self.slots[i].runs, self.ip);
        let network = self.kubelet.setup.network.clone();
        let handle = self.tasks.spawn(async move {
            let (findings, mut found) = mpsc::channel(1);
            let probing = probe.run(network, ip, findings);
            let telling = async {
                while let Some((kind, finding)) = found.recv().await {
                    if tell.send(Note::Probed { slot: i, run, kind, finding }).await.is_err() {
                        return;
                    }
                }
            };
            tokio::join!(probing, telling);
        });
        self.slots[i].probes.push(handle);
    }

    fn hear(&mut self, note: Note) {
        match note {
            Note::Ended { slot, run } if self.slots[slot].runs == run => self.reap(slot),
            Note::Probed { slot, run, kind, finding } if self.slots[slot].runs == run && self.slots[slot].is_running() => {
                self.judge(slot, kind, finding);
            }
            // Of a run that is over.
            Note::Ended { .. } | Note::Probed { .. } => (),
        }
    }

    fn judge(&mut self, i: usize, kind: Kind, finding: Finding) {
        match (kind, finding) {
            (Kind::Startup, Finding::Passed) if !self.slots[i].started => {
                self.slots[i].stop_probes();
                self.has_started(i);
            }
            (Kind::Readiness, Finding::Passed) => self.slots[i].ready = true,
            (Kind::Readiness, Finding::FailedForGood) => self.slots[i].ready = false,
            (_, Finding::Passed) => (),
            (kind, Finding::Failed(why)) => {
                self.say(i, Severity::Warning, "Unhealthy", &format!("{} probe failed: {why}", kind.word()));
            }
            (kind, Finding::FailedForGood) => {
                if self.ending || self.slots[i].kill_at.is_some() {
                    return;
                }
                let word = kind.word().to_lowercase();
                let message = format!("Container {} failed {word} probe, will be restarted", self.slots[i].name);
                self.say(i, Severity::Normal, "Killing", &message);
                let grace = int(&self.pod["spec"]["terminationGracePeriodSeconds"], 30).max(0) as u64;
                self.terminate(i, Duration::from_secs(grace));
            }
        }
    }

    /// SIGTERM now, SIGKILL after `grace`; with none, SIGKILL now.
    fn terminate(&mut self, i: usize, grace: Duration) {
        let slot = &mut self.slots[i];
        let Some(process) = &slot.process else { return };
        if grace.is_zero() {
            process.signal(Signal::KILL);
            slot.kill_at = None;
            return;
        }
        let at = monotonic_now() + grace;
        if slot.kill_at.is_none() {
            process.signal(Signal::TERM);
        }
        // A second order can only shorten the grace.
        slot.kill_at = Some(slot.kill_at.map_or(at, |before| before.min(at)));
    }

    fn ring(&mut self) {
        let now = monotonic_now();
        for slot in &mut self.slots {
            if slot.kill_at.is_some_and(|at| at <= now)
                && let Some(process) = &slot.process
            {
                process.signal(Signal::KILL);
                slot.kill_at = None;
            }
        }
    }

    fn reap(&mut self, i: usize) {
        let slot = &mut self.slots[i];
        let Some(process) = slot.process.take() else { return };
        lock(&self.kubelet.running).remove(&process.pid());
        slot.stop_probes();
        slot.kill_at = None;
        let code = process.reap().map(exit_code).unwrap_or(255);
        let reason = if code == 0 { "Completed" } else { "Error" };
        let ended = json!({"exitCode": code, "reason": reason, "startedAt": slot.began_at, "finishedAt": seconds(wall_now()),
            "containerID": slot.id});
        let lasted = slot.began.map_or(Duration::ZERO, |began| monotonic_now().duration_since(began));
        self.after_end(i, ended, code, lasted);
    }

    /// A run has ended: for good, or to be tried again now or after a pause.
    fn after_end(&mut self, i: usize, ended: Value, code: i32, lasted: Duration) {
        let policy = self.pod["spec"]["restartPolicy"].as_str().unwrap_or("Always").to_owned();
        let first_pause = self.kubelet.setup.crash_backoff;
        let slot = &mut self.slots[i];
        slot.state = json!({"terminated": ended});
        slot.ready = false;
        slot.started = false;
        let again = match slot.role {
            Role::Ephemeral => false,
            Role::Init => code != 0 && policy != "Never",
            Role::Main => policy == "Always" || (policy == "OnFailure" && code != 0),
        };
        if self.ending || !again {
            slot.over = true;
            return;
        }
        if lasted >= first_pause * BACKOFF_RESET {
            slot.backoff = Duration::ZERO;
        }
        let pause = slot.backoff;
        slot.backoff = (pause * 2).clamp(first_pause, first_pause * BACKOFF_MAX);
        slot.retry = Some(monotonic_now() + pause);
        // How it ended is told before what comes of it.
        self.publish();
        if pause.is_zero() {
            return;
        }
        let slot = &mut self.slots[i];
        let (ns, pod) = &self.at;
        let whom = format!("{pod}_{ns}({})", self.uid);
        let message = format!("back-off {} restarting failed container={} pod={whom}", spelled(pause), slot.name);
        slot.last_state =
            std::mem::replace(&mut slot.state, json!({"waiting": {"reason": "CrashLoopBackOff", "message": message}}));
        let message = format!("Back-off restarting failed container {} in pod {whom}", slot.name);
        self.say(i, Severity::Warning, "BackOff", &message);
    }

    /// The pod's object has changed.
    async fn obey(&mut self, pod: Arc<Value>) {
        self.pod = pod;
        if is_leaving(&self.pod) {
            let grace = int(&self.pod["metadata"]["deletionGracePeriodSeconds"], 30).max(0) as u64;
            self.end(Duration::from_secs(grace), "Stopping container");
            return;
        }
        let known: Vec<String> = self.slots.iter().map(|s| s.name.clone()).collect();
        let asked = self.pod["spec"]["ephemeralContainers"].as_array().cloned().unwrap_or_default();
        for spec in asked.iter().filter(|spec| !known.iter().any(|name| spec["name"] == *name)) {
            self.slots.push(Slot::new(Role::Ephemeral, spec));
        }
    }

    /// Ends all containers; `word` says so in events, where it is not empty.
    fn end(&mut self, grace: Duration, word: &str) {
        let first = !std::mem::replace(&mut self.ending, true);
        for i in 0..self.slots.len() {
            if self.slots[i].is_running() {
                if first && !word.is_empty() {
                    let message = format!("{word} {}", self.slots[i].name);
                    self.say(i, Severity::Normal, "Killing", &message);
                }
                self.terminate(i, grace);
            } else {
                self.slots[i].retry = None;
            }
        }
    }

    /// The object is gone already, so are the processes in a moment.
    fn force_out(&mut self) {
        self.unlisted = true;
        self.end(Duration::ZERO, "Stopping container");
    }

    /// All processes are gone: the status says how they ended, and the object goes.
    async fn finish(mut self) {
        for slot in self.slots.iter_mut().filter(|s| !s.over) {
            slot.over = true;
            if slot.state["terminated"].is_null() {
                slot.state = if slot.last_state["terminated"].is_null() {
                    json!({"terminated": {"exitCode": 137, "reason": status::UNKNOWN, "startedAt": null, "finishedAt": null,
                        "message": "The container could not be located when the pod was terminated"}})
                } else {
                    slot.last_state.clone()
                };
            }
        }
        if !self.unlisted {
            self.publish();
            let (ns, name) = &self.at;
            let same = self.kubelet.setup.store.get(&PODS, ns, name).is_some_and(|pod| text(&pod, "uid") == self.uid);
            if same {
                // Somebody else may have been faster.
                let _ = self.kubelet.setup.store.delete(&PODS, ns, name);
            }
        }
        self.tasks.shutdown().await;
        if let Some(path) = &self.interposes {
            let _ = std::fs::remove_file(path);
        }
        for slot in &self.slots {
            for run in slot.runs.saturating_sub(1)..=slot.runs {
                let _ = std::fs::remove_file(self.kubelet.dir().join(format!("{}-{}-{run}.log", self.uid, slot.name)));
            }
        }
        self.kubelet.forget(&self.uid, self.ip);
    }

    /// Only the present and the previous run's logs are kept.
    fn drop_old_logs(&self, i: usize) {
        let slot = &self.slots[i];
        if let Some(old) = slot.runs.checked_sub(2).filter(|run| *run > 0) {
            let _ = std::fs::remove_file(self.kubelet.dir().join(format!("{}-{}-{old}.log", self.uid, slot.name)));
        }
    }

    /// Writes the status, if it is not what the object says already.
    fn publish(&mut self) {
        if self.unlisted {
            return;
        }
        let host_ip = self.kubelet.setup.block.api().to_string();
        let ip = self.ip.to_string();
        let has_address = self.slots.iter().any(|slot| slot.runs > 0 || slot.was_refused());
        let has_network = self.has_network;
        let facts = Facts { ip: &ip, host_ip: &host_ip, started_at: &self.started_at, has_network, has_address };
        let (ns, name) = &self.at;
        let written = self.kubelet.setup.store.update(&PODS, ns, name, |pod| {
            if text(pod, "uid") != self.uid {
                return Err(StoreError::Refused("another pod has taken the name".into()));
            }
            status::write(pod, &self.slots, &facts);
            Ok(())
        });
        if written.is_err() && !self.ending {
            self.force_out();
        }
    }

    fn say(&self, i: usize, severity: Severity, reason: &str, message: &str) {
        if !self.unlisted || reason == "Killing" {
            self.kubelet.recorder.record(&self.pod, Some(&self.slots[i].field()), severity, reason, message);
        }
    }

    fn warn_of_volumes(&self) {
        let volumes = self.pod["spec"]["volumes"].as_array().into_iter().flatten();
        let names: Vec<&str> = volumes.filter(|v| v["projected"].is_null()).filter_map(|v| v["name"].as_str()).collect();
        if !names.is_empty() {
            let message =
                format!("the sandbox mounts no volumes: {} will not be there; pods see this machine's files", names.join(", "));
            self.kubelet.recorder.warning(&self.pod, "FailedMount", &message);
        }
    }
}

/// Waits until the sandbox stops; with how much grace.
async fn asked_to_stop(stopping: &mut watch::Receiver<Option<Duration>>) -> Duration {
    match stopping.wait_for(Option::is_some).await {
        Ok(grace) => grace.unwrap_or_default(),
        // The kubelet itself is gone.
        Err(_) => Duration::ZERO,
    }
}

/// Why a container cannot be started.
enum Refusal {
    /// It has no command; nothing will change that.
    Image(String),
    /// Something that it refers to is not there yet.
    Config(String),
}

/// A pause as Go writes it: `10s`, `1m20s`, `200ms`.
fn spelled(pause: Duration) -> String {
    let (seconds, millis) = (pause.as_secs(), pause.subsec_millis());
    match (seconds / 60, seconds % 60) {
        (0, 0) => format!("{millis}ms"),
        (0, s) if millis > 0 => format!("{s}.{millis:03}").trim_end_matches('0').to_owned() + "s",
        (0, s) => format!("{s}s"),
        (m, s) => format!("{m}m{s}s"),
    }
}
