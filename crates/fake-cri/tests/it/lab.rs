//! A server with all that a test asks it through.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use fake_cri::{Latencies, Options, Server};
use futures::{Stream, StreamExt as _};
use model::{PodKey, PodObservation, PodUid};
use runtime::wire::runtime_service_client::RuntimeServiceClient;
use runtime::wire::*;
use runtime::{Runtime, RuntimeEvent, RuntimeSettings, labels};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

pub(crate) struct Lab {
    /// The kubelet's client.
    pub(crate) runtime: Runtime,
    /// The bare protocol.
    pub(crate) client: RuntimeServiceClient<Channel>,
    control: BufStream<UnixStream>,
    pub(crate) dir: tempfile::TempDir,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Lab {
    pub(crate) async fn start(latencies: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            socket: dir.path().join("cri.sock"),
            control: dir.path().join("control.sock"),
            image_folder: dir.path().to_owned(),
            latencies: Latencies::parse(latencies.iter().copied()).unwrap(),
        };
        let endpoint = format!("unix://{}", options.socket.display());
        let control = options.control.clone();
        let server = Server::bind(options).unwrap();
        let server = tokio::spawn(async { drop(server.serve().await) });
        Self {
            runtime: Runtime::connect(&endpoint, None, RuntimeSettings::default()).unwrap(),
            client: RuntimeServiceClient::new(Endpoint::from_shared(endpoint).unwrap().connect_lazy()),
            control: BufStream::new(UnixStream::connect(control).await.unwrap()),
            dir,
            server,
        }
    }

    /// Sends a command and returns the answer.
    pub(crate) async fn command(&mut self, line: &str) -> String {
        self.control.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        self.control.flush().await.unwrap();
        let mut answer = String::new();
        self.control.read_line(&mut answer).await.unwrap();
        answer.trim_end().to_owned()
    }

    pub(crate) async fn run_sandbox(&mut self, name: &str, annotations: &[(&str, &str)]) -> String {
        let request =
            RunPodSandboxRequest { config: Some(self.sandbox(name, annotations)), ..Default::default() };
        self.client.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id
    }

    pub(crate) async fn create_container(&mut self, sandbox: &str, pod: &str) -> String {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".into(), attempt: 0 }),
            image: Some(ImageSpec { image: "img:1".into(), ..Default::default() }),
            labels: pod_labels(pod),
            log_path: "main/0.log".into(),
            ..Default::default()
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            ..Default::default()
        };
        self.client.create_container(request).await.unwrap().into_inner().container_id
    }

    pub(crate) async fn start_container(&mut self, id: &str) {
        self.client.start_container(StartContainerRequest { container_id: id.to_owned() }).await.unwrap();
    }

    /// A pod with one running container; returns the sandbox and the container.
    pub(crate) async fn run_pod(&mut self, name: &str, annotations: &[(&str, &str)]) -> (String, String) {
        let sandbox = self.run_sandbox(name, annotations).await;
        let container = self.create_container(&sandbox, name).await;
        self.start_container(&container).await;
        (sandbox, container)
    }

    pub(crate) async fn observe(&self, name: &str) -> PodObservation {
        let key = PodKey::new("default", name);
        self.runtime.observe(&PodUid::from(format!("uid-{name}").as_str()), &key).await.unwrap()
    }

    /// Events from now on: the stream is open when this returns.
    pub(crate) async fn events(&self) -> Pin<Box<dyn Stream<Item = RuntimeEvent> + Send>> {
        let mut events = Box::pin(self.runtime.events(Arc::default()));
        assert_eq!(events.next().await, Some(RuntimeEvent::Connected));
        events
    }

    fn sandbox(&self, name: &str, annotations: &[(&str, &str)]) -> PodSandboxConfig {
        let metadata = PodSandboxMetadata {
            name: name.into(),
            namespace: "default".into(),
            uid: format!("uid-{name}"),
            attempt: 0,
        };
        let annotations = annotations.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        PodSandboxConfig {
            metadata: Some(metadata),
            log_directory: self.dir.path().join("logs").join(name).display().to_string(),
            labels: pod_labels(name),
            annotations,
            ..Default::default()
        }
    }
}

fn pod_labels(name: &str) -> BTreeMap<String, String> {
    let uid = format!("uid-{name}");
    [(labels::POD_UID, uid.as_str()), (labels::POD_NAME, name), (labels::POD_NAMESPACE, "default")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}
