//! As much of SPDY/3.1 as a client of the runtime's streaming server needs: streams it opens itself,
//! data both ways, and their ends
//! (<https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>).
//!
//! Container runtimes speak this for exec and attach, and only this can say that standard input is at
//! its end. What is left out is what those servers do not do: streams they open, flow control, and
//! headers in their answers, which nobody looks at.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const VERSION: u16 = 0x8003;
const SYN_STREAM: u16 = 1;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GO_AWAY: u16 = 7;
const FLAG_FIN: u8 = 1;
const HEAD_BYTES: usize = 8;

/// Largest piece of data handed on at a time, bytes, however long the frame is.
const MAX_PIECE: usize = 32 * 1024;
/// The least and the most that is read at once, bytes.
const LEAST_ROOM: usize = 1024;
const MOST_ROOM: usize = 64 * 1024;
/// Longest control frame read, bytes; they are tens of bytes long.
const MAX_CONTROL: usize = 64 * 1024;

/// What came from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Data of a stream, perhaps none, and whether it was the last.
    Data { stream: u32, bytes: Bytes, is_last: bool },
    /// A stream is given up.
    Reset { stream: u32 },
    /// To be answered with the same number.
    Ping(u32),
    /// No new streams.
    GoAway,
}

/// The reading half.
pub(crate) struct Reader<R> {
    io: R,
    /// Read and not yet taken.
    buffer: BytesMut,
    /// How much is asked for at once, bytes. Sessions are silent most of the time, so it is little until more came.
    room: usize,
    /// The data frame that is being read: its stream, bytes left, and whether it ends the stream.
    frame: Option<(u32, usize, bool)>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(io: R) -> Self {
        Self { io, buffer: BytesMut::new(), room: LEAST_ROOM, frame: None }
    }

