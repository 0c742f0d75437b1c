//! etcd, the API server, the controllers and the scheduler.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Paths, client};
use crate::process::{Program, Service};

/// How long a cold start of a Go program on a busy machine may take.
const START_LIMIT: Duration = Duration::from_secs(90);

/// The programs of the control plane.
pub(crate) struct ControlPlane {
    /// The API server, which scenarios take away for a while.
    pub(crate) apiserver: Service,
    /// Kept to keep them running.
    _others: [Service; 3],
    paths: Paths,
}

impl ControlPlane {
    /// Starts all four and waits until the API server is ready.
    pub(super) async fn start(paths: &Paths) -> Result<Self> {
        let etcd = Service::new(etcd(paths), &paths.logs);
        etcd.start().await?;
        etcd.answers(START_LIMIT, || async { Ok(tokio::net::TcpStream::connect("127.0.0.1:2379").await?) })
            .await?;
        let apiserver = Service::new(apiserver(paths), &paths.logs);
        let controllers = Service::new(controllers(paths), &paths.logs);
        let scheduler = Service::new(scheduler(paths), &paths.logs);
        let this = Self { apiserver, _others: [etcd, controllers, scheduler], paths: paths.clone() };
        this.start_apiserver().await?;
        this._others[1].start().await?;
        this._others[2].start().await?;
        Ok(this)
    }

    /// Starts the API server (again) and waits until it is ready.
    pub(crate) async fn start_apiserver(&self) -> Result<()> {
        self.apiserver.start().await?;
        let admin = client(&self.paths.file("admin.kubeconfig")).await?;
        let ready = || async {
            let request = http::Request::get("/readyz").body(Vec::new())?;
            admin.request_text(request).await.context("ask the API server whether it is ready")
        };
        self.apiserver.answers(START_LIMIT, ready).await.map(drop)
    }
}

fn etcd(paths: &Paths) -> Program {
    let data = format!("--data-dir={}", paths.file("etcd").display());
    let client = "http://127.0.0.1:2379";
    let args = [
        data,
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        "--listen-peer-urls=http://127.0.0.1:2380".into(),
        // The data does not outlive the cluster.
        "--unsafe-no-fsync".into(),
        "--log-level=error".into(),
    ];
    Program::new("etcd", paths.peers.etcd(), args)
}

fn apiserver(paths: &Paths) -> Program {
    let file = |flag: &str, name: &str| format!("--{flag}={}", paths.file(name).display());
    let args = [
        "--etcd-servers=http://127.0.0.1:2379".into(),
        "--bind-address=0.0.0.0".into(),
        format!("--advertise-address={}", crate::isolation::NODE_IP),
        "--secure-port=6443".into(),
        file("tls-cert-file", "apiserver.crt"),
        file("tls-private-key-file", "apiserver.key"),
        file("client-ca-file", "ca.crt"),
        file("kubelet-client-certificate", "admin.crt"),
        file("kubelet-client-key", "admin.key"),
        file("kubelet-certificate-authority", "ca.crt"),
        "--kubelet-preferred-address-types=InternalIP,Hostname".into(),
        // How servers of other API groups know that a request comes from here, and for whom.
        file("proxy-client-cert-file", "aggregator.crt"),
        file("proxy-client-key-file", "aggregator.key"),
        file("requestheader-client-ca-file", "ca.crt"),
        format!("--requestheader-allowed-names={}", super::certs::AGGREGATOR),
        "--requestheader-username-headers=X-Remote-User".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        file("service-account-key-file", "accounts.pub"),
        file("service-account-signing-key-file", "accounts.key"),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        "--service-cluster-ip-range=10.96.0.0/16".into(),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--enable-bootstrap-token-auth".into(),
        "--allow-privileged=true".into(),
        "--endpoint-reconciler-type=none".into(),
        GATES.into(),
    ];
    Program::new("kube-apiserver", paths.peers.kubernetes("kube-apiserver"), args)
}

/// So that pods may ask for what a kubelet can be told to do, and nobody else takes offence.
const GATES: &str = "--feature-gates=TaintTolerationComparisonOperators=true";

fn controllers(paths: &Paths) -> Program {
    let file = |flag: &str, name: &str| format!("--{flag}={}", paths.file(name).display());
    let args = [
        file("kubeconfig", "controllers.kubeconfig"),
        file("authentication-kubeconfig", "controllers.kubeconfig"),
        file("authorization-kubeconfig", "controllers.kubeconfig"),
        file("service-account-private-key-file", "accounts.key"),
        file("root-ca-file", "ca.crt"),
        file("cluster-signing-cert-file", "ca.crt"),
        file("cluster-signing-key-file", "ca.key"),
        "--use-service-account-credentials".into(),
        "--leader-elect=false".into(),
        "--bind-address=127.0.0.1".into(),
        GATES.into(),
    ];
    Program::new("kube-controller-manager", paths.peers.kubernetes("kube-controller-manager"), args)
}

fn scheduler(paths: &Paths) -> Program {
    let kubeconfig = format!("--kubeconfig={}", paths.file("scheduler.kubeconfig").display());
    let args = [kubeconfig, "--leader-elect=false".into(), "--bind-address=127.0.0.1".into()];
    Program::new("kube-scheduler", paths.peers.kubernetes("kube-scheduler"), args)
}
