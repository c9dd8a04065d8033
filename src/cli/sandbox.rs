//! `squall sandbox`: an embedded cluster to keep.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::exit::{Exit, Failure};
use crate::run::Interrupts;
use crate::sandbox::keeper::keep;
use crate::sandbox::{Sandbox, SandboxConfig, kubeconfig};
use crate::units::Span;

/// How long the API of a sandbox on this machine may take to accept a connection.
const ANSWER: Duration = Duration::from_secs(1);

/// What to do with a sandbox.
#[derive(clap::Args)]
#[command(after_help = "`squall list` names every kind of object that it serves, and what it does with it.")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Start one and keep it until Ctrl-C. Any number run side by side.
    Up(Up),
    /// Outlive a sandbox's holder and end what it leaves. People never type it.
    #[command(hide = true)]
    Keep { holder: u32, id: String, dir: PathBuf },
}

/// How it starts.
#[derive(clap::Args)]
struct Up {
    /// Write the kubeconfig here, into a new file; without it, into the sandbox's own folder.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// How often the autoscaler looks (15 s in a real cluster).
    #[arg(long, value_name = "SPAN", default_value = "1s")]
    autoscaler_sync: Span,
}

pub fn main(args: Args) -> Result<Exit, Failure> {
    match args.command {
        Command::Up(up) => super::runtime()?.block_on(hold(up)),
        Command::Keep { holder, id, dir } => match keep(holder, &id, &dir) {
            Ok(()) => Ok(Exit::Pass),
            Err(error) => Err(Failure::new(Exit::Environment, format!("failed to watch process {holder}: {error}"))),
        },
    }
}

async fn hold(up: Up) -> Result<Exit, Failure> {
    let mut interrupts = Interrupts::listen()?;
    if let Some(file) = &up.kubeconfig {
        make_way(file)?;
    }
    let config = SandboxConfig {
        keeper: std::env::current_exe().ok(),
        autoscaler_sync: up.autoscaler_sync.duration(),
        ..SandboxConfig::default()
    };
    let sandbox = Sandbox::start(config).await.map_err(|error| Failure::new(Exit::Environment, format!("{error:#}")))?;
    let file = up.kubeconfig.unwrap_or_else(|| sandbox.dir().join("kubeconfig"));
    let text = sandbox.kubeconfig().to_owned();
    if let Err(error) = kubeconfig::write_new(&file, &text) {
        sandbox.stop().await;
        let message =
            format!("failed to write the kubeconfig `{}`: {error}; name a writable file with --kubeconfig", file.display());
        return Err(Failure::new(Exit::Environment, message));
    }
    super::tell(&format!("sandbox {} is up; Ctrl-C ends it and every pod in it", sandbox.id()));
    let place = std::path::absolute(&file).unwrap_or_else(|_| file.clone());
    super::print(&format!("export KUBECONFIG={}\n", place.display()))?;
    let interrupt = interrupts.next().await;
    super::tell(&format!("{}: ending the sandbox", interrupt.name()));
    tokio::select! {
        () = sandbox.stop() => {}
        _ = interrupts.again() => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => {}
    }
    // Another sandbox, or a person, may have put something else there.
    if std::fs::read_to_string(&file).is_ok_and(|now| now == text) {
        let _ = std::fs::remove_file(&file);
    }
    Ok(Exit::Pass)
}

/// Makes way for a kubeconfig: removes one that a sandbox left which is dead, and refuses whatever else is there.
fn make_way(file: &Path) -> Result<(), Failure> {
    let refuse = |why: &str| {
        let message = format!("`{}` {why}, and is not written over: name a new file with --kubeconfig", file.display());
        Err(Failure::new(Exit::Usage, message))
    };
    match std::fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(_) => refuse("is there already"),
        Ok(text) => match kubeconfig::server_in(&text) {
            None => refuse("is there already"),
            Some(server) if TcpStream::connect_timeout(&server, ANSWER).is_ok() => refuse("leads to a sandbox that lives"),
            Some(_) => std::fs::remove_file(file).or_else(|error| refuse(&format!("cannot be removed ({error})"))),
        },
    }
}