    /// The next event; `None` at the end of the connection. Not cancel-safe: what was half read is
    /// lost with the future.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some((stream, left, is_final)) = self.frame.take() {
                return self.piece(stream, left, is_final).await.map(Some);
            }
            match self.fill(HEAD_BYTES).await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            }
            let mut head = [0; HEAD_BYTES];
            self.buffer.split_to(HEAD_BYTES).copy_to_slice(&mut head);
            let word = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
            if word & 0x8000_0000 == 0 {
                self.frame = Some((word, length, head[4] & FLAG_FIN != 0));
                continue;
            }
            let kind = u16::from_be_bytes([head[2], head[3]]);
            if let Some(event) = self.control(kind, length).await? {
                return Ok(Some(event));
            }
        }
    }

    /// Data of a frame, as much of it as is there.
    async fn piece(&mut self, stream: u32, left: usize, is_final: bool) -> io::Result<Event> {
        self.fill(left.min(1)).await?;
        let bytes = self.buffer.split_to(self.buffer.len().min(left).min(MAX_PIECE)).freeze();
        let left = left - bytes.len();
        if left > 0 {
            self.frame = Some((stream, left, is_final));
        }
        Ok(Event::Data { stream, bytes, is_last: is_final && left == 0 })
    }

    async fn control(&mut self, kind: u16, length: usize) -> io::Result<Option<Event>> {
        if length > MAX_CONTROL {
            let text = format!("a SPDY control frame of {length} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.fill(length).await?;
        let body = self.buffer.split_to(length);
        let number = body.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        Ok(match kind {
            RST_STREAM => Some(Event::Reset { stream: number }),
            PING => Some(Event::Ping(number)),
            GO_AWAY => Some(Event::GoAway),
            _ => None,
        })
    }

    /// Reads until so many bytes are there.
    async fn fill(&mut self, length: usize) -> io::Result<()> {
        while self.buffer.len() < length {
            self.buffer.reserve(self.room);
            let read = self.io.read_buf(&mut self.buffer).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if read >= self.room && self.room < MOST_ROOM {
                self.room *= 2;
            }
        }
        Ok(())
    }
}

/// The writing half.
pub(crate) struct Writer<W> {
    io: W,
    /// Whether the stream that the headers of all frames make has begun.
    has_headers: bool,
    next_stream: u32,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(crate) fn new(io: W) -> Self {
        Self { io, has_headers: false, next_stream: 1 }
    }

    /// Opens a stream and returns its number.
    pub(crate) async fn open(&mut self, headers: &[(&str, &str)]) -> io::Result<u32> {
        let stream = self.next_stream;
        self.next_stream += 2;
        // The stream, none it belongs to, priority and slot 0.
        let mut body = stream.to_be_bytes().to_vec();
        body.extend([0; 6]);
        self.compress(&plain_headers(headers), &mut body);
        self.control(SYN_STREAM, &body).await?;
        Ok(stream)
    }

    /// Sends data of a stream; `is_last` ends this side of it.
    pub(crate) async fn data(&mut self, stream: u32, bytes: &[u8], is_last: bool) -> io::Result<()> {
        // A frame's length has 24 bits.
        let mut rest = bytes;
        loop {
            let (piece, more) = rest.split_at(rest.len().min(1 << 20));
            let is_final = is_last && more.is_empty();
            self.io.write_all(&head(stream, if is_final { FLAG_FIN } else { 0 }, piece.len())).await?;
            self.io.write_all(piece).await?;
            rest = more;
            if rest.is_empty() {
                return self.io.flush().await;
            }
        }
    }

    /// Answers a ping.
    pub(crate) async fn pong(&mut self, number: u32) -> io::Result<()> {
        self.control(PING, &number.to_be_bytes()).await
    }

    async fn control(&mut self, kind: u16, body: &[u8]) -> io::Result<()> {
        let word = u32::from(VERSION) << 16 | u32::from(kind);
        self.io.write_all(&head(word, 0, body.len())).await?;
        self.io.write_all(body).await?;
        self.io.flush().await
    }

    /// Adds to the one zlib stream (RFC 1950) that the headers of all frames make, without the protocol's dictionary,
    /// which a sender need not use. A few tens of bytes are stored as they are (RFC 1951, section 3.2.4): what a
    /// compressor needs, some 300 KiB, would be kept for as long as the session.
    fn compress(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.has_headers, true) {
            // Deflate with a window of 32 KiB, and a checksum of these two bytes.
            out.extend([0x78, 0x01]);
        }
        // An empty block at the end: Go's reader hands on what it has when it meets one, and fails when it meets nothing.
        for block in plain.chunks(usize::from(u16::MAX)).chain([[].as_slice()]) {
            let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
            // Not the last block, and stored.
            out.push(0);
            out.extend(length.to_le_bytes());
            out.extend((!length).to_le_bytes());
            out.extend_from_slice(block);
        }
    }
}

fn head(word: u32, flags: u8, length: usize) -> [u8; HEAD_BYTES] {
    let [a, b, c, d] = word.to_be_bytes();
    // Callers send far less than 24 bits can say.
    let [_, e, f, g] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [a, b, c, d, flags, e, f, g]
}

