//! The lines of a body that has no end: a bounded buffer, and how it broke off where it did not end.

use std::io::ErrorKind;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use kube::client::Body;

use super::error::innermost;

/// The longest line that is read, in bytes: many times the largest object that a cluster stores.
const LINE_MOST: usize = 16 << 20;
/// Errors have causes, but not without end.
const CAUSES_MOST: usize = 16;

/// The lines of one body.
pub(super) struct Lines {
    body: Body,
    read: BytesMut,
    /// So many bytes of it were searched for an end of line.
    searched: usize,
}

/// How a body broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The other side closed the connection before the body's end.
    #[error("the connection was closed: {0}")]
    Closed(String),
    #[error("the connection was reset: {0}")]
    Reset(String),
    /// Nobody answered any more.
    #[error("the connection died: {0}")]
    Dead(String),
    #[error("a line is longer than {} MiB", LINE_MOST >> 20)]
    TooLong,
}

impl Lines {
    pub fn of(body: Body) -> Lines {
        Lines { body, read: BytesMut::new(), searched: 0 }
    }

    /// The next line, without its end; `None` at the end of the body. A last line without its end was cut off, and is left out.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            while let Some(found) = self.read[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(self.searched + found + 1).freeze();
                self.searched = 0;
                let line = line.slice(..line.len() - 1);
                // Blank lines keep connections open.
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(line));
                }
            }
            self.searched = self.read.len();
            if self.read.len() > LINE_MOST {
                return Err(Broken::TooLong);
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Broken::of(&error)),
            }
        }
    }
}

impl Broken {
    fn of(error: &(dyn std::error::Error + 'static)) -> Broken {
        let causes = std::iter::successors(Some(error), |error| error.source()).take(CAUSES_MOST);
        let kinds: Vec<ErrorKind> =
            causes.filter_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind).collect();
        let why = innermost(error);
        if kinds.contains(&ErrorKind::ConnectionReset) || kinds.contains(&ErrorKind::BrokenPipe) {
            Broken::Reset(why)
        } else if kinds.contains(&ErrorKind::UnexpectedEof) || ["EOF", "end of file"].iter().any(|end| why.contains(end)) {
            Broken::Closed(why)
        } else {
            Broken::Dead(why)
        }
    }
}
