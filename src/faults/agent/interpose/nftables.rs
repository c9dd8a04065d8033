//! The kernel as the data plane: a table of nftables of the agent's own in the network namespace that it runs in.
//!
//! ```text
//! table inet squall-… {
//!     set lease { type inet_service; flags timeout; elements = { 8080 timeout 5s expires … } }     renewed while all is well
//!     chain inbound { type filter hook prerouting priority mangle;
//!         iiftype != loopback  ip daddr POD  tcp dport @lease  tproxy ip to POD:PROXY }
//! }
//! ```
//!
//! `tproxy` hands the packets of new connections to the proxy's socket and changes nothing in them, so nothing has to be changed back:
//! no address is translated and no connection tracked. What it rests on goes in any order: without the element, which expires by
//! itself, connections meet the pod; without the proxy's socket they do too, at once; and the table belongs to the agent's netlink socket,
//! so that the kernel removes it when the agent is no more. Kernels before 5.12 know no such belonging: there an empty table is left,
//! which does nothing, and which the next agent removes.
//!
//! Connections that the pod has accepted itself are never taken over: `tproxy` leaves a packet to the socket that it is for.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;
use serde_json::json;

use super::netlink::{ACK, Attributes, CREATE, DUMP, EXCLUSIVE, Message, Netlink, Refused, attribute, attributes};
use super::sockets::Sockets;
use super::{Existing, NEEDS_NET_ADMIN};

/// What all tables of ours begin with.
const OURS: &str = "squall-";
const SET: &str = "lease";
const CHAIN: &str = "inbound";
/// A name of nftables may be longer, but nobody could read it.
const NAME_MOST: usize = 63;

/// The port that connections are taken from, and who gets them.
pub struct Nftables {
    netlink: Netlink,
    /// Where connections are reset; opened only where that is asked for.
    sockets: Option<Sockets>,
    table: String,
    pod: SocketAddr,
    via: SocketAddr,
    lease: Duration,
    active: bool,
    reset: u64,
}

/// An element of a set of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Element {
    port: u16,
    /// What is left to it.
    expires: Duration,
}

