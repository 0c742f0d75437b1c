//! systemd's own socket, on which it is spoken to without a bus.
//!
//! What systemd sends there it signs with its name on the bus. That is not the kind of name the sender of a message may
//! have, and `zbus` refuses such messages altogether. So one letter of the name is changed on its way in, which makes it
//! a name of the right kind.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};

/// How the field with the sender begins in the header of a message, if the sender is as long as systemd's name: the
/// field's code, its type (a text), and the length.
const SENDER: [u8; 8] = {
    let length = 24_u32.to_ne_bytes();
    [7, 1, b's', 0, length[0], length[1], length[2], length[3]]
};

/// Changes the first letter of senders in a stream of messages.
#[derive(Debug)]
pub(crate) struct Renaming {
    from: u8,
    to: u8,
    /// How much of [`SENDER`] has just gone by. No part of it but its first byte is how it begins, so that a mismatch
    /// never leaves more than one byte matched.
    seen: usize,
}

impl Renaming {
    /// Makes `org.freedesktop.systemd1` a name that a connection may have.
    pub(crate) fn of_systemd() -> Self {
        Self { from: b'o', to: b':', seen: 0 }
    }

    /// The other way round.
    #[cfg(test)]
    pub(crate) fn to_systemd() -> Self {
        Self { from: b':', to: b'o', seen: 0 }
    }

    pub(crate) fn apply(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.seen = match SENDER.get(self.seen) {
                None => {
                    if *byte == self.from {
                        *byte = self.to;
                    }
                    0
                }
                Some(expected) if byte == expected => self.seen + 1,
                Some(_) => usize::from(*byte == SENDER[0]),
            };
        }
    }
}

/// A connection to the socket.
#[derive(Debug)]
pub(crate) struct PrivateSocket(pub(crate) UnixStream);

#[derive(Debug)]
pub(crate) struct Reader {
    stream: OwnedReadHalf,
    renaming: Renaming,
}

#[derive(Debug)]
pub(crate) struct Writer(OwnedWriteHalf);

impl Socket for PrivateSocket {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        let (stream, write) = self.0.into_split();
        Split::new(Reader { stream, renaming: Renaming::of_systemd() }, Writer(write))
    }
}

#[async_trait::async_trait]
impl ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        let count = self.stream.read(buffer).await?;
        self.renaming.apply(buffer.get_mut(..count).unwrap_or_default());
        // systemd passes descriptors to nobody who does not ask for some.
        Ok((count, Vec::new()))
    }
}

#[async_trait::async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, bytes: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.0.write(bytes).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.0.flush().await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sender_is_renamed_wherever_the_stream_is_cut() {
        let message = |first: u8| {
            let mut bytes = vec![7, 7, 1, b's', 0, 1, 7, 1, b's', 0];
            bytes.extend(24_u32.to_ne_bytes());
            bytes.push(first);
            bytes.extend_from_slice(b"rg.freedesktop.systemd1\0 org.freedesktop.systemd1");
            bytes
        };
        for cut in 0..message(b'o').len() {
            let (mut renaming, mut bytes) = (Renaming::of_systemd(), message(b'o'));
            let (head, tail) = bytes.split_at_mut(cut);
            renaming.apply(head);
            renaming.apply(tail);
            assert_eq!(bytes, message(b':'), "{cut}");
            Renaming::to_systemd().apply(&mut bytes);
            assert_eq!(bytes, message(b'o'));
        }
    }
}
