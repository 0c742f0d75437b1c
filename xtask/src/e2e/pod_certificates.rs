//! Certificates that pods have signed for them, with the test as the signer.

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::PodCertificateRequest;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, PublicKeyData, SignatureAlgorithm};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use super::scene::{EVENTUALLY, SOON, Scene, is_ready, phase, shell, with};
use crate::cluster::Changes;
use crate::isolation::NODE;

/// A public key of somebody else.
struct PublicKey {
    key: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.key
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

/// A signer for the scenario's own names.
struct Signer<'a> {
    scene: &'a Scene,
    requests: Api<PodCertificateRequest>,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl<'a> Signer<'a> {
    fn new(scene: &'a Scene) -> Result<Self> {
        let mut params = CertificateParams::new(vec![]).context("name the authority")?;
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().context("make a key")?;
        let authority = CertifiedIssuer::self_signed(params, key).context("make an authority")?;
        Ok(Self { scene, requests: scene.api(), authority })
    }

    /// One of its names for each kind of key.
    fn name(&self, key_type: &str) -> String {
        format!("{}.example/{}", self.scene.namespace, key_type.to_lowercase())
    }

    /// A source for this kind of key.
    fn source(&self, key_type: &str, paths: Value) -> Value {
        let asked = json!({
            "signerName": self.name(key_type), "keyType": key_type, "maxExpirationSeconds": 7200,
            "userAnnotations": { "example.com/kind": key_type },
        });
        json!({ "podCertificate": with(asked, paths) })
    }

    /// Watches until somebody has asked for such a certificate, and not by the request of that name.
    async fn request(&self, key_type: &str, but: Option<&str>) -> Result<PodCertificateRequest> {
        let signer = self.name(key_type);
        let stream =
            watcher(self.requests.clone(), watcher::Config::default()).default_backoff().applied_objects();
        let met = stream.filter_map(|one| {
            let is_met = |one: &PodCertificateRequest| {
                one.spec.signer_name == signer && one.metadata.name.as_deref() != but
            };
            std::future::ready(one.ok().filter(is_met))
        });
        match tokio::time::timeout(SOON, std::pin::pin!(met).next()).await {
            Ok(Some(request)) => Ok(request),
            _ => bail!("no certificate with a key of kind {key_type} is asked for"),
        }
    }

    async fn answer(&self, request: &PodCertificateRequest, kind: &str, status: Value) -> Result<String> {
        let condition = json!({
            "type": kind, "status": "True", "reason": "Because", "message": "so \"it\" is",
            "lastTransitionTime": Timestamp::now(),
        });
        let status = json!({ "status": with(json!({ "conditions": [condition] }), status) });
        let name = request.metadata.name.clone().context("the request has a name")?;
        let patch = Patch::Merge(&status);
        self.requests
            .patch_status(&name, &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("answer the request {name}"))?;
        Ok(name)
    }

    /// Signs, and returns the chain.
    async fn sign(&self, request: &PodCertificateRequest) -> Result<String> {
        let asked = &request.spec.stub_pkc_s10_request.0;
        let (_, asked) = X509CertificationRequest::from_der(asked).context("read the PKCS #10 request")?;
        let key = &asked.certification_request_info.subject_pki;
        let algorithm = match key.algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.10045.2.1" => &rcgen::PKCS_ECDSA_P256_SHA256,
            "1.2.840.113549.1.1.1" => &rcgen::PKCS_RSA_SHA256,
            _ => &rcgen::PKCS_ED25519,
        };
        let key = PublicKey { key: key.subject_public_key.data.to_vec(), algorithm };
        let now = Timestamp::now().as_second();
        let mut params = CertificateParams::new(vec!["pod.example".to_owned()]).context("name the pod")?;
        params.not_before = time::OffsetDateTime::from_unix_timestamp(now)?;
        params.not_after = time::OffsetDateTime::from_unix_timestamp(now + 3600)?;
        let leaf = params.signed_by(&key, &self.authority).context("sign the certificate")?;
        let chain = format!("{}{}", leaf.pem(), self.authority.pem()).replace("\r\n", "\n");
        let begun = Timestamp::from_second(now)?;
        let at = |minutes| begun.checked_add(SignedDuration::from_mins(minutes));
        let status = json!({
            "certificateChain": chain, "notBefore": begun, "beginRefreshAt": at(30)?, "notAfter": at(60)?,
        });
        self.answer(request, "Issued", status).await?;
        Ok(chain)
    }
}

fn showing(script: &str, sources: &[Value]) -> Value {
    let mounts = json!({ "volumeMounts": [{ "name": "own", "mountPath": "/c" }] });
    let volumes = json!([{ "name": "own", "projected": { "sources": sources } }]);
    json!({ "containers": [with(shell("main", script), mounts)], "volumes": volumes })
}

/// What the event about a mount that fails begins with.
const MOUNT: &str = "MountVolume.SetUp failed for volume \"own\" : ";

