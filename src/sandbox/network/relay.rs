//! Two TCP connections as one: bytes, half-closes and resets of either go to the other.

use tokio::net::TcpStream;
use tokio::sync::watch;

/// Bytes in flight per direction.
const BUFFER: usize = 16 << 10;

/// Carries both directions until both have ended, one is reset, or `resets` changes.
pub async fn relay(mut client: TcpStream, mut pod: TcpStream, mut resets: watch::Receiver<u64>) {
    let clean = tokio::select! {
        ended = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut pod, BUFFER, BUFFER) => ended.is_ok(),
        () = rung(&mut resets) => false,
    };
    if !clean {
        reset(client);
        reset(pod);
    }
}

/// Ends a connection so that its peer sees a reset.
pub fn reset(stream: TcpStream) {
    // A connection that is already gone cannot be reset, and need not be.
    let _ = stream.set_zero_linger();
    drop(stream);
}

async fn rung(resets: &mut watch::Receiver<u64>) {
    if resets.changed().await.is_err() {
        // The pod was forgotten; its process took its connections along.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn half_closes_pass_and_the_other_direction_goes_on() {
        let ((mut client, a), (b, mut pod)) = (pair().await, pair().await);
        let bell = watch::Sender::new(0);
        tokio::spawn(relay(a, b, bell.subscribe()));
        client.write_all(b"ask").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        pod.read_to_string(&mut heard).await.unwrap();
        pod.write_all(b"answer").await.unwrap();
        drop(pod);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((heard.as_str(), answer.as_str()), ("ask", "answer"));
    }

    #[tokio::test]
    async fn resets_pass_in_both_directions_and_can_be_ordered() {
        for which in ["pod", "bell"] {
            let ((mut client, a), (b, mut pod)) = (pair().await, pair().await);
            let bell = watch::Sender::new(0);
            tokio::spawn(relay(a, b, bell.subscribe()));
            client.write_all(b"x").await.unwrap();
            let mut one = [0];
            pod.read_exact(&mut one).await.unwrap();
            match which {
                "pod" => reset(pod),
                _ => {
                    bell.send_modify(|n| *n += 1);
                    assert_eq!(pod.read(&mut one).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
                }
            }
            assert_eq!(client.read(&mut one).await.unwrap_err().kind(), ErrorKind::ConnectionReset, "{which}");
        }
    }
}
