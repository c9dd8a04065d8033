//! `squall load`: one URL under load, in one line. It builds a plan in memory and runs it.

use crate::cluster::access::Reach;
use crate::exit::{Exit, Failure};
use crate::plan::{Adhoc, AdhocCall, AdhocTls, Arrivals, Generator, Pacing, PhaseRate, PhaseUsers, Plan, Protocol, USUAL, Volume};
use crate::units::{Ratio, Span};

/// The request, the rate and the promises.
#[derive(clap::Args)]
pub struct Args {
    /// What to call: `http://host/path` or `https://host/path`; a method of gRPC as `grpc://host:port/package.Service/Method`, or
    /// `grpcs://` for TLS; a WebSocket as `ws://host/path`, or `wss://` for TLS.
    url: String,
    /// Requests per second, with the unit: `1000/s`; a ramp is `10/s -> 1000/s`.
    #[arg(long, required_unless_present = "users")]
    rate: Option<PhaseRate>,
    /// A closed model, in place of a rate: so many users, each of whom sends when the answer before has come. `64`, or a ramp, `1 -> 64`.
    #[arg(long, conflicts_with_all = ["rate", "arrivals"])]
    users: Option<PhaseUsers>,
    /// How long a user waits after an answer before sending again.
    #[arg(long, value_name = "SPAN", requires = "users")]
    think: Option<Span>,
    /// For how long: `10s`.
    #[arg(long = "for", value_name = "SPAN")]
    length: Span,
    /// How requests come due, as a plan says it: `poisson`, `herd: {of: 100}`, ...; `squall list` shows them all.
    #[arg(long, default_value = "constant", value_name = "PROCESS", value_parser = arrivals)]
    arrivals: Arrivals,
    /// The HTTP method; POST when there is a body, else GET.
    #[arg(long, short = 'X')]
    method: Option<String>,
    /// A header, or a key of gRPC's metadata; may be given again.
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The body, or the message that is sent over a WebSocket.
    #[arg(long = "data", short = 'd')]
    body: Option<String>,
    /// The message of a call of gRPC, as JSON.
    #[arg(long, value_name = "JSON")]
    message: Option<String>,
    /// A file with the types of a service of gRPC (`protoc --include_imports --descriptor_set_out=FILE`); without it the server is asked.
    #[arg(long, value_name = "FILE")]
    descriptors: Option<String>,
    /// How long to wait for an answer, from the moment a request was due.
    #[arg(long)]
    timeout: Option<Span>,
    /// Promise: 99 in 100 answers come within this.
    #[arg(long, value_name = "SPAN")]
    p99: Option<Span>,
    /// Promise: so many requests are answered; 99% unless said otherwise, where enough are sent to prove it (299).
    #[arg(long, value_name = "RATIO")]
    available: Option<Ratio>,
    /// Connections that may be open at once.
    #[arg(long)]
    connections: Option<u32>,
    /// Speak HTTP/2: over http:// by prior knowledge, over https:// where the server agrees.
    #[arg(long)]
    http2: bool,
    /// Requests that one connection carries at once, over HTTP/2 and gRPC; 100 unless said otherwise.
    #[arg(long)]
    streams: Option<u32>,
    /// A PEM file of authorities that are trusted beside the public ones.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<String>,
    /// A PEM file with the certificate that is shown to a server that asks for one.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<String>,
    /// A PEM file with its private key.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<String>,
    /// The name that is asked for, and that the server's certificate must have, in place of the URL's host.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Accept any certificate.
    #[arg(long)]
    insecure: bool,
    /// A proxy on the way, `http://[user:password@]host:port`; the environment's HTTP_PROXY is not looked at.
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Threads that send; as many as the load needs and the machine has cores unless said otherwise.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: Option<u32>,
    /// How precisely requests are sent: `precise`, whatever it costs, `adaptive`, while the core has room, or `coarse`, those of a
    /// millisecond together.
    #[arg(long, default_value = "adaptive", value_parser = pacing)]
    pacing: Pacing,
    #[command(flatten)]
    how: super::How,
}

pub fn main(args: Args) -> Result<Exit, Failure> {
    let method = args.method.unwrap_or_else(|| if args.body.is_some() { "POST".into() } else { "GET".into() });
    let volume = match (args.rate, args.users) {
        (_, Some(users)) => Volume::Users(users, args.think.unwrap_or_default()),
        (Some(rate), None) => Volume::Rate(rate, args.arrivals),
        (None, None) => return Err(Failure::new(Exit::Usage, "say how much is sent: --rate 100/s, or --users 10")),
    };
    let adhoc = Adhoc {
        method,
        generator: Generator { workers: args.workers, pacing: args.pacing },
        headers: args.headers,
        body: args.body,
        call: AdhocCall { message: args.message, descriptors: args.descriptors },
        timeout: args.timeout,
        protocol: if args.http2 { Protocol::Http2 } else { Protocol::Http1 },
        connections: args.connections,
        streams: args.streams,
        proxy: args.proxy,
        p99: args.p99,
        available: args.available,
        tls: AdhocTls { ca: args.ca, cert: args.cert, key: args.key, server_name: args.server_name, insecure: args.insecure },
        ..Adhoc::new(&args.url, volume, args.length)
    };
    let plan = Plan::adhoc(&adhoc, &|name| std::env::var(name).ok()).map_err(super::invalid)?;
    if plan.claims.is_empty() && !args.how.quiet {
        super::tell(&format!(
            "too few requests to prove that {USUAL} of them are answered: nothing is asserted, and the run ends without a verdict; \
             raise --rate, lengthen --for, or promise less with --available"
        ));
    }
    super::run::perform(plan, None, false, None, Reach::default(), args.how)
}

fn pacing(text: &str) -> Result<Pacing, String> {
    match text {
        "precise" => Ok(Pacing::Precise),
        "adaptive" => Ok(Pacing::Adaptive),
        "coarse" => Ok(Pacing::Coarse),
        _ => Err(format!("`{text}` is no pacing: use precise, adaptive or coarse")),
    }
}

fn arrivals(text: &str) -> Result<Arrivals, String> {
    let arrivals: Arrivals = text.parse()?;
    if arrivals.has_own_rate() {
        return Err("this has a rate of its own, and --rate is another: put it into a plan".to_owned());
    }
    Ok(arrivals)
}
