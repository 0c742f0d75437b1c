//! The node's own credentials: bootstrapped, rotated, signed by the cluster, and connections that die.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{Node, Secret};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::explain;
use super::scene::{EVENTUALLY, SOON, Scene, shell};
use crate::cluster::{Changes, Credentials, node_pair, wait_for};
use crate::isolation::NODE;
use crate::process::Service;
use crate::workspace;

/// The bootstrap token: its public and its secret part.
const TOKEN: (&str, &str) = ("abcdef", "0123456789abcdef");
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";

/// A scenario's folder and what it does with the cluster's requests.
struct Stage<'a> {
    scene: &'a Scene,
    folder: PathBuf,
}

impl<'a> Stage<'a> {
    /// An empty folder, no request of another scenario, and the cluster's own kubelet stopped.
    async fn new(scene: &'a Scene) -> Result<Self> {
        let folder = scene.cluster.paths.file(&scene.namespace);
        workspace::create_dir(&folder)?;
        let stage = Self { scene, folder };
        stage.requests().delete_collection(&DeleteParams::default(), &Default::default()).await?;
        scene.cluster.kubelet.stop().await?;
        Ok(stage)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn link(&self, prefix: &str) -> PathBuf {
        self.folder.join("pki").join(format!("{prefix}-current.pem"))
    }

    fn requests(&self) -> Api<CertificateSigningRequest> {
        Api::all(self.scene.cluster.client.clone())
    }

    fn credentials(&self, fields: Value) -> Credentials {
        Credentials {
            kubeconfig: self.path("kubelet.conf"),
            bootstrap: None,
            certificates: self.path("pki"),
            fields,
        }
    }

    /// A kubeconfig for the API server at this port, with this user.
    fn write_kubeconfig(&self, name: &str, port: u16, user: Value) -> Result<PathBuf> {
        let authority = self.scene.cluster.paths.file("ca.crt");
        let document = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": format!("https://127.0.0.1:{port}"), "certificate-authority": authority } }],
            "users": [{ "name": "test", "user": user }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        });
        let path = self.path(name);
        workspace::write(&path, document.to_string())?;
        Ok(path)
    }

    /// A bootstrap token that the cluster knows and that may ask for certificates which are approved.
    async fn bootstrap_token(&self) -> Result<PathBuf> {
        let secret = json!({
            "metadata": { "name": format!("bootstrap-token-{}", TOKEN.0) },
            "type": "bootstrap.kubernetes.io/token",
            "stringData": { "token-id": TOKEN.0, "token-secret": TOKEN.1, "usage-bootstrap-authentication": "true" },
        });
        let secrets: Api<Secret> = Api::namespaced(self.scene.cluster.client.clone(), "kube-system");
        if secrets.get_opt(&format!("bootstrap-token-{}", TOKEN.0)).await?.is_none() {
            secrets.create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
        }
        self.bind("bootstrappers-ask", "system:node-bootstrapper", "system:bootstrappers").await?;
        let approved = "system:certificates.k8s.io:certificatesigningrequests:nodeclient";
        self.bind("bootstrappers-are-approved", approved, "system:bootstrappers").await?;
        self.write_kubeconfig("bootstrap.conf", 6443, json!({ "token": format!("{}.{}", TOKEN.0, TOKEN.1) }))
    }

