//! Certificates in files that are replaced while the kubelet runs: its own, and those of whom it believes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::floods::KUBELET;
use super::scene::{EVENTUALLY, SOON, Scene};
use crate::cluster::{Authority, Changes, Paths, admin_pair_with_uid, serving_pair};
use crate::process::Service;
use crate::workspace;

/// A connection to the kubelet.
pub(super) struct Line {
    sender: SendRequest<Empty<Bytes>>,
    /// The certificate the kubelet showed.
    pub(super) shown: CertificateDer<'static>,
}

impl Line {
    /// Connects with a client certificate and its key, in one text; the kubelet has to have one of the cluster's authority.
    pub(super) async fn open(paths: &Paths, pair: &str) -> Result<Self> {
        let chain = vec![CertificateDer::from_pem_slice(pair.as_bytes()).context("read a certificate")?];
        let key = PrivateKeyDer::from_pem_slice(pair.as_bytes()).context("read a key")?;
        let config =
            trusting(paths)?.with_client_auth_cert(chain, key).context("use the client certificate")?;
        Self::open_with(config).await
    }

    /// Connects without a client certificate.
    pub(super) async fn open_plain(paths: &Paths) -> Result<Self> {
        Self::open_with(trusting(paths)?.with_no_client_auth()).await
    }

    async fn open_with(config: ClientConfig) -> Result<Self> {
        let stream = TcpStream::connect(KUBELET).await.context("connect to the kubelet")?;
        let name = ServerName::try_from("localhost").context("name the server")?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.context("speak TLS")?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|all| all.first());
        let shown = shown.context("the kubelet has no certificate")?.clone().into_owned();
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.context("speak HTTP")?;
        tokio::spawn(connection);
        Ok(Self { sender, shown })
    }

    /// Asks for a path with a further header, and reads the answer to its end.
    pub(super) async fn get(&mut self, path: &str, header: Option<(&str, &str)>) -> Result<StatusCode> {
        self.sender.ready().await.context("the connection is closed")?;
        let mut request = Request::get(path).header(HOST, "localhost");
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let asked = self.sender.send_request(request.body(Empty::new())?);
        let answer = tokio::time::timeout(SOON, asked).await.context("no answer")?.context("ask")?;
        let status = answer.status();
        answer.into_body().collect().await.context("read the answer")?;
        Ok(status)
    }
}

/// Trusts the cluster's authority.
fn trusting(paths: &Paths) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(paths.file("ca.crt")).context("read the authority")?;
    roots.add(authority).context("trust the authority")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choose TLS versions")?;
    Ok(builder.with_root_certificates(roots))
}

/// The pair of the cluster's administrator, in one text.
pub(super) fn admin_pair(paths: &Paths) -> Result<String> {
    let read = |name: &str| std::fs::read_to_string(paths.file(name)).with_context(|| format!("read {name}"));
    Ok(read("admin.crt")? + &read("admin.key")?)
}

/// Replaces a file as careful people do: readers see the old or the new, never a part.
fn replace(path: &Path, content: &str) -> Result<()> {
    let unfinished = path.with_extension("unfinished");
    workspace::write(&unfinished, content)?;
    std::fs::rename(&unfinished, path).with_context(|| format!("replace {}", path.display()))
}

/// The files of a scenario.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    authorities: PathBuf,
}

impl Files {
    fn new(scene: &Scene) -> Result<Self> {
        let folder = scene.cluster.paths.file(&scene.namespace);
        workspace::create_dir(&folder)?;
        let file = |name: &str| folder.join(name);
        Ok(Self { certificate: file("tls.crt"), key: file("tls.key"), authorities: file("clients.crt") })
    }

    fn write_pair(&self, (certificate, key): (String, String)) -> Result<()> {
        replace(&self.key, &key)?;
        replace(&self.certificate, &certificate)
    }

    fn changes(&self) -> Changes {
        let fields = json!({
            "tlsCertFile": self.certificate,
            "tlsPrivateKeyFile": self.key,
            "authentication": {
                "anonymous": { "enabled": false },
                "webhook": { "enabled": true },
                "x509": { "clientCAFile": self.authorities },
            },
        });
        Changes { fields, ..Changes::default() }
    }
}

