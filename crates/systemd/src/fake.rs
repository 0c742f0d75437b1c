//! Somebody who answers like systemd on a socket of its own, with a real connection in between.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use zbus::connection::Builder;
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::fdo::ConnectionCredentials;
use zbus::{Connection, Guid, Message, ObjectPath, OwnedVariant, Variant};

use crate::link::BusAddress;
use crate::private_socket::Renaming;

/// How a call is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// With a job that ends with this result, told before the call is answered.
    Job(&'static str),
    /// With nothing, as calls without a job are.
    Nothing,
    /// With systemd's error of this name.
    Error(&'static str),
    /// Not at all: the connection is closed.
    HangUp,
    /// With a job, and then the connection is closed.
    JobAndHangUp,
}

/// A listening fake, and what it was asked.
pub(crate) struct Fake {
    folder: tempfile::TempDir,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Answers calls in this order, whoever makes them, and those beyond with success.
    pub(crate) fn start(answers: &[Answer]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let calls = Arc::default();
        let script = Arc::new(Mutex::new(VecDeque::from(answers.to_vec())));
        tokio::spawn(accept(listener, script, Arc::clone(&calls)));
        Self { folder, calls }
    }

    pub(crate) fn addresses(&self) -> Vec<BusAddress> {
        vec![BusAddress::Socket(self.socket())]
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// The calls so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

/// What is sent is signed as systemd signs it.
#[derive(Debug)]
struct Signed(UnixStream);

#[derive(Debug)]
struct Reader(OwnedReadHalf);

#[derive(Debug)]
struct Writer(OwnedWriteHalf, Renaming);

impl Socket for Signed {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        let (read, write) = self.0.into_split();
        Split::new(Reader(read), Writer(write, Renaming::to_systemd()))
    }
}

#[async_trait::async_trait]
impl ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        Ok((self.0.read(buffer).await?, Vec::new()))
    }

    async fn peer_credentials(&mut self) -> io::Result<ConnectionCredentials> {
        let process = self.0.as_ref().peer_cred()?;
        Ok(ConnectionCredentials::default().set_unix_user_id(process.uid()))
    }
}

#[async_trait::async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, bytes: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        let mut bytes = bytes.to_vec();
        self.1.apply(&mut bytes);
        self.0.write_all(&bytes).await.map(|()| bytes.len())
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.0.flush().await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

type Script = Arc<Mutex<VecDeque<Answer>>>;

async fn accept(listener: UnixListener, script: Script, calls: Arc<Mutex<Vec<String>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let server = Builder::socket(Signed(stream)).server(Guid::generate()).p2p();
        // As systemd's name on the bus, but for the first letter, which is put right on its way out.
        let server = server.unique_name(":rg.freedesktop.systemd1");
        let mut messages = server.build_message_stream().await.unwrap();
        let connection = Connection::from(&messages);
        let mut job = 0;
        while let Some(Ok(call)) = messages.next().await {
            if !answer(&connection, &call, &script, &calls, &mut job).await {
                break;
            }
        }
        drop(messages);
        connection.close().await.unwrap();
    }
}

/// Whether the connection is kept.
async fn answer(
    connection: &Connection,
    call: &Message,
    script: &Script,
    calls: &Mutex<Vec<String>>,
    job: &mut u32,
) -> bool {
    let header = call.header();
    let method = header.member().unwrap().as_str();
    if method == "Get" {
        connection.reply(&header, &Variant::from("252.30-1")).await.unwrap();
        return true;
    }
    let (unit, text) = described(call);
    calls.lock().unwrap().push(text);
    let default = if matches!(method, "StartTransientUnit" | "StopUnit") {
        Answer::Job("done")
    } else {
        Answer::Nothing
    };
    let answer = script.lock().unwrap().pop_front().unwrap_or(default);
    let path = |number: u32| ObjectPath::try_from(format!("/org/freedesktop/systemd1/job/{number}")).unwrap();
    match answer {
        Answer::Nothing => connection.reply(&header, &()).await.unwrap(),
        Answer::Error(name) => {
            let name = format!("org.freedesktop.systemd1.{name}");
            connection.reply_error(&header, name, &("because".to_owned(),)).await.unwrap();
        }
        Answer::HangUp => return false,
        Answer::JobAndHangUp => {
            connection.reply(&header, &path(77)).await.unwrap();
            return false;
        }
        Answer::Job(result) => {
            *job += 2;
            // First somebody else's job of the same unit, then this one of another unit, then the one in question.
            let ended = [
                (*job - 1, unit.as_str(), "canceled"),
                (*job, "other.slice", "failed"),
                (*job, &unit, result),
            ];
            for (number, unit, result) in ended {
                let body = (number, path(number), unit, result);
                let (place, interface) = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");
                connection.emit_signal(None::<&str>, place, interface, "JobRemoved", &body).await.unwrap();
            }
            connection.reply(&header, &path(*job)).await.unwrap();
        }
    }
    true
}

/// The unit of a call, and the call as text.
fn described(call: &Message) -> (String, String) {
    type Pairs = Vec<(String, OwnedVariant)>;
    let body = call.body();
    let text = |pairs: Pairs| {
        let pairs = pairs.iter().map(|(name, value)| format!(" {name}={}", **value));
        pairs.collect::<String>()
    };
    let header = call.header();
    let method = header.member().unwrap().as_str();
    assert_eq!(header.interface().unwrap().as_str(), "org.freedesktop.systemd1.Manager");
    assert_eq!(header.path().unwrap().as_str(), "/org/freedesktop/systemd1");
    let (unit, rest) = match method {
        "StartTransientUnit" => {
            let (unit, mode, pairs, more): (String, String, Pairs, Vec<(String, Pairs)>) =
                body.deserialize().unwrap();
            assert!(more.is_empty());
            (unit, format!(" {mode}{}", text(pairs)))
        }
        "SetUnitProperties" => {
            let (unit, is_until_boot, pairs): (String, bool, Pairs) = body.deserialize().unwrap();
            (unit, format!(" {is_until_boot}{}", text(pairs)))
        }
        "StopUnit" => {
            let (unit, mode): (String, String) = body.deserialize().unwrap();
            (unit, format!(" {mode}"))
        }
        _ => (body.deserialize::<(String,)>().unwrap().0, String::new()),
    };
    let text = format!("{method} {unit}{rest}");
    (unit, text)
}