    async fn bind(&self, name: &str, role: &str, group: &str) -> Result<()> {
        let binding = json!({
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group }],
        });
        let bindings: Api<ClusterRoleBinding> = Api::all(self.scene.cluster.client.clone());
        if bindings.get_opt(name).await?.is_none() {
            bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await?;
        }
        Ok(())
    }

    async fn unbind(&self, name: &str) -> Result<()> {
        let bindings: Api<ClusterRoleBinding> = Api::all(self.scene.cluster.client.clone());
        if bindings.get_opt(name).await?.is_some() {
            bindings.delete(name, &DeleteParams::default()).await?;
        }
        Ok(())
    }

    /// A pair in the folder of certificates as a kubelet leaves it, and the kubeconfig that names it.
    fn write_pair(&self, from_seconds: i64, to_seconds: i64) -> Result<PathBuf> {
        workspace::create_dir(&self.path("pki"))?;
        let pair = self.path("pki/kubelet-client-2026-01-01-00-00-00.pem");
        workspace::write(&pair, node_pair(&self.scene.cluster.paths, NODE, from_seconds, to_seconds)?)?;
        let link = self.link("kubelet-client");
        std::os::unix::fs::symlink(&pair, &link).context("link the pair")?;
        let user = json!({ "client-certificate": link, "client-key": link });
        self.write_kubeconfig("kubelet.conf", 6443, user)?;
        Ok(pair)
    }

    /// Watches until there is a request that meets a condition.
    async fn request(
        &self,
        what: &str,
        condition: impl Fn(&CertificateSigningRequest) -> bool,
    ) -> Result<CertificateSigningRequest> {
        use futures::StreamExt as _;
        let stream = watcher(self.requests(), watcher::Config::default()).default_backoff().applied_objects();
        let met = stream.filter_map(|one| std::future::ready(one.ok().filter(|one| condition(one))));
        let mut met = std::pin::pin!(met);
        match tokio::time::timeout(EVENTUALLY, met.next()).await {
            Ok(Some(request)) => Ok(request),
            _ => bail!("no certificate request is {what}"),
        }
    }

    /// Proves that the kubelet works with the credentials it has.
    async fn works(&self, kubelet: &Service, name: &str) -> Result<()> {
        let spec = json!({ "containers": [shell("main", "echo here; sleep 100000")] });
        // Cancel-safe: both only watch; the pod stays for the end of the scenario.
        tokio::select! {
            ready = self.scene.ready_pod(name, spec) => ready.map(drop),
            died = kubelet.died() => Err(died),
        }
    }
}

fn is_issued(request: &CertificateSigningRequest) -> bool {
    request.status.as_ref().is_some_and(|status| status.certificate.is_some())
}

fn user(request: &CertificateSigningRequest) -> &str {
    request.spec.username.as_deref().unwrap_or_default()
}

/// The names in a folder, sorted, with times of day replaced.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_dated = name.ends_with(".pem") && name.chars().filter(char::is_ascii_digit).count() == 14;
        names.push(if is_dated {
            name.chars().map(|c| if c.is_ascii_digit() { 'N' } else { c }).collect()
        } else {
            name
        });
    }
    names.sort();
    Ok(names)
}

/// What stands in a PEM file: the labels of its blocks.
fn blocks(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.lines().filter_map(|line| line.strip_prefix("-----BEGIN ")).map(str::to_owned).collect())
}

fn mode(path: &Path) -> Result<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::metadata(path).with_context(|| format!("look at {}", path.display()))?.permissions().mode()
        & 0o777)
}

pub(super) async fn a_token_becomes_a_certificate(scene: Scene) -> Result<()> {
    let stage = Stage::new(&scene).await?;
    let bootstrap = stage.bootstrap_token().await?;
    let credentials = Credentials { bootstrap: Some(bootstrap), ..stage.credentials(json!({})) };
    let kubelet = scene.cluster.kubelet_with("bootstrapping", &credentials)?;
    kubelet.start().await?;
    stage.works(&kubelet, "first").await?;
    let request = stage.request("issued", is_issued).await?;
    ensure!(user(&request) == "system:bootstrap:abcdef", "asked by {}", user(&request));
    let name = request.metadata.name.unwrap_or_default();
    ensure!(name.starts_with("node-csr-") && name.len() == 52, "its name is {name}");
    ensure!(request.spec.signer_name == CLIENT_SIGNER, "signed by {}", request.spec.signer_name);
    let usages = request.spec.usages.unwrap_or_default();
    ensure!(usages == ["digital signature", "client auth"], "usages {usages:?}");
    ensure!(request.spec.expiration_seconds.is_none(), "no wish for a lifetime");
    let files = names(&stage.path("pki"))?;
    let wanted = ["kubelet-client-NNNN-NN-NN-NN-NN-NN.pem", "kubelet-client-current.pem"];
    ensure!(files == wanted, "the folder has {files:?}");
    let link = stage.link("kubelet-client");
    let target = std::fs::read_link(&link).context("read the link")?;
    ensure!(target.is_absolute() && mode(&target)? == 0o600, "{} is for its owner", target.display());
    let parts = blocks(&link)?;
    ensure!(parts == ["CERTIFICATE-----", "EC PRIVATE KEY-----"], "the pair has {parts:?}");
    let kubeconfig = std::fs::read_to_string(&credentials.kubeconfig).context("read the kubeconfig")?;
    ensure!(mode(&credentials.kubeconfig)? == 0o600, "the kubeconfig is for its owner");
    let authority = scene.cluster.paths.file("ca.crt");
    let wanted = format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority: {}\n    server: https://127.0.0.1:6443\n  name: default-cluster\n\
         contexts:\n- context:\n    cluster: default-cluster\n    namespace: default\n    user: default-auth\n  name: default-context\n\
         current-context: default-context\nkind: Config\n\
         users:\n- name: default-auth\n  user:\n    client-certificate: {link}\n    client-key: {link}\n",
        authority.display(),
        link = link.display(),
    );
    ensure!(kubeconfig == wanted, "the kubeconfig is\n{kubeconfig}\nand not\n{wanted}");
    // The token is not needed any more.
    workspace::write(&stage.path("bootstrap.conf"), "gone")?;
    kubelet.restart().await?;
    stage.works(&kubelet, "second").await?;
    kubelet.stop().await
}

