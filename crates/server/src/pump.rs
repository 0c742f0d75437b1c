//! Copies bytes between two connections until both directions are at their end.
//!
//! Most tunnels are silent most of the time, and there may be thousands: a direction starts with a small buffer, which
//! grows once it was filled.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Room for what somebody types, bytes.
const LEAST: usize = 1024;
/// As much as fits into four TLS records, bytes.
const MOST: usize = 64 * 1024;

/// Copies both ways. The end of one direction is passed on; the other one goes on.
///
/// # Errors
/// The first that either connection has.
pub(crate) async fn both_ways<A, B>(one: A, other: B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (one_reader, one_writer) = tokio::io::split(one);
    let (other_reader, other_writer) = tokio::io::split(other);
    tokio::try_join!(one_way(one_reader, other_writer), one_way(other_reader, one_writer))?;
    Ok(())
}

async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; LEAST];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
        if length == buffer.len() && length < MOST {
            buffer = vec![0; length * 2];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everything_arrives_and_one_end_does_not_end_the_other() {
        let (mut client, near) = tokio::io::duplex(100_000);
        let (mut server, far) = tokio::io::duplex(100_000);
        let copying = tokio::spawn(both_ways(near, far));
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
        copying.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_breaks_ends_both() {
        let broken = broken_connection();
        let (_client, near) = tokio::io::duplex(10);
        assert!(both_ways(near, broken).await.is_err());
    }

    /// Reading it fails.
    fn broken_connection() -> impl AsyncRead + AsyncWrite {
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
        tokio::io::join(Broken, tokio::io::sink())
    }
}
