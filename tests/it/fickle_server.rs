//! An HTTP/1.1 server in this process whose answer to each request a test writes as a function: which status and headers, how much
//! later. It keeps the moment at which each request came.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::listening::Listening;

/// What is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// Whole lines, as `Retry-After: 1\r\n`.
    pub headers: String,
    /// Never where there is none.
    pub after: Option<Duration>,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply { status, headers: String::new(), after: Some(Duration::ZERO) }
    }

    pub fn after(self, after: Duration) -> Reply {
        Reply { after: Some(after), ..self }
    }

    pub fn never() -> Reply {
        Reply { after: None, ..Reply::status(200) }
    }

    pub fn with(self, header: &str) -> Reply {
        Reply { headers: format!("{}{header}\r\n", self.headers), ..self }
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Came {
    pub at: Instant,
}

type Answers = Arc<dyn Fn(u64) -> Reply + Send + Sync>;

/// A running server; it ends when this is dropped.
pub struct FickleServer {
    came: Arc<Mutex<Vec<Came>>>,
    server: Listening,
}

impl FickleServer {
    /// Answers the request `nth`, from 0, as this says.
    pub fn start(answers: impl Fn(u64) -> Reply + Send + Sync + 'static) -> FickleServer {
        let came: Arc<Mutex<Vec<Came>>> = Arc::default();
        let (book, answers): (_, Answers) = (came.clone(), Arc::new(answers));
        let server = Listening::start(move |stream, _| serve(stream, book.clone(), answers.clone()));
        FickleServer { came, server }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn came(&self) -> Vec<Came> {
        self.came.lock().expect("no panic while keeping").clone()
    }
}

async fn serve(mut stream: TcpStream, book: Arc<Mutex<Vec<Came>>>, answers: Answers) -> std::io::Result<()> {
    let mut read = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        };
        read.drain(..end);
        let nth = {
            let mut book = book.lock().expect("no panic while keeping");
            book.push(Came { at: Instant::now() });
            book.len() as u64 - 1
        };
        let reply = answers(nth);
        match reply.after {
            None => std::future::pending().await,
            Some(Duration::ZERO) => {}
            Some(after) => tokio::time::sleep(after).await,
        }
        let answer = format!("HTTP/1.1 {} X\r\n{}Content-Length: 2\r\n\r\nok", reply.status, reply.headers);
        stream.write_all(answer.as_bytes()).await?;
    }
}