/// A node that waits for a certificate says which request somebody has to approve, and how long those hold that it has.
pub(super) async fn a_certificate_that_nobody_approves_is_explained(scene: Scene) -> Result<()> {
    let stage = Stage::new(&scene).await?;
    let bootstrap = stage.bootstrap_token().await?;
    stage.unbind("bootstrappers-are-approved").await?;
    for is_rotating in [false, true] {
        let fields = json!({
            "rotateCertificates": is_rotating, "serverTLSBootstrap": is_rotating,
            "tlsCertFile": null, "tlsPrivateKeyFile": null,
        });
        let credentials = Credentials { bootstrap: Some(bootstrap.clone()), ..stage.credentials(fields) };
        let kubelet = scene.cluster.kubelet_with("unapproved", &credentials)?;
        kubelet.start().await?;
        let request = stage.request("there", |request| !is_issued(request)).await?;
        let name = request.metadata.name.unwrap_or_default();
        explain::answers(&kubelet).await?;
        explain::until_waits(&scene, None, "its client certificate", &name).await?;
        let text = explain::text(&scene, None).await?;
        let parts = [
            &format!("\n  error     certificate signing request {name} is not approved and signed yet\n"),
            &format!("kubectl certificate approve {name}\n"),
        ];
        let first = text.lines().nth(1).unwrap_or_default();
        ensure!(
            first.starts_with("it waits for its client certificate, "),
            "the cause is not the first:\n{text}"
        );
        explain::expect(&text, "node ", &parts.map(String::as_str))?;
        scene.kubectl_out(&["certificate", "approve", &name]).await?;
        stage.works(&kubelet, if is_rotating { "second" } else { "first" }).await?;
        if is_rotating {
            its_certificates_are_told(&scene, &stage, &kubelet).await?;
        }
        kubelet.stop().await?;
        std::fs::remove_dir_all(stage.path("pki")).context("forget the certificate")?;
        std::fs::remove_file(stage.path("kubelet.conf")).context("forget the kubeconfig")?;
        stage.requests().delete_collection(&DeleteParams::default(), &Default::default()).await?;
    }
    Ok(())
}

async fn its_certificates_are_told(scene: &Scene, stage: &Stage<'_>, kubelet: &Service) -> Result<()> {
    let request = stage.request("there", |request| request.spec.signer_name == SERVING_SIGNER).await?;
    let name = request.metadata.name.unwrap_or_default();
    explain::until_waits(scene, None, "its serving certificate", &name).await?;
    scene.kubectl_out(&["certificate", "approve", &name]).await?;
    let told = async || {
        let parts = ["\nclient certificate holds for ", "\nserving certificate holds for "];
        explain::expect(&explain::text(scene, None).await?, "node ", &parts)
    };
    kubelet.answers(SOON, told).await
}