impl Nftables {
    /// Touches nothing yet.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or lacks what this needs.
    pub fn open(table: &str, pod: SocketAddr, via: SocketAddr, lease: Duration, existing: Existing) -> Result<Nftables> {
        if !table.starts_with(OURS) || table.len() > NAME_MOST || !table.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            bail!(
                "`{table}` is no name of a table of ours: use `{OURS}` and at most {} letters and digits",
                NAME_MOST - OURS.len()
            );
        }
        let netlink = Netlink::open(NETFILTER).context("cannot speak to nftables")?;
        let sockets = if existing == Existing::Reset { Some(Sockets::open()?) } else { None };
        Ok(Nftables { netlink, sockets, table: table.to_owned(), pod, via, lease, active: false, reset: 0 })
    }

    /// Takes the port's new connections, or renews that, and gives back what the kernel holds.
    ///
    /// # Errors
    /// When the kernel refuses. It says what it lacks.
    pub fn set(&mut self) -> Result<Vec<serde_json::Value>> {
        if self.active {
            self.netlink.ask(&renewal(&self.table, self.pod.port(), self.lease))?;
            // Whoever was just being accepted when the table came is seen now.
            self.reset_others()?;
        } else {
            self.make_room()?;
            self.make()?;
            if let Err(error) = self.reset_others() {
                // A fault with half of its effect is none.
                let _ = self.clear();
                return Err(error);
            }
            self.active = true;
        }
        self.table()
    }

    fn reset_others(&mut self) -> Result<()> {
        if let Some(sockets) = &mut self.sockets {
            self.reset += sockets.reset(self.pod)?;
        }
        Ok(())
    }

    /// Gives the port back: the table is gone. Gives back what the kernel still holds of it, which is nothing.
    ///
    /// # Errors
    /// When the kernel does not say that it is gone.
    pub fn clear(&mut self) -> Result<Vec<serde_json::Value>> {
        let removal = Message::new(nft(DEL_TABLE), ACK, &family(INET), "to remove a table")
            .with(Attributes::new().text(TABLE_NAME, &self.table));
        match self.netlink.ask(&transaction(vec![removal])) {
            Ok(()) | Err(Refused { errno: Errno::NOENT, .. }) => {}
            Err(refused) => return Err(refused.into()),
        }
        self.table()
    }

    /// Connections that were open before and were reset; `None` where they are left.
    pub fn reset(&self) -> Option<u64> {
        self.sockets.as_ref().map(|_| self.reset)
    }

    /// Removes what agents left that are no more, and refuses where one is at work.
    fn make_room(&mut self) -> Result<()> {
        for table in self.tables()? {
            let elements = self.elements(&table)?;
            if let Some(element) = elements.iter().find(|element| element.port == self.pod.port()) {
                bail!(
                    "port {} is taken by another agent already (table {table}, for {}ms more): wait until it has ended",
                    element.port,
                    element.expires.as_millis()
                );
            }
            if elements.is_empty() {
                let removal = Message::new(nft(DEL_TABLE), ACK, &family(INET), "to remove an empty table")
                    .with(Attributes::new().text(TABLE_NAME, &table));
                match self.netlink.ask(&transaction(vec![removal])) {
                    // It belongs to an agent that is just beginning or ending, or has been removed by another.
                    Ok(()) | Err(Refused { errno: Errno::PERM | Errno::NOENT | Errno::BUSY, .. }) => {}
                    Err(refused) => return Err(refused.into()),
                }
            }
        }
        Ok(())
    }

    fn make(&mut self) -> Result<()> {
        let mut belongs = TABLE_BELONGS;
        loop {
            match self.netlink.ask(&creation(&self.table, belongs, self.pod, self.via, self.lease)) {
                Ok(()) => return Ok(()),
                // An older kernel: it leaves an empty table where this agent is killed.
                Err(Refused { errno: Errno::OPNOTSUPP | Errno::INVAL, what: A_TABLE }) if belongs != 0 => belongs = 0,
                Err(refused @ Refused { errno: Errno::NOENT, what: A_RULE }) => {
                    return Err(refused).context("the kernel lacks nft_tproxy (CONFIG_NFT_TPROXY), by which connections are taken");
                }
                Err(refused @ Refused { errno: Errno::PERM, .. }) => {
                    return Err(refused).context(NEEDS_NET_ADMIN);
                }
                Err(refused) => return Err(refused.into()),
            }
        }
    }

    /// The tables of ours.
    fn tables(&mut self) -> Result<Vec<String>> {
        let all = self.netlink.all(Message::new(nft(GET_TABLE), DUMP, &family(INET), "a list of tables"));
        let all = match all {
            Ok(all) => all,
            Err(refused @ Refused { errno: Errno::PERM, .. }) => return Err(refused).context(NEEDS_NET_ADMIN),
            Err(refused) => return Err(refused).context("nftables does not answer (the kernel needs CONFIG_NF_TABLES)"),
        };
        Ok(all.iter().filter_map(|(_, body)| table_of(body)).filter(|table| table.starts_with(OURS)).collect())
    }

    /// The elements of a table's set; none where there is no such table.
    fn elements(&mut self, table: &str) -> Result<Vec<Element>> {
        let question = Message::new(nft(GET_ELEMENTS), DUMP, &family(INET), "a list of elements")
            .with(Attributes::new().text(LIST_TABLE, table).text(LIST_SET, SET));
        match self.netlink.all(question) {
            Ok(all) => Ok(all.iter().flat_map(|(_, body)| elements_of(body)).collect()),
            Err(Refused { errno: Errno::NOENT, .. }) => Ok(Vec::new()),
            Err(refused) => Err(refused.into()),
        }
    }

    fn table(&mut self) -> Result<Vec<serde_json::Value>> {
        let table = self.table.clone();
        let via = self.via.to_string();
        let row = |element: Element| json!({"port": element.port, "via": via, "ttl_ms": element.expires.as_millis() as u64, "table": table});
        Ok(self.elements(&table)?.into_iter().map(row).collect())
    }
}

// What the kernel calls things: linux/netfilter/nfnetlink.h and linux/netfilter/nf_tables.h.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENTS: u16 = 12;
const GET_ELEMENTS: u16 = 13;
const DEL_ELEMENTS: u16 = 14;
/// Families of netfilter: both, and one.
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;

const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
/// The table goes with the socket that made it.
const TABLE_BELONGS: u32 = 2;

const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_ID: u16 = 10;
const SET_HAS_TIMEOUTS: u32 = 0x10;
/// What `nft` calls `inet_service`: for people who look.
const TYPE_SERVICE: u32 = 13;

const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_TIMEOUT: u16 = 4;
const ELEMENT_EXPIRATION: u16 = 5;
const VALUE: u16 = 1;

const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const PREROUTING: u32 = 0;
/// Before addresses are translated, by whomever.
const MANGLE: i32 = -150;
const ACCEPT: u32 = 1;

const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const REGISTER_1: u32 = 1;
const REGISTER_2: u32 = 2;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const META_IIFTYPE: u32 = 8;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
const LOOPBACK: u16 = 772;
const TCP: u8 = 6;

const A_TABLE: &str = "a table";
const A_RULE: &str = "a rule";

