//! `squall sandbox`: an embedded cluster to keep.

use std::path::PathBuf;
use std::time::Duration;

use crate::exit::{Exit, Failure};
use crate::run::Interrupts;
use crate::sandbox::keeper::keep;
use crate::sandbox::{Sandbox, SandboxConfig};
use crate::units::Span;

/// What to do with a sandbox.
#[derive(clap::Args)]
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
    /// Write the kubeconfig here; without it, into the sandbox's own folder.
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
    let config = SandboxConfig {
        keeper: std::env::current_exe().ok(),
        autoscaler_sync: up.autoscaler_sync.duration(),
        ..SandboxConfig::default()
    };
    let sandbox = Sandbox::start(config).await.map_err(|error| Failure::new(Exit::Environment, format!("{error:#}")))?;
    let kubeconfig = up.kubeconfig.unwrap_or_else(|| sandbox.dir().join("kubeconfig"));
    let written = write_private(&kubeconfig, sandbox.kubeconfig());
    if let Err(error) = written {
        sandbox.stop().await;
        let message =
            format!("failed to write the kubeconfig `{}`: {error}; name a writable file with --kubeconfig", kubeconfig.display());
        return Err(Failure::new(Exit::Environment, message));
    }
    super::tell(&format!("sandbox {} is up; Ctrl-C ends it and every pod in it", sandbox.id()));
    let place = std::path::absolute(&kubeconfig).unwrap_or_else(|_| kubeconfig.clone());
    super::print(&format!("export KUBECONFIG={}\n", place.display()))?;
    let interrupt = interrupts.next().await;
    super::tell(&format!("{}: ending the sandbox", interrupt.name()));
    tokio::select! {
        () = sandbox.stop() => {}
        _ = interrupts.next() => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => {}
    }
    let _ = std::fs::remove_file(&kubeconfig);
    Ok(Exit::Pass)
}

/// The file holds a token that can run commands: only its owner may read it.
fn write_private(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}
