//! Sessions between a client's channels and a runtime that is a pair of pipes.

use std::time::Duration;

use futures::channel::mpsc::{Receiver, Sender, channel};
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::*;

const ALL: Streams = Streams { has_stdin: true, has_stdout: true, has_stderr: true, is_tty: false };

/// A client and a runtime with a session between them.
struct Lab {
    client: Option<Sender<Result<Message, Error>>>,
    told: Receiver<Message>,
    runtime: DuplexStream,
}

/// What does not come fails a test instead of holding it up.
async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), what).await.unwrap()
}

fn lab(wanted: Streams) -> Lab {
    let (client, mut source) = channel(16);
    let (sink, told) = channel(16);
    let (runtime, ours) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        let mut sink = sink.sink_map_err(|_| Error::ConnectionClosed);
        translate(&mut sink, &mut source, ours, wanted).await;
    });
    Lab { client: Some(client), told, runtime }
}

impl Lab {
    async fn say(&mut self, bytes: &'static [u8]) {
        let message = Message::Binary(Bytes::from_static(bytes));
        self.client.as_mut().unwrap().send(Ok(message)).await.unwrap();
    }

    /// The next message the client gets; `None` once the session is over.
    async fn hear(&mut self) -> Option<(u8, String)> {
        match soon(self.told.next()).await? {
            Message::Binary(bytes) => Some((bytes[0], String::from_utf8(bytes[1..].to_vec()).unwrap())),
            Message::Close(Some(frame)) if frame.code == CloseCode::Normal => Some((CLOSE, String::new())),
            other => panic!("{other:?}"),
        }
    }

    /// The next frame the runtime gets: kind or stream, flags, and what is in it.
    async fn frame(&mut self) -> (u32, u8, Vec<u8>) {
        let mut head = [0; 8];
        soon(self.runtime.read_exact(&mut head)).await.unwrap();
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        let mut body = vec![0; length];
        self.runtime.read_exact(&mut body).await.unwrap();
        (u32::from_be_bytes([head[0], head[1], head[2], head[3]]), head[4], body)
    }

    async fn opened(&mut self, streams: usize) {
        for _ in 0..streams {
            assert_eq!(self.frame().await.0, 0x8003_0001);
        }
    }

    async fn send(&mut self, stream: u8, bytes: &[u8], is_last: bool) {
        let mut frame = vec![0, 0, 0, stream, u8::from(is_last), 0, 0, u8::try_from(bytes.len()).unwrap()];
        frame.extend_from_slice(bytes);
        self.runtime.write_all(&frame).await.unwrap();
    }
}

// The numbers streams get: error, standard input, output and error output.
const E: u8 = 1;
const I: u8 = 3;
const O: u8 = 5;
const R: u8 = 7;

#[tokio::test]
async fn channels_become_streams_and_back_until_all_is_told() {
    let mut lab = lab(ALL);
    lab.opened(4).await;
    lab.say(b"\x00hello").await;
    assert_eq!(lab.frame().await, (3, 0, b"hello".to_vec()));
    // Only version 5 can say this.
    lab.say(&[CLOSE, STDIN]).await;
    assert_eq!(lab.frame().await, (3, 1, vec![]));
    lab.send(O, b"out", false).await;
    lab.send(R, b"err", true).await;
    assert_eq!(lab.hear().await.unwrap(), (STDOUT, "out".into()));
    assert_eq!(lab.hear().await.unwrap(), (STDERR, "err".into()));
    // The command has ended, and what it wrote is still on its way.
    lab.send(E, b"", true).await;
    lab.send(O, b"more", true).await;
    assert_eq!(lab.hear().await.unwrap(), (STDOUT, "more".into()));
    let (channel, status) = lab.hear().await.unwrap();
    assert_eq!((channel, status.contains("\"Success\"")), (ERROR, true), "{status}");
    assert_eq!(lab.hear().await.unwrap().0, CLOSE);
    // The session is over, and what the client still says is dropped until it is gone.
    for _ in 0..100 {
        lab.say(b"\x00more").await;
    }
    lab.client = None;
    assert_eq!(lab.hear().await, None);
}

#[tokio::test]
async fn an_exit_code_is_passed_on_as_the_runtime_says_it() {
    let mut lab = lab(Streams { has_stdout: true, ..Streams::default() });
    lab.opened(2).await;
    let status = br#"{"metadata":{},"status":"Failure","reason":"NonZeroExitCode"}"#;
    lab.send(E, status, true).await;
    lab.send(3, b"", true).await;
    let (channel, text) = lab.hear().await.unwrap();
    assert_eq!((channel, text.contains("NonZeroExitCode")), (ERROR, true));
}

/// A runtime that did not read all of its input resets the connection, perhaps before it has ended each stream.
#[tokio::test]
async fn a_report_counts_although_streams_have_no_end() {
    let failed = r#"{"metadata":{},"status":"Failure","reason":"NonZeroExitCode"}"#;
    for (status, is_last, want) in [
        (failed, false, "NonZeroExitCode"),
        (failed, true, "NonZeroExitCode"),
        ("", true, "Success"),
        ("", false, "closed the connection"),
        ("{\"status\":", false, "closed the connection"),
    ] {
        let mut lab = lab(ALL);
        lab.opened(4).await;
        lab.send(E, status.as_bytes(), is_last).await;
        lab.runtime.shutdown().await.unwrap();
        let (channel, text) = lab.hear().await.unwrap();
        assert_eq!((channel, text.contains(want)), (ERROR, true), "{status} {is_last}: {text}");
    }
}

#[tokio::test]
async fn a_runtime_that_is_gone_is_told_of() {
    let mut lab = lab(ALL);
    lab.opened(4).await;
    lab.runtime.shutdown().await.unwrap();
    let (channel, text) = lab.hear().await.unwrap();
    assert_eq!(channel, ERROR);
    assert!(text.contains("closed the connection") && text.contains("InternalError"), "{text}");
}

#[tokio::test]
async fn a_client_that_is_gone_ends_the_session() {
    let mut lab = lab(ALL);
    lab.opened(4).await;
    lab.client = None;
    let mut rest = Vec::new();
    soon(lab.runtime.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn pings_are_answered_and_a_terminal_is_resized() {
    let mut lab = lab(Streams { has_stdin: true, has_stdout: true, is_tty: true, ..Streams::default() });
    lab.opened(4).await;
    lab.runtime.write_all(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 2]).await.unwrap();
    assert_eq!(lab.frame().await, (0x8003_0006, 0, vec![0, 0, 0, 2]));
    lab.say(b"\x04{\"Width\":80,\"Height\":24}").await;
    let (stream, _, body) = lab.frame().await;
    assert_eq!((stream, body.starts_with(b"{\"Width\"")), (7, true));
    // The runtime reads no more input: that side is closed, too.
    lab.send(I, b"", true).await;
    assert_eq!(lab.frame().await, (3, 1, vec![]));
}

#[test]
fn what_is_no_status_becomes_one() {
    assert!(verdict(b"").contains("Success"));
    let odd = verdict(b"boom");
    assert!(odd.contains("InternalError") && odd.contains("boom"), "{odd}");
}