/// Keys of several kinds with their certificates, together and apart.
pub(super) async fn reach_the_volume(scene: Scene) -> Result<()> {
    let signer = Signer::new(&scene)?;
    let sources = [
        signer.source("ECDSAP256", json!({ "credentialBundlePath": "p256" })),
        signer.source("ED25519", json!({ "keyPath": "ed/key", "certificateChainPath": "ed/chain" })),
        signer.source("RSA3072", json!({ "credentialBundlePath": "rsa" })),
    ];
    let script = "cat /c/p256; echo next; cat /c/ed/key /c/ed/chain; echo next; cat /c/rsa; echo next";
    let mut spec = showing(script, &sources);
    spec["restartPolicy"] = json!("Never");
    let pod = scene.pod("owner", spec).await?;
    scene.event_naming("owner", "FailedMount", "credential bundle is not issued yet").await?;
    let mut issued = Vec::new();
    for kind in ["ECDSAP256", "ED25519", "RSA3072"] {
        let request = signer.request(kind, None).await?;
        let spec = &request.spec;
        let annotations = spec.unverified_user_annotations.clone().unwrap_or_default();
        ensure!(
            annotations.get("example.com/kind").map(String::as_str) == Some(kind),
            "the pod's annotations are the request's: {annotations:?}"
        );
        ensure!(
            (spec.node_name.as_str(), spec.pod_name.as_str(), spec.service_account_name.as_str())
                == (NODE, "owner", "default")
                && Some(&spec.pod_uid) == pod.metadata.uid.as_ref()
                && spec.max_expiration_seconds == Some(7200),
            "the request is for the pod: {spec:?}"
        );
        let owner = request.metadata.owner_references.iter().flatten().next().context("an owner")?;
        ensure!(Some(&owner.uid) == pod.metadata.uid.as_ref(), "it goes with the pod: {owner:?}");
        issued.push((request.spec.stub_pkc_s10_request.0.clone(), signer.sign(&request).await?));
    }
    scene.until("owner", "finished", EVENTUALLY, |pod| phase(pod) == "Succeeded").await?;
    let log = scene.log("owner", None).await?;
    let shown: Vec<&str> = log.split_terminator("next\n").collect();
    ensure!(shown.len() == issued.len(), "all files are shown: {log}");
    for (text, (request, chain)) in shown.into_iter().zip(issued) {
        let key =
            text.strip_suffix(chain.as_str()).context("the key comes before the chain as it was signed")?;
        let key = KeyPair::from_pem(key).context("read the pod's key")?;
        let (_, request) = X509CertificationRequest::from_der(&request).context("read the request")?;
        ensure!(
            key.subject_public_key_info() == request.certification_request_info.subject_pki.raw,
            "the key is that of the request"
        );
    }
    Ok(())
}

/// What the signer says reaches whoever looks at the pod. The API server has checked the requests, whatever their keys.
pub(super) async fn that_are_refused_say_so(scene: Scene) -> Result<()> {
    let signer = Signer::new(&scene)?;
    let namespace = &scene.namespace;
    for (pod, kind, key_type, how) in [
        ("denied", "Denied", "ECDSAP521", "was denied"),
        ("failed", "Failed", "RSA4096", "failed"),
        ("also-denied", "Denied", "ECDSAP384", "was denied"),
    ] {
        let source = signer.source(key_type, json!({ "keyPath": "key", "certificateChainPath": "chain" }));
        scene.pod(pod, showing("sleep 100000", &[source])).await?;
        let request = signer.request(key_type, None).await?;
        let name = signer.answer(&request, kind, json!({})).await?;
        let words = "reason=\"Because\", message=\"so \\\"it\\\" is\"";
        let told = format!("Because%!(EXTRA string=PodCertificateRequest {namespace}/{name} {how}, {words})");
        scene.event_naming(pod, kind, &told).await?;
        let words = words.replace(',', "");
        let told = format!("{MOUNT}PodCertificateRequest was permanently {}: {words}", kind.to_lowercase());
        scene.event_with(pod, "FailedMount", &told, EVENTUALLY).await?;
        shown_in_metrics(&scene, &signer.name(key_type), &kind.to_lowercase()).await?;
    }
    Ok(())
}

/// The signer's one source is counted as being that far.
async fn shown_in_metrics(scene: &Scene, signer: &str, state: &str) -> Result<()> {
    let page = scene.kubectl_out(&["get", "--raw", &format!("/api/v1/nodes/{NODE}/proxy/metrics")]).await?;
    let line = format!("kubelet_podcertificate_states{{signer_name=\"{signer}\",state=\"{state}\"}} 1");
    ensure!(page.lines().any(|shown| shown == line), "{line} is not in /metrics");
    Ok(())
}

/// Without their gate there are none; and another process, which does not know the keys, asks for others.
pub(super) async fn are_not_there_without_their_gate(scene: Scene) -> Result<()> {
    let signer = Signer::new(&scene)?;
    scene.cluster.kubelet.stop().await?;
    let fields = json!({ "featureGates": { "PodCertificateRequest": false } });
    let kubelet =
        scene.cluster.kubelet_changed("no-certificates", Changes { fields, ..Changes::default() })?;
    kubelet.start().await?;
    let source = signer.source("ECDSAP256", json!({ "credentialBundlePath": "all" }));
    let script = "cp /c/all /first; echo there; until ! cmp -s /c/all /first; do sleep 0.5; done";
    let mut spec = showing(script, &[source]);
    spec["restartPolicy"] = json!("Never");
    scene.pod("without", spec).await?;
    scene.event_naming("without", "FailedMount", &format!("{MOUNT}unimplemented")).await?;
    kubelet.stop().await?;
    scene.cluster.kubelet.start().await?;
    let first = signer.request("ECDSAP256", None).await?;
    signer.sign(&first).await?;
    scene.until("without", "ready", EVENTUALLY, is_ready).await?;
    scene.first_line("without", "main").await?;
    shown_in_metrics(&scene, &signer.name("ECDSAP256"), "fresh").await?;
    scene.cluster.kubelet.stop().await?;
    scene.cluster.kubelet.start().await?;
    let second = signer.request("ECDSAP256", first.metadata.name.as_deref()).await?;
    ensure!(
        second.spec.stub_pkc_s10_request != first.spec.stub_pkc_s10_request,
        "the key of an earlier process is not known any more"
    );
    signer.sign(&second).await?;
    scene.until("without", "finished", EVENTUALLY, |pod| phase(pod) == "Succeeded").await?;
    Ok(())
}