pub(super) async fn client_certificate_is_rotated(scene: Scene) -> Result<()> {
    let stage = Stage::new(&scene).await?;
    let approved = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient";
    stage.bind("nodes-are-approved", approved, "system:nodes").await?;
    // Nine tenths of its life are over: it is due at once.
    let old = stage.write_pair(-9 * 3600 - 60, 3600)?;
    let kubelet =
        scene.cluster.kubelet_with("rotating", &stage.credentials(json!({ "rotateCertificates": true })))?;
    kubelet.start().await?;
    let request = stage.request("issued", is_issued).await?;
    ensure!(user(&request) == format!("system:node:{NODE}"), "asked by {}", user(&request));
    ensure!(request.metadata.generate_name.as_deref() == Some("csr-"), "its name is the server's");
    ensure!(request.spec.signer_name == CLIENT_SIGNER, "signed by {}", request.spec.signer_name);
    let link = stage.link("kubelet-client");
    let switched = async || {
        let target = std::fs::read_link(&link)?;
        ensure!(target != old, "the link still points to the old pair");
        Ok(target)
    };
    let target = kubelet.answers(SOON, switched).await?;
    let parts = blocks(&target)?;
    ensure!(parts == ["CERTIFICATE-----", "EC PRIVATE KEY-----"], "the pair has {parts:?}");
    ensure!(old.exists(), "the old pair stays");
    stage.works(&kubelet, "rotated").await?;
    // And after a restart: with the new one, which is not due.
    kubelet.restart().await?;
    stage.works(&kubelet, "again").await?;
    ensure!(stage.requests().list(&Default::default()).await?.items.len() == 1, "one request was enough");
    stage.unbind("nodes-are-approved").await?;
    kubelet.stop().await
}

pub(super) async fn serving_certificate_is_signed_by_the_cluster(scene: Scene) -> Result<()> {
    let stage = Stage::new(&scene).await?;
    let fields = json!({ "serverTLSBootstrap": true, "tlsCertFile": null, "tlsPrivateKeyFile": null });
    let credentials =
        Credentials { kubeconfig: scene.cluster.paths.file("node.kubeconfig"), ..stage.credentials(fields) };
    let kubelet = scene.cluster.kubelet_with("serving", &credentials)?;
    kubelet.start().await?;
    stage.works(&kubelet, "talks").await?;
    let request = stage.request("there", |request| request.spec.signer_name == SERVING_SIGNER).await?;
    ensure!(user(&request) == format!("system:node:{NODE}"), "asked by {}", user(&request));
    let usages = request.spec.usages.clone().unwrap_or_default();
    ensure!(usages == ["digital signature", "server auth"], "usages {usages:?}");
    ensure!(!stage.link("kubelet-server").exists(), "nobody has approved it yet");
    ensure!(
        scene.first_line("talks", "main").await.is_err(),
        "without a certificate there is nothing to connect to"
    );
    let name = request.metadata.name.unwrap_or_default();
    scene.kubectl_out(&["certificate", "approve", &name]).await?;
    // The API server checks the certificate and its names when it fetches a log.
    let line = kubelet.answers(SOON, || scene.first_line("talks", "main")).await?;
    ensure!(line == "here", "it says {line:?}");
    let files = names(&stage.path("pki"))?;
    let wanted = ["kubelet-server-NNNN-NN-NN-NN-NN-NN.pem", "kubelet-server-current.pem"];
    ensure!(files == wanted, "the folder has {files:?}");
    kubelet.restart().await?;
    let line = kubelet.answers(SOON, || scene.first_line("talks", "main")).await?;
    ensure!(line == "here", "it says {line:?} after a restart");
    ensure!(stage.requests().list(&Default::default()).await?.items.len() == 1, "one request was enough");
    kubelet.stop().await
}

