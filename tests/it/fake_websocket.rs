//! A server of WebSockets in this process whose every byte is a script's, good or bad. It reads frames by itself, so that what the load
//! engine sends is looked at by somebody who does not share its codec, and keeps count of what it saw.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::listening::Listening;

pub const CONTINUE: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
const PONG: u8 = 10;

/// A whole message, or a control frame.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    piece(0x80 | opcode, payload)
}

/// A frame with this first byte.
pub fn piece(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        n @ 0..126 => vec![n as u8],
        n @ 126..=0xffff => [&[126], &(n as u16).to_be_bytes()[..]].concat(),
        n => [&[127], &(n as u64).to_be_bytes()[..]].concat(),
    };
    [&[first], &length[..], payload].concat()
}

pub fn text(text: &str) -> Vec<u8> {
    frame(TEXT, text.as_bytes())
}

pub fn close(code: u16) -> Vec<u8> {
    frame(CLOSE, &code.to_be_bytes())
}

/// What a script says to a message.
type Answers = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// What the server does.
#[derive(Clone)]
pub struct Script {
    /// In place of an answer that agrees.
    pub refuses: Option<String>,
    /// Lines of an answer that agrees, beyond those that it must have.
    pub lines: &'static str,
    /// Right behind the handshake, in the same write.
    pub greets: Vec<u8>,
    pub answers: Answers,
    pub after: After,
    /// A ping, and what else it says by itself, so often.
    pub by_itself: Option<(Duration, Vec<u8>)>,
    /// What it takes for each answer.
    pub delay: Duration,
}

/// What becomes of the connection once a message was answered, or nothing was agreed on.
#[derive(Clone)]
pub enum After {
    Keep,
    Close,
    Reset,
    /// Writes this again and again, and reads nothing any more.
    Repeat(Vec<u8>),
}

impl Script {
    /// Echoes.
    pub fn good() -> Script {
        Script::says(|message| frame(TEXT, message), After::Keep)
    }

    pub fn says(answers: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static, after: After) -> Script {
        let (refuses, lines, greets, by_itself) = (None, "", Vec::new(), None);
        Script { refuses, lines, greets, answers: Arc::new(answers), after, by_itself, delay: Duration::ZERO }
    }

    pub fn refuses(answer: &str, after: After) -> Script {
        Script { refuses: Some(answer.to_owned()), after, ..Script::good() }
    }
}

/// What the server saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub connections: u64,
    /// The most that were open at once.
    pub most_open: u64,
    open: u64,
    /// The head of each handshake.
    pub heads: Vec<String>,
    pub messages: Vec<Vec<u8>>,
    pub pongs: u64,
    /// The codes with which clients said goodbye.
    pub closes: Vec<u16>,
    /// What of it was not as it must be.
    pub wrong: Vec<String>,
}

/// The server, on a thread of its own.
pub struct FakeWebSocket {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    server: Listening,
}

impl FakeWebSocket {
    pub fn start(script: Script) -> FakeWebSocket {
        FakeWebSocket::over(None, script)
    }

