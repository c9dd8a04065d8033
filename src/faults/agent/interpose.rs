//! Taking the place between a port's clients and the pod, for a while. What takes it is the only thing that differs between a pod of the
//! sandbox and one of a cluster: there the data plane is asked, here the kernel. In both, an entry that nobody renews expires by itself.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use tokio::net::TcpListener;

mod netlink;
mod nftables;
pub mod sandbox;
mod sockets;

use nftables::Nftables;
use sandbox::{Plane, Request};

/// Names the socket of the sandbox's data plane, in its pods.
const SOCKET_VARIABLE: &str = "SQUALL_INTERPOSE";
/// What to do where the kernel says no.
const NEEDS_NET_ADMIN: &str = "the agent needs the capability NET_ADMIN";

/// What happens to connections that are open when an entry comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Existing {
    /// They are reset, so that the change reaches clients that keep their connections.
    #[default]
    Reset,
    /// They stay as they are: only new connections notice.
    Leave,
}

/// What leads a pod's clients to it.
pub enum DataPlane {
    /// The sandbox's, on this socket.
    Sandbox(PathBuf),
    /// The kernel of the network namespace that this process is in.
    Kernel,
}

/// What is to be taken, and by whom.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The pod's own address.
    pub pod: SocketAddr,
    /// The proxy's.
    pub via: SocketAddr,
    pub existing: Existing,
    /// How long it lasts without being renewed.
    pub lease: Duration,
    /// What it is called where it needs a name.
    pub name: String,
}

/// A hold on the place; dropping it takes nothing back, but what it holds expires.
pub struct Interposer {
    entry: Entry,
    by: By,
}

enum By {
    Sandbox(Plane),
    Kernel(Nftables),
}

impl DataPlane {
    pub fn around() -> DataPlane {
        std::env::var_os(SOCKET_VARIABLE).map_or(DataPlane::Kernel, |socket| DataPlane::Sandbox(socket.into()))
    }

    /// Listens on the pod's address, so that connections can be led there.
    ///
    /// # Errors
    /// When the address is not this pod's, or the process may not listen for others.
    pub async fn listen(&self, ip: IpAddr) -> Result<TcpListener> {
        let listener = TcpListener::bind((ip, 0)).await.with_context(|| format!("cannot listen on the pod's address {ip}"))?;
        if let DataPlane::Kernel = self {
            // The kernel hands a socket only those connections of other addresses that it says it wants.
            let socket = SockRef::from(&listener);
            let wanted = if ip.is_ipv4() { socket.set_ip_transparent_v4(true) } else { socket.set_ip_transparent_v6(true) };
            wanted.context(NEEDS_NET_ADMIN)?;
        }
        Ok(listener)
    }

    /// Touches nothing yet.
    ///
    /// # Errors
    /// When what would have to be asked cannot be.
    pub fn interposer(&self, entry: Entry) -> Result<Interposer> {
        let by = match self {
            DataPlane::Sandbox(socket) => By::Sandbox(Plane::at(socket)),
            DataPlane::Kernel => By::Kernel(Nftables::open(&entry.name, entry.pod, entry.via, entry.lease, entry.existing)?),
        };
        Ok(Interposer { entry, by })
    }
}

impl Interposer {
    /// Takes the place, or renews that. Gives back the entries, as the data plane has them.
    ///
    /// # Errors
    /// When the data plane cannot be reached, does not answer in time, or refuses.
    pub async fn set(&mut self) -> Result<Vec<serde_json::Value>> {
        let Entry { pod, via, existing, lease, .. } = &self.entry;
        match &mut self.by {
            By::Sandbox(plane) => {
                let ttl_ms = lease.as_millis() as u64;
                plane.ask(&Request::Set { port: pod.port(), via: via.to_string(), ttl_ms, existing: *existing }).await
            }
            By::Kernel(nftables) => nftables.set(),
        }
    }

    /// Gives the place back, and proves it.
    ///
    /// # Errors
    /// As for [`set`](Self::set), and when the entry is still there.
    pub async fn clear(&mut self) -> Result<()> {
        let port = self.entry.pod.port();
        let table = match &mut self.by {
            By::Sandbox(plane) => plane.ask(&Request::Clear { port }).await?,
            By::Kernel(nftables) => nftables.clear()?,
        };
        if table.iter().any(|entry| entry["port"] == port) {
            bail!("the data plane still lists port {port} after it was cleared");
        }
        Ok(())
    }

    /// Connections that were open before and were reset; `None` where they are left, or where nobody counts them.
    pub fn reset(&self) -> Option<u64> {
        match &self.by {
            By::Sandbox(_) => None,
            By::Kernel(nftables) => nftables.reset(),
        }
    }
}
