//! `fake-cri`, a container runtime without containers: for more pods than this machine could run, and for calls that
//! hang on command.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::{Paths, runtime};
use crate::process::{Program, Service};
use crate::{isolation, workspace};

const FOLDER: &str = "/run/fake-cri";
/// Where it speaks CRI.
pub(super) const SOCKET: &str = "/run/fake-cri/cri.sock";
const CONTROL: &str = "/run/fake-cri/control.sock";
const IMAGES: &str = "/var/lib/fake-cri";

/// What the calls of a pod's start take: less than a real runtime needs, so that the machine's two kubelets differ in
/// what they do and not in how long they wait, but enough to have many pods on their way at once.
const LATENCIES: &[&str] = &["RunPodSandbox=20ms", "CreateContainer=5ms", "StartContainer=10ms"];

/// A call for a pod. Times are nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// Its name.
    pub(crate) name: String,
    /// When it arrived.
    pub(crate) start: i64,
    /// When its answer was ready.
    pub(crate) end: i64,
}

/// The runtime, and the way to command it.
pub(crate) struct FakeRuntime {
    service: Service,
}

impl FakeRuntime {
    /// A runtime that is not started yet.
    pub(crate) fn new(paths: &Paths) -> Result<Self> {
        let binary = paths.fake_cri.clone().context("fake-cri was not built")?;
        let mut args: Vec<String> = vec![
            format!("--socket={SOCKET}"),
            format!("--control={CONTROL}"),
            format!("--image-folder={IMAGES}"),
        ];
        args.extend(LATENCIES.iter().map(|latency| format!("--latency={latency}")));
        // An earlier one may have left its own.
        isolation::remove_cgroups("fake-cri")?;
        let mut program = Program::new("fake-cri", binary, args);
        program.cgroups = isolation::create_cgroups("fake-cri")?;
        Ok(Self { service: Service::new(program, &paths.logs) })
    }

    /// Starts it with nothing in it, on a node on which no kubelet has left anything either.
    pub(crate) async fn start_fresh(&self) -> Result<()> {
        self.service.stop().await?;
        runtime::remove_folders(&["/var/lib/kubelet", "/var/log/pods", "/var/log/containers"])?;
        isolation::remove_cgroups("kubepods")?;
        self.start().await
    }

    /// Starts it with nothing in it.
    pub(crate) async fn start(&self) -> Result<()> {
        workspace::create_dir(Path::new(FOLDER))?;
        workspace::create_dir(Path::new(IMAGES))?;
        self.service.start().await?;
        let answers = || async { command("calls none/none").await };
        self.service.answers(Duration::from_secs(30), answers).await.map(drop)
    }

    /// The process.
    pub(super) fn service(&self) -> &Service {
        &self.service
    }

    /// How often a call was made.
    pub(crate) async fn count(&self, call: &str) -> Result<u64> {
        let number = command(&format!("count {call}")).await?;
        number.parse().with_context(|| format!("how often there was {call}"))
    }

    /// The options with which the containers of a pod have something mounted at a path.
    pub(crate) async fn mount_options(&self, pod: &str, path: &str) -> Result<Vec<String>> {
        let options = command(&format!("options {pod} {path}")).await?;
        Ok(options.split_whitespace().map(str::to_owned).collect())
    }

    /// Ends it.
    pub(crate) async fn stop(&self) -> Result<()> {
        self.service.stop().await
    }

    /// Ends all containers of a pod in the default namespace and returns when that was, in nanoseconds since 1970.
    pub(crate) async fn end(&self, pod: &str) -> Result<i64> {
        let at = command(&format!("end default/{pod} 1")).await?;
        at.parse().with_context(|| format!("when {pod} ended"))
    }

    /// Lets calls of this kind for a pod hang.
    pub(crate) async fn hang(&self, pod: &str, call: &str) -> Result<()> {
        command(&format!("hang default/{pod} {call}")).await.map(drop)
    }

    /// Lets calls of this kind fail for a pod in any namespace, `namespace/name`.
    pub(crate) async fn fail(&self, pod: &str, call: &str) -> Result<()> {
        command(&format!("fail {pod} {call}")).await.map(drop)
    }

    /// Answers what hangs, and lets nothing fail any more, for a pod in any namespace, `namespace/name`.
    pub(crate) async fn release_of(&self, pod: &str) -> Result<()> {
        command(&format!("release {pod}")).await.map(drop)
    }

    /// The last request of a kind for a pod, `namespace/name`, or for none, as Rust prints it; waits for the first.
    pub(crate) async fn asked(&self, call: &str, pod: &str) -> Result<String> {
        let line = format!("asked {call} {pod}");
        let asked = tokio::time::timeout(Duration::from_secs(90), command(&line)).await;
        asked.with_context(|| format!("there was no {call} for {pod:?}"))?
    }

    /// Waits until a call for a pod hangs.
    pub(crate) async fn hung(&self, pod: &str) -> Result<()> {
        let line = format!("hung default/{pod}");
        let hung = tokio::time::timeout(Duration::from_secs(90), command(&line)).await;
        hung.with_context(|| format!("no call for {pod} came to hang"))?.map(drop)
    }

    /// Answers what hangs for a pod.
    pub(crate) async fn release(&self, pod: &str) -> Result<()> {
        self.release_of(&format!("default/{pod}")).await
    }

    /// The calls for a pod that have ended.
    pub(crate) async fn calls(&self, pod: &str) -> Result<Vec<Call>> {
        self.calls_of(&format!("default/{pod}")).await
    }

    /// The same of a pod in any namespace, `namespace/name`.
    pub(crate) async fn calls_of(&self, pod: &str) -> Result<Vec<Call>> {
        parse_calls(&command(&format!("calls {pod}")).await?)
    }
}

fn parse_calls(text: &str) -> Result<Vec<Call>> {
    let parse = |item: &str| -> Option<Call> {
        let mut parts = item.split(':');
        let name = parts.next()?.to_owned();
        Some(Call { name, start: parts.next()?.parse().ok()?, end: parts.next()?.parse().ok()? })
    };
    let items = text.split_whitespace();
    items.map(|item| parse(item).with_context(|| format!("fake-cri tells of a call {item:?}"))).collect()
}

async fn command(line: &str) -> Result<String> {
    let ask = async {
        let mut stream = UnixStream::connect(CONTROL).await?;
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = ask.await.with_context(|| format!("tell fake-cri: {line}"))?;
    match answer.trim_end().split_once(' ').unwrap_or((answer.trim_end(), "")) {
        ("ok", text) => Ok(text.to_owned()),
        _ => bail!("fake-cri was told {line:?} and answers {answer:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read() {
        let calls = parse_calls("RunPodSandbox:1:3 StartContainer:4:5").unwrap();
        assert_eq!(calls[1], Call { name: "StartContainer".into(), start: 4, end: 5 });
        assert_eq!(parse_calls("").unwrap(), []);
        assert!(parse_calls("RunPodSandbox:1").is_err());
    }
}