fn plain_headers(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    let number = |out: &mut Vec<u8>, n: usize| out.extend(u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes());
    number(&mut out, headers.len());
    for (name, value) in headers {
        for text in [name, value] {
            number(&mut out, text.len());
            out.extend(text.as_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};

    use super::*;

    async fn events(bytes: &[u8]) -> (Vec<Event>, io::Result<()>) {
        let mut reader = Reader::new(bytes);
        let mut all = Vec::new();
        loop {
            match reader.next().await {
                Ok(Some(event)) => all.push(event),
                Ok(None) => return (all, Ok(())),
                Err(error) => return (all, Err(error)),
            }
        }
    }

    fn data(stream: u32, bytes: &'static [u8], is_last: bool) -> Event {
        Event::Data { stream, bytes: Bytes::from_static(bytes), is_last }
    }

    #[tokio::test]
    async fn frames_are_read() {
        let mut wire = vec![0x80, 3, 0, 2, 0, 0, 0, 6, 0, 0, 0, 1, 0xff, 0xff];
        wire.extend([0, 0, 0, 3, 0, 0, 0, 2, b'h', b'i']);
        wire.extend([0, 0, 0, 3, 1, 0, 0, 0]);
        wire.extend([0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2]);
        wire.extend([0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 1]);
        wire.extend([0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        let want = [
            data(3, b"hi", false),
            data(3, b"", true),
            Event::Ping(2),
            Event::Reset { stream: 5 },
            Event::GoAway,
        ];
        let (all, end) = events(&wire).await;
        assert_eq!(all, want);
        assert!(end.is_ok());
    }

    #[tokio::test]
    async fn a_long_frame_comes_in_pieces_and_only_the_last_one_ends_the_stream() {
        let mut wire = vec![0, 0, 0, 3, 1, 1, 0, 0];
        wire.extend(vec![7; 0x1_0000]);
        let (all, end) = events(&wire).await;
        let shape: Vec<(usize, bool)> = all
            .iter()
            .map(|event| match event {
                Event::Data { bytes, is_last, .. } => (bytes.len(), *is_last),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(shape.iter().map(|(length, _)| length).sum::<usize>(), 0x1_0000);
        assert!(shape.len() > 1 && shape.iter().all(|(length, _)| *length <= MAX_PIECE));
        let last: Vec<bool> = shape.iter().map(|(_, is_last)| *is_last).collect();
        assert!(last.ends_with(&[false, true]) && last.iter().filter(|is_last| **is_last).count() == 1);
        assert!(end.is_ok());
    }

    #[tokio::test]
    async fn what_is_broken_is_an_error_and_takes_no_memory() {
        for wire in [
            // A control frame of 16 MiB.
            vec![0x80, 3, 0, 4, 0, 0xff, 0xff, 0xff],
            // Data that ends before its length.
            vec![0, 0, 0, 3, 0, 0, 0, 9, 1],
        ] {
            assert!(events(&wire).await.1.is_err(), "{wire:?}");
        }
        assert!(events(&[0x80, 3, 0]).await.1.is_ok());
    }

    #[tokio::test]
    async fn frames_are_written() {
        let mut wire = Vec::new();
        let mut writer = Writer::new(&mut wire);
        assert_eq!(writer.open(&[("streamType", "error")]).await.unwrap(), 1);
        assert_eq!(writer.open(&[("streamType", "stdin")]).await.unwrap(), 3);
        writer.data(3, b"ab", false).await.unwrap();
        writer.data(3, b"", true).await.unwrap();
        writer.pong(2).await.unwrap();
        let mut inflate = Decompress::new(true);
        let mut rest = wire.as_slice();
        for (stream, value) in [(1, "error"), (3, "stdin")] {
            assert_eq!(rest[..4], [0x80, 3, 0, 1]);
            let length = usize::from(u16::from_be_bytes([rest[6], rest[7]]));
            assert_eq!(rest[8..18], [0, 0, 0, stream, 0, 0, 0, 0, 0, 0]);
            assert!(rest[..8 + length].ends_with(&[0, 0, 0, 0xff, 0xff]), "an empty block at the end");
            let mut plain = Vec::with_capacity(1024);
            inflate.decompress_vec(&rest[18..8 + length], &mut plain, FlushDecompress::Sync).unwrap();
            assert_eq!(plain, plain_headers(&[("streamType", value)]));
            rest = &rest[8 + length..];
        }
        assert_eq!(rest[..10], [0, 0, 0, 3, 0, 0, 0, 2, b'a', b'b']);
        assert_eq!(rest[10..18], [0, 0, 0, 3, 1, 0, 0, 0]);
        assert_eq!(rest[18..], [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2]);
    }
}
