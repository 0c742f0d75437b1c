//! Logs of services: from the journal, or from files named after the service where it does not
//! log to the journal.
//!
//! `journalctl` is run without a shell, its arguments made from a query that was checked. What it
//! writes goes to the client as it comes, for at most [`TIMEOUT`].

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream::{BoxStream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::process::Command;
use tokio::sync::mpsc;

use super::files;
use super::query::LogOptions;

/// For the answer to one query, from its first to its last byte.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How much is read at a time, bytes.
const CHUNK_BYTES: usize = 32 * 1024;
/// Chunks that wait for the client: 128 KiB a query.
const CHUNKS: usize = 4;
/// The list of units is read no further than this, bytes; a machine has some hundreds of units of
/// some 30 bytes each.
const MAX_UNITS_BYTES: u64 = 4 * 1024 * 1024;

/// What is asked of which services.
pub(super) struct ServiceQuery {
    /// The program, `journalctl`.
    pub(super) journalctl: PathBuf,
    /// The log folder.
    pub(super) root: PathBuf,
    /// Their names, which were checked.
    pub(super) services: Vec<String>,
    /// Which lines.
    pub(super) options: LogOptions,
    /// Whether the client takes gzip.
    pub(super) is_compressed: bool,
}

/// The logs, bit by bit. Whoever drops the stream ends the program.
pub(super) fn stream(query: ServiceQuery) -> BoxStream<'static, io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    #[expect(clippy::disallowed_methods, reason = "ends with the client or after a time")]
    tokio::spawn(async move {
        let client = sender.clone();
        tokio::select! {
            // Cancel-safe: what is under way ends with it, the program included.
            _ = tokio::time::timeout(TIMEOUT, copy(query, sender)) => {}
            // Cancel-safe: a client that has left stays away.
            () = client.closed() => {}
        }
    });
    futures::stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|bit| (bit, receiver)))
        .boxed()
}

async fn copy(query: ServiceQuery, sender: mpsc::Sender<io::Result<Bytes>>) {
    let mut output = Output::new(sender, query.is_compressed);
    // An error here is a client that has left.
    let _ = copy_to(&query, &mut output).await;
    let _ = output.finish().await;
}

async fn copy_to(query: &ServiceQuery, output: &mut Output) -> io::Result<()> {
    let units = units(&query.journalctl).await.unwrap_or_default();
    let is_unit = |service: &String| units.lines().any(|unit| unit.strip_suffix(".service") == Some(service));
    let (journaled, others): (Vec<String>, Vec<String>) = query.services.iter().cloned().partition(is_unit);
    if !journaled.is_empty() {
        let arguments = arguments(&query.options, &journaled);
        if let Err(error) = run(&query.journalctl, &arguments, output).await {
            tracing::info!(%error, "Failed to read the journal");
            output.write(b"\nerror: journal output not available\n").await?;
        }
    }
    if others.is_empty() {
        return Ok(());
    }
    if query.options != LogOptions::default() {
        let text = format!(
            "\noptions present and query resolved to log files for [{}]\ntry without specifying options\n",
            others.join(" ")
        );
        return output.write(text.as_bytes()).await;
    }
    for service in others {
        file_of(&query.root, &service, output).await?;
    }
    Ok(())
}

/// The arguments of `journalctl`.
fn arguments(options: &LogOptions, services: &[String]) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["--utc", "--no-pager", "--output=short-precise"].map(str::to_owned).into();
    // With its zone, so that it means the same whatever zone the machine is in.
    let time =
        |name: &str, time: jiff::Timestamp| format!("--{name}={}", time.strftime("%Y-%m-%d %H:%M:%S UTC"));
    arguments.extend(options.since.map(|since| time("since", since)));
    arguments.extend(options.until.map(|until| time("until", until)));
    if let Some(lines) = options.tail_lines {
        arguments.extend(["--pager-end".to_owned(), format!("--lines={lines}")]);
    }
    arguments.extend(services.iter().map(|service| format!("--unit={service}")));
    arguments.extend(options.pattern.as_ref().map(|pattern| format!("--grep={pattern}")));
    arguments.extend(options.boot.map(|boot| format!("--boot={boot}")));
    arguments
}

