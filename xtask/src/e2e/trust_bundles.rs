//! Certificates of authorities in volumes.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::scene::{EVENTUALLY, SOON, Scene, is_ready, phase, shell, with};
use crate::cluster::Changes;

/// A new authority's certificate, in PEM.
fn authority() -> Result<String> {
    let key = rcgen::KeyPair::generate().context("make a key")?;
    let mut authority = rcgen::CertificateParams::new(vec![]).context("name the authority")?;
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    Ok(authority.self_signed(&key).context("make an authority")?.pem().replace("\r\n", "\n"))
}

/// The bundles of a scenario, which are the cluster's.
struct Bundles<'a> {
    api: Api<ClusterTrustBundle>,
    scene: &'a Scene,
}

impl<'a> Bundles<'a> {
    fn of(scene: &'a Scene) -> Self {
        Self { api: Api::all(scene.cluster.client.clone()), scene }
    }

    /// A signer of the scenario's own.
    fn signer(&self) -> String {
        format!("{}.example/signer", self.scene.namespace)
    }

    fn free(&self, name: &str) -> String {
        format!("{}-{name}", self.scene.namespace)
    }

    fn signed(&self, name: &str) -> String {
        format!("{}:{name}", self.signer().replace('/', ":"))
    }

    async fn create(
        &self,
        name: &str,
        signer: Option<&str>,
        label: &str,
        certificates: &[&str],
    ) -> Result<()> {
        let mut bundle = json!({
            "metadata": { "name": name, "labels": { "kind": label } },
            "spec": { "trustBundle": certificates.concat() },
        });
        if let Some(signer) = signer {
            bundle["spec"]["signerName"] = json!(signer);
        }
        let bundle = serde_json::from_value(bundle).context("read the test's bundle")?;
        let created = self.api.create(&PostParams::default(), &bundle).await;
        created.map(drop).with_context(|| format!("create bundle {name}"))
    }

    async fn change(&self, name: &str, certificates: &[&str]) -> Result<()> {
        let change = json!({ "spec": { "trustBundle": certificates.concat() } });
        let patched = self.api.patch(name, &PatchParams::default(), &Patch::Merge(&change)).await;
        patched.map(drop).with_context(|| format!("change bundle {name}"))
    }

    async fn remove(&self, names: &[String]) {
        for name in names {
            // A failure shows up in nobody's scenario: names are this one's own.
            let _ = self.api.delete(name, &DeleteParams::default()).await;
        }
    }
}

fn showing(script: &str, sources: &[Value]) -> Value {
    let mounts = json!({ "volumeMounts": [{ "name": "trust", "mountPath": "/t" }] });
    let sources: Vec<Value> = sources.iter().map(|source| json!({ "clusterTrustBundle": source })).collect();
    let volumes = json!([{ "name": "trust", "projected": { "sources": sources } }]);
    json!({ "containers": [with(shell("main", script), mounts)], "volumes": volumes })
}

/// By name and by signer and labels, each once; and what changes follows.
pub(super) async fn reach_the_volume(scene: Scene) -> Result<()> {
    let bundles = Bundles::of(&scene);
    let [a, b, c] = [authority()?, authority()?, authority()?];
    let signer = bundles.signer();
    let (free, one, two) = (bundles.free("free"), bundles.signed("one"), bundles.signed("two"));
    bundles.create(&free, None, "x", &[&a]).await?;
    bundles.create(&one, Some(&signer), "x", &[&a, &b]).await?;
    bundles.create(&two, Some(&signer), "y", &[&b, &c]).await?;
    let sources = [
        json!({ "name": free, "path": "free" }),
        json!({ "signerName": signer, "labelSelector": {}, "path": "all/of" }),
        json!({ "signerName": signer, "labelSelector": { "matchLabels": { "kind": "y" } }, "path": "some" }),
        json!({ "name": "no-such", "path": "nothing", "optional": true }),
        json!({ "signerName": signer, "path": "nobody", "optional": true }),
    ];
    let script = "count() { grep -c BEGIN /t/$1; }; echo $(count free) $(count all/of) $(count some) \
        $(stat -L -c %s /t/nothing /t/nobody); \
        until [ $(count free) = 2 ] && [ $(count all/of) = 1 ]; do sleep 0.5; done; head -c 27 /t/free";
    let mut spec = showing(script, &sources);
    spec["restartPolicy"] = json!("Never");
    scene.pod("reader", spec).await?;
    scene.until("reader", "ready", SOON, is_ready).await?;
    let first = scene.first_line("reader", "main").await?;
    ensure!(first == "1 3 2 0 0", "the certificates are counted: {first:?}");
    bundles.change(&free, &[&a, &c]).await?;
    bundles.change(&one, &[&b]).await?;
    bundles.change(&two, &[&b]).await?;
    scene.until("reader", "finished", EVENTUALLY, |pod| phase(pod) == "Succeeded").await?;
    let log = scene.log("reader", None).await?;
    ensure!(log.ends_with("-----BEGIN CERTIFICATE-----"), "what is there are certificates: {log:?}");
    bundles.remove(&[free, one, two]).await;
    Ok(())
}

/// A pod waits for one that is not there, and says so.
pub(super) async fn are_waited_for(scene: Scene) -> Result<()> {
    let bundles = Bundles::of(&scene);
    let late = bundles.free("late");
    scene.pod("early", showing("sleep 100000", &[json!({ "name": late, "path": "x" })])).await?;
    let source = json!({ "signerName": bundles.signer(), "labelSelector": {}, "path": "x" });
    scene.pod("nobodys", showing("sleep 100000", &[source])).await?;
    for (pod, message) in [
        (
            "early",
            format!(
                "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"{late}\" not found"
            ),
        ),
        (
            "nobodys",
            "combination of signerName and labelSelector matched zero ClusterTrustBundles".to_owned(),
        ),
    ] {
        let wanted = format!("MountVolume.SetUp failed for volume \"trust\" : {message}");
        scene.event_naming(pod, "FailedMount", &wanted).await?;
    }
    bundles.create(&late, None, "x", &[&authority()?]).await?;
    scene.until("early", "ready", EVENTUALLY, is_ready).await?;
    bundles.remove(&[late]).await;
    Ok(())
}

/// Without their gate there are none.
pub(super) async fn are_not_there_without_their_gate(scene: Scene) -> Result<()> {
    let bundles = Bundles::of(&scene);
    let name = bundles.free("there");
    bundles.create(&name, None, "x", &[&authority()?]).await?;
    scene.cluster.kubelet.stop().await?;
    let fields = json!({ "featureGates": { "ClusterTrustBundleProjection": false } });
    let kubelet = scene.cluster.kubelet_changed("no-trust", Changes { fields, ..Changes::default() })?;
    kubelet.start().await?;
    scene.pod("without", showing("sleep 100000", &[json!({ "name": name, "path": "x" })])).await?;
    let wanted = "ClusterTrustBundle projection is not supported in static kubelet mode";
    scene.event_naming("without", "FailedMount", wanted).await?;
    kubelet.stop().await?;
    scene.cluster.kubelet.start().await?;
    scene.until("without", "ready", SOON, is_ready).await?;
    bundles.remove(&[name]).await;
    Ok(())
}