/// A node that waits for a cloud provider to tell its addresses has a name alone. Only with the gate on that is enough to ask
/// for a serving certificate.
pub(super) async fn a_name_alone_is_certified_with_its_gate(scene: Scene) -> Result<()> {
    let stage = Stage::new(&scene).await?;
    let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
    let has_name_alone = |node: &Node| {
        let all = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        !all.is_empty() && all.iter().all(|address| address.type_ == "Hostname")
    };
    for (name, is_on) in [("name-is-not-enough", false), ("name-is-enough", true)] {
        // The addresses of a Node that is there already are kept.
        nodes.delete(NODE, &DeleteParams::default()).await.context("delete the Node")?;
        let fields = json!({
            "serverTLSBootstrap": true, "tlsCertFile": null, "tlsPrivateKeyFile": null,
            "featureGates": { "AllowDNSOnlyNodeCSR": is_on },
        });
        let flags = vec![
            format!("--cert-dir={}", stage.path(name).display()),
            "--cloud-provider=external".to_owned(),
            "--node-ip=".to_owned(),
        ];
        let kubelet = scene.cluster.kubelet_changed(name, Changes { fields, flags, ..Changes::default() })?;
        kubelet.start().await?;
        stage.works(&kubelet, name).await?;
        let is_there = |node: Option<&Node>| node.is_some_and(&has_name_alone);
        wait_for(&nodes, NODE, SOON, is_there).await.context("wait for the node to tell its name")?;
        if is_on {
            let request =
                stage.request("there", |request| request.spec.signer_name == SERVING_SIGNER).await?;
            ensure!(user(&request) == format!("system:node:{NODE}"), "asked by {}", user(&request));
        } else {
            let all = stage.requests().list(&Default::default()).await?.items;
            ensure!(all.is_empty(), "it asks for a certificate without an address");
        }
        kubelet.stop().await?;
    }
    // Its taint and its addresses are not those of the cluster's own kubelet.
    nodes.delete(NODE, &DeleteParams::default()).await.map(drop).context("delete the Node")
}

/// Upstream exits and bootstraps when it is started again.
pub(super) async fn expired_client_certificate_is_replaced_without_a_restart(scene: Scene) -> Result<()> {
    let stage = Stage::new(&scene).await?;
    // The node's own request is never approved, and its certificate expires in a moment.
    stage.unbind("nodes-are-approved").await?;
    let bootstrap = stage.bootstrap_token().await?;
    let old = stage.write_pair(-36000, 15)?;
    let credentials = Credentials {
        bootstrap: Some(bootstrap),
        ..stage.credentials(json!({ "rotateCertificates": true }))
    };
    let kubelet = scene.cluster.kubelet_with("expiring", &credentials)?;
    kubelet.start().await?;
    let pid = kubelet.pid();
    let request = stage.request("issued", is_issued).await?;
    ensure!(user(&request) == "system:bootstrap:abcdef", "asked by {}", user(&request));
    let link = stage.link("kubelet-client");
    let switched = async || {
        ensure!(std::fs::read_link(&link)? != old, "the link still points to the old pair");
        Ok(())
    };
    kubelet.answers(SOON, switched).await?;
    stage.works(&kubelet, "recovered").await?;
    ensure!(pid.is_some() && kubelet.pid() == pid, "it is the same process");
    kubelet.stop().await
}

/// Passes connections on to the API server, until it is told to swallow what they carry.
struct Relay {
    port: u16,
    silence: watch::Sender<u32>,
}

impl Relay {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen for the kubelet")?;
        let port = listener.local_addr().context("listen for the kubelet")?.port();
        let (silence, silent) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut silent = silent.clone();
                silent.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect("127.0.0.1:6443").await else { return };
                    // What is on its way is lost, which is the point.
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        told = silent.changed() => if told.is_ok() {
                            // Open, and deaf and dumb.
                            let _ = silent.wait_for(|_| false).await;
                        },
                    }
                });
            }
        });
        Ok(Self { port, silence })
    }
}

/// Upstream's client takes 45 s to notice.
pub(super) async fn dead_connection_is_replaced(scene: Scene) -> Result<()> {
    let stage = Stage::new(&scene).await?;
    let relay = Relay::start().await?;
    stage.write_pair(-60, 3600)?;
    let link = stage.link("kubelet-client");
    let user = json!({ "client-certificate": link, "client-key": link });
    stage.write_kubeconfig("kubelet.conf", relay.port, user)?;
    let kubelet = scene.cluster.kubelet_with("relayed", &stage.credentials(json!({})))?;
    kubelet.start().await?;
    stage.works(&kubelet, "before").await?;
    let ready_since = async || -> Result<Value> {
        let nodes: Api<Node> = Api::all(scene.cluster.client.clone());
        let conditions = nodes.get(NODE).await?.status.and_then(|s| s.conditions).unwrap_or_default();
        let ready = conditions.iter().find(|c| c.type_ == "Ready").context("no Ready condition")?;
        Ok(json!([ready.status, ready.last_transition_time]))
    };
    let before = ready_since().await?;
    relay.silence.send_modify(|count| *count += 1);
    // Its watch of pods has to be a new one for this.
    stage.works(&kubelet, "after").await?;
    let renewed = tokio::time::timeout(Duration::from_secs(90), lease_renewed(&scene)).await;
    renewed.context("the lease is not renewed")??;
    let now = ready_since().await?;
    ensure!(before == now, "the node was ready all along: {before}, then {now}");
    kubelet.stop().await
}