/// Every unit the journal has lines of, one a line.
async fn units(journalctl: &Path) -> io::Result<String> {
    let mut child = Command::new(journalctl)
        .args(["--field", "_SYSTEMD_UNIT"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut text = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_UNITS_BYTES).read_to_end(&mut text).await?;
    }
    child.wait().await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Runs the program and passes on both its outputs as they come, in one pipe: a complaint stands
/// where it was made.
async fn run(program: &Path, arguments: &[String], output: &mut Output) -> io::Result<()> {
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    // It holds the pipe's other end, without which there is no end of the output.
    drop(command);
    pass_on(pipe::Receiver::from_owned_fd(reader.into())?, output).await?;
    child.wait().await.map(|_| ())
}

async fn pass_on(mut reader: impl AsyncRead + Unpin, output: &mut Output) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(CHUNK_BYTES);
    while reader.read_buf(&mut buffer).await? > 0 {
        output.write(&buffer).await?;
        buffer.clear();
    }
    Ok(())
}

/// The first of the files a service's log may be in, if it is in one.
async fn file_of(root: &Path, service: &str, output: &mut Output) -> io::Result<()> {
    for name in [service.to_owned(), format!("{service}.log"), format!("{service}/{service}.log")] {
        match files::open(root, &name).await {
            Ok(files::Opened::File(file)) => {
                let file = tokio::fs::File::from_std(file.file);
                return pass_on(file, output).await;
            }
            // A folder of that name is where its log may be.
            Ok(files::Opened::Folder(_)) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                let text = format!("\nerror getting log for {service}: {error}: {}\n", error.source);
                return output.write(text.as_bytes()).await;
            }
        }
    }
    output.write(format!("\nlog not found for {service}\n").as_bytes()).await
}

/// Where the log goes: to the client, compressed if it likes.
struct Output {
    sender: mpsc::Sender<io::Result<Bytes>>,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Output {
    fn new(sender: mpsc::Sender<io::Result<Bytes>>, is_compressed: bool) -> Self {
        let encoder = is_compressed.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
        Self { sender, encoder }
    }

    /// Fails when the client has left.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let bytes = match &mut self.encoder {
            None => Bytes::copy_from_slice(bytes),
            Some(encoder) => {
                encoder.write_all(bytes)?;
                encoder.flush()?;
                Bytes::from(std::mem::take(encoder.get_mut()))
            }
        };
        self.send(bytes).await
    }

    async fn finish(mut self) -> io::Result<()> {
        let Some(encoder) = self.encoder.take() else { return Ok(()) };
        let rest = encoder.finish()?;
        self.send(rest.into()).await
    }

    async fn send(&self, bytes: Bytes) -> io::Result<()> {
        self.sender.send(Ok(bytes)).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_say_what_was_asked() {
        let always = ["--utc", "--no-pager", "--output=short-precise"];
        let services = ["a".to_owned(), "b".to_owned()];
        assert_eq!(
            arguments(&LogOptions::default(), &services),
            [&always[..], &["--unit=a", "--unit=b"]].concat()
        );
        let options = LogOptions {
            since: Some("2026-01-01T01:00:00+01:00".parse().unwrap()),
            until: Some("2026-01-02T00:00:00Z".parse().unwrap()),
            tail_lines: Some(7),
            boot: Some(-1),
            pattern: Some("-x $(id)".into()),
        };
        let rest = [
            "--since=2026-01-01 00:00:00 UTC",
            "--until=2026-01-02 00:00:00 UTC",
            "--pager-end",
            "--lines=7",
            "--unit=a",
            "--grep=-x $(id)",
            "--boot=-1",
        ];
        assert_eq!(arguments(&options, &services[..1]), [&always[..], &rest].concat());
    }
}