    pub fn over(tls: Option<TlsAcceptor>, script: Script) -> FakeWebSocket {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let counting = seen.clone();
        let server = Listening::start(move |stream, _| serve(stream, tls.clone(), script.clone(), counting.clone()));
        FakeWebSocket { address: server.address, seen, server }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().expect("no panic while counting").clone()
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, script: Script, seen: Arc<Mutex<Seen>>) {
    if matches!(script.after, After::Reset) {
        stream.set_zero_linger().expect("a TCP socket");
    }
    let note = |what: &dyn Fn(&mut Seen)| what(&mut seen.lock().expect("no panic while counting"));
    note(&|seen| {
        (seen.connections, seen.open) = (seen.connections + 1, seen.open + 1);
        seen.most_open = seen.most_open.max(seen.open);
    });
    // What a client does to its connection is the client's business.
    let _ = match tls {
        None => speak(stream, &script, &note).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => speak(stream, &script, &note).await,
            Err(error) => Err(error),
        },
    };
    note(&|seen| seen.open -= 1);
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    script: &Script,
    note: &impl Fn(&dyn Fn(&mut Seen)),
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    note(&|seen| seen.heads.push(head.clone()));
    if let Some(answer) = &script.refuses {
        stream.write_all(answer.as_bytes()).await?;
        return afterwards(stream, script).await;
    }
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap_or_default();
    let accept = derive_accept_key(key.as_bytes());
    // The first that is offered.
    let chosen = head.lines().find_map(|line| line.to_lowercase().strip_prefix("sec-websocket-protocol: ").map(str::to_owned));
    let chosen = chosen.and_then(|offered| offered.split(',').next().map(|one| format!("Sec-WebSocket-Protocol: {one}\r\n")));
    let lines = [script.lines, &chosen.unwrap_or_default()].concat();
    let agreed = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\
         x-pod: fake-1\r\n{lines}\r\n"
    );
    stream.write_all(&[agreed.as_bytes(), &script.greets].concat()).await?;
    let (mut clock, said) = match &script.by_itself {
        None => (None, Vec::new()),
        Some((often, said)) => (Some(tokio::time::interval(*often)), [frame(PING, b"there?"), said.clone()].concat()),
    };
    let mut taken = Vec::new();
    loop {
        while let Some((first, payload, length)) = read(&taken, note) {
            taken.drain(..length);
            match first & 0x0f {
                PING => stream.write_all(&frame(PONG, &payload)).await?,
                PONG => note(&|seen| seen.pongs += 1),
                CLOSE => {
                    let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                    note(&|seen| seen.closes.push(code));
                    stream.write_all(&frame(CLOSE, &payload)).await?;
                    return stream.shutdown().await;
                }
                _ => {
                    note(&|seen| seen.messages.push(payload.clone()));
                    tokio::time::sleep(script.delay).await;
                    stream.write_all(&(script.answers)(&payload)).await?;
                    if !matches!(script.after, After::Keep) {
                        return afterwards(stream, script).await;
                    }
                }
            }
        }
        let tick = async {
            match &mut clock {
                None => std::future::pending().await,
                Some(clock) => clock.tick().await,
            }
        };
        tokio::select! {
            n = stream.read_buf(&mut taken) => if n? == 0 { return Ok(()) },
            _ = tick => stream.write_all(&said).await?,
        }
    }
}

async fn afterwards<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, script: &Script) -> std::io::Result<()> {
    match &script.after {
        After::Reset => return Ok(()),
        After::Close => stream.shutdown().await?,
        After::Keep => {}
        After::Repeat(bytes) => loop {
            stream.write_all(bytes).await?;
        },
    }
    // Until the client has hung up: before that, a reset could overtake what was said.
    stream.read_to_end(&mut Vec::new()).await.map(drop)
}

/// The first frame of `bytes`, unmasked, once it is whole: its first byte, what it holds, and how long it is.
fn read(bytes: &[u8], note: &impl Fn(&dyn Fn(&mut Seen))) -> Option<(u8, Vec<u8>, usize)> {
    let (&[first, second], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match second & 0x7f {
        126 => rest.split_first_chunk().map(|(length, rest)| (u64::from(u16::from_be_bytes(*length)), rest))?,
        127 => rest.split_first_chunk().map(|(length, rest)| (u64::from_be_bytes(*length), rest))?,
        n => (u64::from(n), rest),
    };
    if second & 0x80 == 0 || first & 0xf0 != 0x80 {
        note(&|seen| seen.wrong.push(format!("a frame begins with {first:#x} {second:#x}")));
    }
    let (mask, rest) = rest.split_first_chunk::<4>()?;
    let payload = rest.get(..usize::try_from(length).ok()?)?;
    let clear = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    Some((first, clear, bytes.len() - rest.len() + payload.len()))
}