/// Watches until the node's lease is renewed.
pub(super) async fn lease_renewed(scene: &Scene) -> Result<()> {
    use futures::StreamExt as _;
    use k8s_openapi::api::coordination::v1::Lease;
    let leases: Api<Lease> = Api::namespaced(scene.cluster.client.clone(), "kube-node-lease");
    let config = watcher::Config::default().fields(&format!("metadata.name={NODE}"));
    let mut seen = std::pin::pin!(watcher(leases, config).default_backoff().applied_objects());
    // The first is the lease as it is.
    for _ in 0..2 {
        seen.next().await.context("the watch of the lease ended")??;
    }
    Ok(())
}

/// The kubelet's credentials come from a program, which is asked again when they expire.
pub(super) async fn a_program_knows_the_credentials(scene: Scene) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let stage = Stage::new(&scene).await?;
    let (program, asked) = (stage.path("who-am-i"), stage.path("asked"));
    let pair = node_pair(&scene.cluster.paths, NODE, -60, 3600)?;
    let (certificate, key) =
        pair.split_at(pair.find("-----BEGIN PRIVATE KEY").context("the pair has no key")?);
    // The first answer is for a moment only; `date` makes the time of the moment.
    let script = format!(
        "#!/bin/sh\n\
         echo \"$GREETING $*\" $KUBERNETES_EXEC_INFO >> {asked}\n\
         if test \"$(wc -l < {asked})\" -gt 1; then seconds=3600; else seconds=10; fi\n\
         expires=$(date -u -d @$(($(date +%s) + seconds)) +%Y-%m-%dT%H:%M:%SZ)\n\
         sed \"s/EXPIRES/$expires/\" {answer}\n",
        asked = asked.display(),
        answer = stage.path("answer").display(),
    );
    let answer = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {
            "clientCertificateData": certificate, "clientKeyData": key, "expirationTimestamp": "EXPIRES",
        },
    });
    workspace::write(&stage.path("answer"), answer.to_string())?;
    workspace::write(&program, script)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))
        .context("make the program executable")?;
    let user = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": program, "args": ["an-argument"],
        "env": [{ "name": "GREETING", "value": "hello" }],
        "interactiveMode": "Never", "provideClusterInfo": true,
    } });
    stage.write_kubeconfig("kubelet.conf", 6443, user)?;
    let kubelet = scene.cluster.kubelet_with("told-who-it-is", &stage.credentials(json!({})))?;
    kubelet.start().await?;
    stage.works(&kubelet, "first").await?;
    let questions = || -> Result<Vec<String>> {
        let text = std::fs::read_to_string(&asked).context("read what the program was asked")?;
        Ok(text.lines().map(str::to_owned).collect())
    };
    let first = questions()?.swap_remove(0);
    ensure!(first.starts_with("hello an-argument {"), "environment and arguments: {first}");
    let info: Value = serde_json::from_str(first.trim_start_matches("hello an-argument "))
        .context("read what the program was told")?;
    ensure!(info["kind"] == "ExecCredential", "it was told {info}");
    ensure!(info["spec"]["interactive"] == json!(false), "nobody can be asked: {info}");
    ensure!(info["spec"]["cluster"]["server"] == "https://127.0.0.1:6443", "it knows the cluster: {info}");
    let again = async || {
        ensure!(questions()?.len() > 1, "the program was asked once");
        Ok(())
    };
    kubelet.answers(SOON, again).await?;
    stage.works(&kubelet, "second").await?;
    kubelet.stop().await
}