pub(super) async fn are_read_again_when_they_change(scene: Scene) -> Result<()> {
    let paths = &scene.cluster.paths;
    let files = Files::new(&scene)?;
    let ours = std::fs::read_to_string(paths.file("ca.crt")).context("read the authority")?;
    files.write_pair(serving_pair(paths)?)?;
    replace(&files.authorities, &ours)?;
    scene.cluster.kubelet.stop().await?;
    let kubelet = scene.cluster.kubelet_changed("changing-certificates", files.changes())?;
    kubelet.start().await?;

    let admin = admin_pair(paths)?;
    let pods = async |pair: &str| Line::open(paths, pair).await?.get("/pods", None).await;
    let mut line = kubelet.answers(SOON, || Line::open(paths, &admin)).await?;
    // It may listen before it knows whom to ask what callers may do.
    let answered = async || {
        let status = pods(&admin).await?;
        ensure!(status == StatusCode::OK, "the administrator is answered {status}");
        Ok(())
    };
    kubelet.answers(SOON, answered).await?;
    ensure!(line.get("/pods", None).await? == StatusCode::OK, "the administrator is let in");
    let old = line.shown.clone();

    // Its own certificate: new connections see the new one.
    files.write_pair(serving_pair(paths)?)?;
    let switched = async || {
        let line = Line::open(paths, &admin).await?;
        ensure!(line.shown != old, "it still shows the old certificate");
        Ok(line)
    };
    let mut newer = kubelet.answers(EVENTUALLY, switched).await?;
    ensure!(newer.get("/pods", None).await? == StatusCode::OK, "the new connection works");
    ensure!(line.get("/pods", None).await? == StatusCode::OK, "the old connection lives on");

    // Damaged: the last good one stays.
    replace(&files.certificate, "no certificate\n")?;
    let other = Authority::generate()?;
    let theirs = other.admin_pair()?;
    let status = pods(&theirs).await?;
    ensure!(status == StatusCode::UNAUTHORIZED, "whom nobody vouches for is answered {status}");

    // Those of whom it believes: one more, then only that.
    replace(&files.authorities, &format!("{ours}{}", other.certificate()?))?;
    let becomes = async |pair: &str, wanted: StatusCode| becomes(&scene, &kubelet, pair, wanted).await;
    becomes(&theirs, StatusCode::OK).await?;
    becomes(&admin, StatusCode::OK).await?;
    replace(&files.authorities, &other.certificate()?)?;
    becomes(&admin, StatusCode::UNAUTHORIZED).await?;
    becomes(&theirs, StatusCode::OK).await?;
    let line = Line::open(paths, &theirs).await?;
    ensure!(line.shown == newer.shown, "with the damaged file the last good certificate is in use");
    kubelet.stop().await
}

/// Waits until the holder of a pair is answered so.
async fn becomes(scene: &Scene, kubelet: &Service, pair: &str, wanted: StatusCode) -> Result<()> {
    let check = async || {
        let status = Line::open(&scene.cluster.paths, pair).await?.get("/pods", None).await?;
        ensure!(status == wanted, "it is answered {status} and not {wanted}");
        Ok(())
    };
    kubelet.answers(EVENTUALLY, check).await
}

/// With its gate off a file is read once. The other file, written later, shows when this one would have been read again.
pub(super) async fn stay_without_their_gates(scene: Scene) -> Result<()> {
    let paths = &scene.cluster.paths;
    let files = Files::new(&scene)?;
    let ours = std::fs::read_to_string(paths.file("ca.crt")).context("read the authority")?;
    let admin = admin_pair(paths)?;
    let other = Authority::generate()?;
    let (theirs, both) = (other.admin_pair()?, format!("{ours}{}", other.certificate()?));
    scene.cluster.kubelet.stop().await?;
    let started = async |name: &'static str, gate: &str| {
        files.write_pair(serving_pair(paths)?)?;
        replace(&files.authorities, &ours)?;
        let mut changes = files.changes();
        changes.fields["featureGates"] = json!({ gate: false });
        let kubelet = scene.cluster.kubelet_changed(name, changes)?;
        kubelet.start().await?;
        becomes(&scene, &kubelet, &admin, StatusCode::OK).await?;
        let shown = Line::open(paths, &admin).await?.shown;
        anyhow::Ok((kubelet, shown))
    };

    let (kubelet, old) = started("certificate-stays", "ReloadKubeletServerCertificateFile").await?;
    files.write_pair(serving_pair(paths)?)?;
    replace(&files.authorities, &both)?;
    becomes(&scene, &kubelet, &theirs, StatusCode::OK).await?;
    ensure!(Line::open(paths, &admin).await?.shown == old, "it shows the new certificate");
    kubelet.stop().await?;

    let (kubelet, old) = started("authorities-stay", "ReloadKubeletClientCAFile").await?;
    replace(&files.authorities, &both)?;
    files.write_pair(serving_pair(paths)?)?;
    let switched = async || {
        ensure!(Line::open(paths, &admin).await?.shown != old, "it still shows the old certificate");
        Ok(())
    };
    kubelet.answers(EVENTUALLY, switched).await?;
    becomes(&scene, &kubelet, &theirs, StatusCode::UNAUTHORIZED).await?;
    kubelet.stop().await
}

/// A certificate that names an empty uid lets nobody in, unless uids are not looked at.
pub(super) async fn name_uids_with_their_gate(scene: Scene) -> Result<()> {
    let paths = &scene.cluster.paths;
    let (named, empty) = (admin_pair_with_uid(paths, "u-1")?, admin_pair_with_uid(paths, "")?);
    let answers = async |kubelet: &Service, wanted: StatusCode| {
        becomes(&scene, kubelet, &named, StatusCode::OK).await?;
        let status = Line::open(paths, &empty).await?.get("/pods", None).await?;
        ensure!(status == wanted, "who names an empty uid is answered {status} and not {wanted}");
        anyhow::Ok(())
    };
    answers(&scene.cluster.kubelet, StatusCode::UNAUTHORIZED)
        .await
        .context("as long as nobody turns it off")?;
    scene.cluster.kubelet.stop().await?;
    let fields = json!({ "featureGates": { "AllowParsingUserUIDFromCertAuth": false } });
    let kubelet = scene.cluster.kubelet_changed("without-uids", Changes { fields, ..Changes::default() })?;
    kubelet.start().await?;
    answers(&kubelet, StatusCode::OK).await?;
    kubelet.stop().await
}
