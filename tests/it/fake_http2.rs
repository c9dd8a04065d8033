//! A server in this process that speaks HTTP/2 frame by frame, right or wrong: a script says which bytes come back for each request.
//! It understands as much of what it reads as it takes to know where a request ends, and keeps count.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::listening::Listening;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// `:status: 200`, as a whole header block.
pub const OK: &[u8] = &[0x88];
/// `:status: 503`, `retry-after: 1`.
pub const BUSY: &[u8] = b"\x08\x03503\x0f\x26\x011";

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What happens to the connection once something has been written.
#[derive(Clone, Debug)]
pub enum After {
    Keep,
    Close,
    /// Closes with a reset instead of a proper end.
    Reset,
    /// Writes this again and again until the client hangs up, and goes on reading.
    Repeat(Vec<u8>),
    /// Neither reads nor writes any more.
    Freeze,
}

/// What is written, and what comes after.
pub type Saying = (Vec<u8>, After);

/// The script.
pub struct Script {
    /// Written to a fresh connection, the so-manieth of the server, from 0 on.
    pub greeting: Box<dyn Fn(u64) -> Saying + Send + Sync>,
    /// Written for the request on a stream, which is the so-manieth of its connection, from 0 on.
    pub answer: Box<dyn Fn(u32, usize) -> Saying + Send + Sync>,
}

impl Script {
    /// Greets with these settings, and says to every request what `answer` makes of its stream.
    pub fn says(answer: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static, after: After) -> Script {
        Script::new(&[], move |stream, _| (answer(stream), after.clone()))
    }

    pub fn new(settings: &[(u16, u32)], answer: impl Fn(u32, usize) -> Saying + Send + Sync + 'static) -> Script {
        Script::greets(&self::settings(settings), After::Keep).answers(answer)
    }

    /// Says this at once, and nothing else.
    pub fn greets(bytes: &[u8], after: After) -> Script {
        let bytes = bytes.to_vec();
        Script { greeting: Box::new(move |_| (bytes.clone(), after.clone())), answer: Box::new(|_, _| (Vec::new(), After::Keep)) }
    }

    fn answers(self, answer: impl Fn(u32, usize) -> Saying + Send + Sync + 'static) -> Script {
        Script { answer: Box::new(answer), ..self }
    }
}

/// What the server saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub connections: u64,
    pub requests: u64,
    /// Codes of RST_STREAM, in order.
    pub resets: Vec<u32>,
    /// Codes of GOAWAY, in order.
    pub goodbyes: Vec<u32>,
    /// The most requests of one connection that were not answered yet when another came.
    pub streams_most: usize,
}

/// A running server; it ends when this is dropped.
pub struct FakeHttp2 {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    server: Listening,
}

impl FakeHttp2 {
    pub fn start(script: Script) -> FakeHttp2 {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let counting = seen.clone();
        let script = Arc::new(script);
        let server = Listening::start(move |stream, nth| {
            let (script, seen) = (script.clone(), counting.clone());
            seen.lock().expect("no panic while counting").connections += 1;
            async move {
                let _ = serve(stream, nth, &script, &seen).await;
            }
        });
        FakeHttp2 { address: server.address, seen, server }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().expect("no test panics while it counts").clone()
    }
}

async fn serve(mut stream: TcpStream, nth: u64, script: &Script, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let (bytes, after) = (script.greeting)(nth);
    if !say(&mut stream, &bytes, &after).await? {
        return Ok(());
    }
    let mut buffer = Vec::new();
    while buffer.len() < PREFACE.len() {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
    assert!(buffer.starts_with(PREFACE), "{:?} is no preface", String::from_utf8_lossy(&buffer));
    buffer.drain(..PREFACE.len());
    let (mut nth, mut open) = (0, 0);
    loop {
        let Some((kind, flags, id, payload)) = next_frame(&mut stream, &mut buffer).await? else { return Ok(()) };
        let code = || payload.last_chunk::<4>().map_or(u32::MAX, |code| u32::from_be_bytes(*code));
        {
            let mut seen = seen.lock().expect("no panic while counting");
            match kind {
                RST_STREAM => seen.resets.push(code()),
                GOAWAY => seen.goodbyes.push(code()),
                _ => {}
            }
            if kind > HEADERS || flags & END_STREAM == 0 {
                continue;
            }
            seen.requests += 1;
            open += 1;
            seen.streams_most = seen.streams_most.max(open);
        }
        let (bytes, after) = (script.answer)(id, nth);
        nth += 1;
        open -= usize::from(!bytes.is_empty());
        if !say(&mut stream, &bytes, &after).await? {
            return Ok(());
        }
    }
}

/// Whether the connection goes on.
async fn say(stream: &mut TcpStream, bytes: &[u8], after: &After) -> std::io::Result<bool> {
    stream.write_all(bytes).await?;
    match after {
        After::Keep => Ok(true),
        After::Close => {
            stream.shutdown().await?;
            // What was not read would make the end a reset.
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await?;
            Ok(false)
        }
        After::Reset => {
            stream.set_zero_linger()?;
            Ok(false)
        }
        After::Repeat(bytes) => {
            let (mut read, mut write) = stream.split();
            let mut sink = tokio::io::sink();
            tokio::select! {
                done = tokio::io::copy(&mut read, &mut sink) => done.map(|_| false),
                done = async { loop { write.write_all(bytes).await? } } => done,
            }
        }
        After::Freeze => std::future::pending().await,
    }
}

/// The next frame; `None` when the client hung up.
async fn next_frame(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<(u8, u8, u32, Vec<u8>)>> {
    loop {
        if let Some([a, b, c, kind, flags, id @ ..]) = buffer.first_chunk::<9>().copied() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if buffer.len() >= 9 + length {
                let payload = buffer[9..9 + length].to_vec();
                buffer.drain(..9 + length);
                return Ok(Some((kind, flags, u32::from_be_bytes(id), payload)));
            }
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        settings.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// A whole answer: a head and, where there is one, a body.
pub fn answer(stream: u32, block: &[u8], body: &[u8]) -> Vec<u8> {
    if body.is_empty() {
        return frame(HEADERS, END_HEADERS | END_STREAM, stream, block);
    }
    [frame(HEADERS, END_HEADERS, stream, block), frame(DATA, END_STREAM, stream, body)].concat()
}

pub fn rst_stream(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}