fn nft(kind: u16) -> u16 {
    (SUBSYSTEM << 8) | kind
}

/// What stands before the attributes.
fn family(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

/// All or nothing, at one moment.
fn transaction(within: Vec<Message>) -> Vec<Message> {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    let edge = |kind| Message::new(kind, 0, &[0, 0, high, low], "a transaction");
    let mut all = vec![edge(BATCH_BEGIN)];
    all.extend(within);
    all.push(edge(BATCH_END));
    all
}

fn creation(table: &str, flags: u32, pod: SocketAddr, via: SocketAddr, lease: Duration) -> Vec<Message> {
    let make = ACK | CREATE | EXCLUSIVE;
    let set = Attributes::new()
        .text(SET_TABLE, table)
        .text(SET_NAME, SET)
        .number(SET_FLAGS, SET_HAS_TIMEOUTS)
        .number(SET_KEY_TYPE, TYPE_SERVICE)
        .number(SET_KEY_LENGTH, 2)
        .number(SET_ID, 1);
    let hook = Attributes::new().number(HOOK_NUMBER, PREROUTING).bytes(HOOK_PRIORITY, &MANGLE.to_be_bytes());
    let chain = Attributes::new()
        .text(CHAIN_TABLE, table)
        .text(CHAIN_NAME, CHAIN)
        .nested(CHAIN_HOOK, hook)
        .number(CHAIN_POLICY, ACCEPT)
        .text(CHAIN_TYPE, "filter");
    let rule = Attributes::new().text(RULE_TABLE, table).text(RULE_CHAIN, CHAIN).nested(RULE_EXPRESSIONS, rule(pod, via));
    transaction(vec![
        Message::new(nft(NEW_TABLE), make, &family(INET), A_TABLE)
            .with(Attributes::new().text(TABLE_NAME, table).number(TABLE_FLAGS, flags)),
        Message::new(nft(NEW_SET), make, &family(INET), "a set with timeouts").with(set),
        Message::new(nft(NEW_CHAIN), make, &family(INET), "a chain before routing").with(chain),
        Message::new(nft(NEW_RULE), ACK | CREATE, &family(INET), A_RULE).with(rule),
        element(NEW_ELEMENTS, table, pod.port(), Some(lease)),
    ])
}

/// A new time for the element, at one moment. Older kernels do not change the time of one that is there, so it is taken out and put in
/// again; and one that has expired cannot be taken out, so that first there must be one.
fn renewal(table: &str, port: u16, lease: Duration) -> Vec<Message> {
    transaction(vec![
        element(NEW_ELEMENTS, table, port, Some(lease)),
        element(DEL_ELEMENTS, table, port, None),
        element(NEW_ELEMENTS, table, port, Some(lease)),
    ])
}

fn element(kind: u16, table: &str, port: u16, timeout: Option<Duration>) -> Message {
    let mut element = Attributes::new().nested(ELEMENT_KEY, Attributes::new().bytes(VALUE, &port.to_be_bytes()));
    if let Some(timeout) = timeout {
        element = element.bytes(ELEMENT_TIMEOUT, &(timeout.as_millis() as u64).to_be_bytes());
    }
    let list = Attributes::new()
        .text(LIST_TABLE, table)
        .text(LIST_SET, SET)
        .nested(LIST_ELEMENTS, Attributes::new().nested(LIST_ELEMENT, element));
    let flags = if kind == NEW_ELEMENTS { ACK | CREATE } else { ACK };
    Message::new(nft(kind), flags, &family(INET), "an element with a timeout").with(list)
}

/// `iiftype != loopback  meta nfproto F  ip daddr POD  meta l4proto tcp  tcp dport @lease  tproxy to VIA`
fn rule(pod: SocketAddr, via: SocketAddr) -> Attributes {
    let (family, destination, address): (u8, u32, Vec<u8>) = match pod.ip() {
        IpAddr::V4(ip) => (IPV4, 16, ip.octets().to_vec()),
        IpAddr::V6(ip) => (IPV6, 24, ip.octets().to_vec()),
    };
    let via_address = match via.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let lookup = Attributes::new().text(1, SET).number(2, REGISTER_1).number(4, 1);
    let tproxy = Attributes::new().number(1, u32::from(family)).number(2, REGISTER_1).number(3, REGISTER_2);
    let expressions = [
        // A pod that talks to itself, as the proxy does to the pod, goes by the loopback interface, whatever the address.
        meta(META_IIFTYPE),
        compare(NOT_EQUAL, &LOOPBACK.to_ne_bytes()),
        meta(META_NFPROTO),
        compare(EQUAL, &[family]),
        payload(NETWORK, destination, address.len()),
        compare(EQUAL, &address),
        meta(META_L4PROTO),
        compare(EQUAL, &[TCP]),
        payload(TRANSPORT, 2, 2),
        expression("lookup", lookup),
        immediate(REGISTER_1, &via_address),
        immediate(REGISTER_2, &via.port().to_be_bytes()),
        expression("tproxy", tproxy),
    ];
    expressions.into_iter().fold(Attributes::new(), |all, expression| all.nested(LIST_ELEMENT, expression))
}

fn expression(name: &str, data: Attributes) -> Attributes {
    Attributes::new().text(EXPRESSION_NAME, name).nested(EXPRESSION_DATA, data)
}

fn meta(key: u32) -> Attributes {
    expression("meta", Attributes::new().number(1, REGISTER_1).number(2, key))
}

fn compare(how: u32, with: &[u8]) -> Attributes {
    let data = Attributes::new().number(1, REGISTER_1).number(2, how).nested(3, Attributes::new().bytes(VALUE, with));
    expression("cmp", data)
}

fn payload(base: u32, offset: u32, length: usize) -> Attributes {
    expression("payload", Attributes::new().number(1, REGISTER_1).number(2, base).number(3, offset).number(4, length as u32))
}

fn immediate(register: u32, value: &[u8]) -> Attributes {
    expression("immediate", Attributes::new().number(1, register).nested(2, Attributes::new().bytes(VALUE, value)))
}

/// The name in a message about a table.
fn table_of(body: &[u8]) -> Option<String> {
    let name = attribute(body.get(4..)?, TABLE_NAME)?;
    Some(String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned())
}

/// The elements in a message about a set's.
fn elements_of(body: &[u8]) -> Vec<Element> {
    let list = body.get(4..).and_then(|all| attribute(all, LIST_ELEMENTS)).unwrap_or_default();
    let element = |(_, within): (u16, &[u8])| {
        let port = attribute(attribute(within, ELEMENT_KEY)?, VALUE)?.first_chunk()?;
        let expires = attribute(within, ELEMENT_EXPIRATION).or_else(|| attribute(within, ELEMENT_TIMEOUT));
        // Without a time it stays for ever, which none of ours does: whose it is then, it is at work.
        let expires = expires.and_then(|bytes| bytes.first_chunk()).map_or(u64::MAX, |ms| u64::from_be_bytes(*ms));
        Some(Element { port: u16::from_be_bytes(*port), expires: Duration::from_millis(expires) })
    };
    attributes(list).into_iter().filter_map(element).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn elements_are_read_with_what_is_left_of_their_time() {
        let key = |port: u16| Attributes::new().bytes(VALUE, &port.to_be_bytes());
        let list = Attributes::new()
            .nested(
                LIST_ELEMENT,
                Attributes::new()
                    .nested(ELEMENT_KEY, key(8080))
                    .bytes(ELEMENT_TIMEOUT, &5000_u64.to_be_bytes())
                    .bytes(ELEMENT_EXPIRATION, &1200_u64.to_be_bytes()),
            )
            .nested(LIST_ELEMENT, Attributes::new().nested(ELEMENT_KEY, key(9090)).bytes(ELEMENT_TIMEOUT, &3000_u64.to_be_bytes()))
            .nested(LIST_ELEMENT, Attributes::new().bytes(ELEMENT_TIMEOUT, &3000_u64.to_be_bytes()));
        let body = told(Attributes::new().text(LIST_TABLE, "squall-x").text(LIST_SET, SET).nested(LIST_ELEMENTS, list));
        let ms = Duration::from_millis;
        assert_eq!(elements_of(&body), [Element { port: 8080, expires: ms(1200) }, Element { port: 9090, expires: ms(3000) }]);
        assert_eq!(table_of(&body).as_deref(), Some("squall-x"));
        assert!(elements_of(&told(Attributes::new().text(LIST_TABLE, "squall-x"))).is_empty());
    }

    #[test]
    fn a_table_must_be_known_as_ours() {
        let at: SocketAddr = "10.0.0.2:8080".parse().unwrap();
        for name in ["filter", "squall-a b", "squall-\0", &format!("squall-{}", "x".repeat(60))] {
            let error = Nftables::open(name, at, at, Duration::from_secs(5), Existing::Leave).err().expect("it is refused");
            assert!(error.to_string().contains("no name of a table of ours"), "{error}");
        }
    }

    /// The body of a message with these attributes.
    fn told(attributes: Attributes) -> Vec<u8> {
        [family(INET).to_vec(), attributes.0].concat()
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (table_of(&bytes), elements_of(&bytes));
        }
    }
}
