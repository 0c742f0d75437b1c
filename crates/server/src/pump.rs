//! Copies bytes between a client and the runtime until the session is over, and lets go of the client so that it gets
//! all of it.
//!
//! A socket that is closed with bytes in it that nobody read is reset, and a reset overtakes what was sent before it: a
//! proxy on the way gives up as soon as it cannot write any more. A program that ends while its input still flows would
//! take the news of its end with it. So the client is read from until it is at its end or has gone quiet.
//!
//! Most tunnels are silent most of the time, and there may be thousands: a direction starts with a small buffer, which
//! grows once it was filled.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Room for what somebody types, bytes.
const LEAST: usize = 1024;
/// As much as fits into four TLS records, bytes.
const MOST: usize = 64 * 1024;
/// How long a client may go on after the session is over, until it is cut off.
pub(crate) const LINGER: Duration = Duration::from_secs(10);
/// A client that sends nothing for so long is told that the connection is at its end, so that a proxy which answers
/// that with a reset has nothing more to lose. One that knows how the session ended has closed it by then.
const QUIET: Duration = Duration::from_millis(200);

/// Why copying has stopped.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The runtime has said all it had to say, and the client has got it.
    Runtime,
    /// The client cannot be read from or written to.
    Client(io::Error),
}

/// Copies both ways until the runtime is at its end, whichever way: one that was still being sent input resets the
/// connection. The end of the client's input is passed on; what the runtime does not take any more is read and dropped.
/// Then lets go of the client.
pub(crate) async fn session<C, R>(client: C, runtime: R) -> Ended
where
    C: AsyncRead + AsyncWrite,
    R: AsyncRead + AsyncWrite,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let ended = {
        let (from_runtime, to_runtime) = tokio::io::split(runtime);
        tokio::select! {
            // A client that is gone ends the session, and the end of the outputs does: what the input was about to do
            // no longer matters.
            ended = outputs(from_runtime, &mut to_client) => ended,
            error = inputs(&mut from_client, to_runtime) => Ended::Client(error),
        }
    };
    if matches!(ended, Ended::Runtime) {
        hang_up(from_client, to_client).await;
    }
    ended
}

async fn outputs(mut runtime: impl AsyncRead + Unpin, client: &mut (impl AsyncWrite + Unpin)) -> Ended {
    let mut buffer = vec![0; LEAST];
    loop {
        let length = match runtime.read(&mut buffer).await {
            Ok(0) => return Ended::Runtime,
            Ok(length) => length,
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "Runtime closed a streaming session"
                );
                return Ended::Runtime;
            }
        };
        if let Err(error) = write(client, &buffer[..length]).await {
            return Ended::Client(error);
        }
        grow(&mut buffer, length);
    }
}

/// Ends only when the client cannot be read from.
async fn inputs(client: &mut (impl AsyncRead + Unpin), mut runtime: impl AsyncWrite + Unpin) -> io::Error {
    let mut buffer = vec![0; LEAST];
    let mut takes_input = true;
    loop {
        let length = match client.read(&mut buffer).await {
            Ok(length) => length,
            Err(error) => return error,
        };
        if takes_input {
            let written = match length {
                0 => runtime.shutdown().await,
                _ => write(&mut runtime, &buffer[..length]).await,
            };
            if let Err(error) = written {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "Runtime takes no more input of a streaming session"
                );
                takes_input = false;
            }
        }
        if length == 0 {
            return std::future::pending().await;
        }
        grow(&mut buffer, length);
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

fn grow(buffer: &mut Vec<u8>, filled: usize) {
    if filled == buffer.len() && filled < MOST {
        *buffer = vec![0; filled * 2];
    }
}

/// Reads what the client still sends and drops it, until it is at its end. Tells it of the end once it is quiet, and
/// waits for no longer than [`LINGER`].
async fn hang_up(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; LEAST];
    let until_quiet = async {
        while let Ok(read) = tokio::time::timeout(QUIET, from.read(&mut buffer)).await {
            if !matches!(read, Ok(1..)) {
                return false;
            }
        }
        true
    };
    let deadline = tokio::time::Instant::now() + LINGER;
    let is_quiet = tokio::time::timeout_at(deadline, until_quiet).await.unwrap_or(true);
    // A client that is gone need not be told, and one that takes nothing cannot be.
    let told =
        tokio::time::timeout_at(deadline.max(tokio::time::Instant::now() + QUIET), to.shutdown()).await;
    if is_quiet && matches!(told, Ok(Ok(()))) {
        let rest = async { while let Ok(1..) = from.read(&mut buffer).await {} };
        let _ = tokio::time::timeout_at(deadline, rest).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everything_arrives_and_the_end_of_the_input_does_not_end_the_output() {
        let (mut client, near) = tokio::io::duplex(100_000);
        let (mut server, far) = tokio::io::duplex(100_000);
        let copying = tokio::spawn(session(near, far));
        let sent: Vec<u8> = (0..1_000_000_u32).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        });
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        assert!(received == expected);
        server.write_all(b"still here").await.unwrap();
        drop(server);
        assert_eq!(sending.await.unwrap(), "still here");
        assert!(matches!(copying.await.unwrap(), Ended::Runtime));
    }

    #[tokio::test]
    async fn a_client_that_breaks_ends_the_session() {
        let (_runtime, far) = tokio::io::duplex(10);
        assert!(matches!(session(Broken, far).await, Ended::Client(_)));
    }

    #[tokio::test]
    async fn what_the_runtime_said_before_it_broke_arrives() {
        let (mut client, near) = tokio::io::duplex(100);
        let broken = tokio::io::join((&b"exit code 7"[..]).chain(Broken), Broken);
        let copying = tokio::spawn(session(near, broken));
        client.write_all(b"more input").await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "exit code 7");
        drop(client);
        assert!(matches!(copying.await.unwrap(), Ended::Runtime));
    }

    /// With the time stopped, a wait ends only when nothing else can happen.
    #[tokio::test(start_paused = true)]
    async fn a_client_is_read_from_until_it_is_quiet_and_not_for_ever() {
        let (mut client, near) = tokio::io::duplex(10);
        let copying = tokio::spawn(session(near, tokio::io::join(tokio::io::empty(), Broken)));
        for _ in 0..30 {
            client.write_all(&[7; 1000]).await.unwrap();
        }
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "it is told of the end");
        // More is read even so.
        client.write_all(&[7; 1000]).await.unwrap();
        assert!(matches!(copying.await.unwrap(), Ended::Runtime));
        assert!(client.write_all(&[7]).await.is_err(), "it is let go in the end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_never_stops_is_cut_off() {
        let (mut talker, near) = tokio::io::duplex(10);
        let talking = tokio::spawn(async move {
            while talker.write_all(&[7]).await.is_ok() {
                tokio::time::sleep(QUIET / 2).await;
            }
        });
        assert!(matches!(session(near, tokio::io::empty()).await, Ended::Runtime));
        talking.await.unwrap();
    }

    /// Neither can be read from nor written to.
    struct Broken;

    impl AsyncRead for Broken {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Err(io::Error::other("broken")))
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &[u8],
        ) -> std::task::Poll<io::Result<usize>> {
            std::task::Poll::Ready(Err(io::Error::other("broken")))
        }

        fn poll_flush(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn poll_shutdown(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
    }
}
