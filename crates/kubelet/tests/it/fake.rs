//! `fake-cri` within the test, and a kubelet beside it.

use std::path::PathBuf;

use fake_cri::{Latencies, Options, Server};
use runtime::wire::runtime_service_client::RuntimeServiceClient;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use crate::process::{DEADLINE, Ended, Lab, ended, signal};

/// A runtime that serves until the test ends.
pub(crate) struct FakeRuntime {
    socket: PathBuf,
    control: PathBuf,
}

/// A call for a pod that has ended. Its start is in nanoseconds since 1970.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) start: u64,
}

impl FakeRuntime {
    /// At the socket of the lab's configuration.
    pub(crate) fn serve(lab: &Lab) -> Self {
        let (socket, control) = (lab.path("cri.sock"), lab.path("control.sock"));
        let options = Options {
            socket: socket.clone(),
            control: control.clone(),
            image_folder: lab.path("log"),
            latencies: Latencies::default(),
        };
        let server = Server::bind(options).unwrap();
        tokio::spawn(async { drop(server.serve().await) });
        Self { socket, control }
    }

    /// The bare protocol.
    pub(crate) fn client(&self) -> RuntimeServiceClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", self.socket.display())).unwrap();
        RuntimeServiceClient::new(endpoint.connect_lazy())
    }

    /// Gives a command and returns what is answered.
    pub(crate) async fn command(&self, line: &str) -> String {
        let mut stream = UnixStream::connect(&self.control).await.unwrap();
        stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await.unwrap();
        let text = answer.trim_end().strip_prefix("ok").unwrap_or_else(|| panic!("{line}: {answer}"));
        text.trim_start().to_owned()
    }

    /// The calls for a pod that have ended.
    pub(crate) async fn calls(&self, pod: &str) -> Vec<Call> {
        let answer = self.command(&format!("calls {pod}")).await;
        let items = answer.split_whitespace().map(|item| item.split(':').collect::<Vec<_>>());
        items.map(|parts| Call { name: parts[0].to_owned(), start: parts[1].parse().unwrap() }).collect()
    }
}

/// A kubelet that runs until the work is done. Returns what came of that, and the kubelet's log.
pub(crate) async fn beside<T>(lab: &Lab, work: impl Future<Output = T>) -> (T, String) {
    let mut child = lab.start();
    // Cancel-safe: the test fails when the kubelet ends first.
    let done = tokio::select! {
        done = timeout(DEADLINE, work) => done.ok(),
        status = child.wait() => panic!("the kubelet ended with {status:?}: {}", ended(child).await.stderr),
    };
    signal(&child, Signal::TERM);
    let Ended { code, stderr, .. } = ended(child).await;
    assert_eq!(code, Some(0), "{stderr}");
    (done.unwrap_or_else(|| panic!("it does not come to that:\n{stderr}")), stderr)
}

/// A kubelet that runs until a line of its log has this in it.
pub(crate) async fn until_logged(lab: &Lab, part: &str) {
    let mut child = lab.start();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let logged = async {
        let mut log = Vec::new();
        while let Ok(Ok(Some(line))) = timeout(DEADLINE, lines.next_line()).await {
            if line.contains(part) {
                return;
            }
            log.push(line);
        }
        panic!("{part:?} is not logged:\n{}", log.join("\n"));
    };
    logged.await;
    signal(&child, Signal::TERM);
    assert_eq!(ended(child).await.code, Some(0));
}
