//! Who may use a volume of a CSI driver, and how often its driver is asked for it.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::DeleteParams;
use serde_json::json;

use super::csi_volumes::{Storage, claiming, forget, using};
use super::scene::{EVENTUALLY, Scene, is_ready};
use crate::cluster::wait_for;

const SCRIPT: &str = "exec sleep 100000";
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// `ReadWriteOncePod`: a second pod waits until the first is gone, and the driver hears that the volume is one pod's.
pub(super) async fn of_one_pod_are_refused_to_others(scene: Scene) -> Result<()> {
    let flags = ["--capability=stage", "--capability=single-node-writers"];
    let storage = Storage::start(&scene, "csi-single", json!({}), &flags).await?;
    let modes = json!({ "accessModes": ["ReadWriteOncePod"] });
    storage.claimed(&scene, "single", json!({}), modes).await?;
    scene.ready_pod("first", claiming("single", SCRIPT)).await?;
    let staged = storage.last("NodeStageVolume").await?;
    ensure!(staged["use"]["mode"] == "SINGLE_NODE_SINGLE_WRITER", "{staged}");
    scene.pod("second", claiming("single", SCRIPT)).await?;
    let refused = "volume uses the ReadWriteOncePod access mode and is already in use by another pod";
    scene.event_naming("second", "FailedMount", refused).await?;
    scene.delete("first").await?;
    scene.gone("first").await?;
    scene.until("second", "ready", EVENTUALLY, is_ready).await?;
    scene.delete("second").await?;
    scene.gone("second").await?;
    storage.end(&scene, &["single"]).await
}

/// Generic ephemeral: a claim that bears the name of a pod's own and is another's is not used, and once it is gone the pod gets
/// its own.
pub(super) async fn of_claims_of_their_own_need_them(scene: Scene) -> Result<()> {
    let storage = Storage::start(&scene, "csi-owned", json!({}), &["--capability=stage"]).await?;
    // The name that the pod's own claim is to have, which is bound to the volume of this name.
    let claim = "web-v";
    storage.claimed(&scene, claim, json!({}), json!({})).await?;
    let template = json!({ "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": "web-own",
        "resources": { "requests": { "storage": "1Mi" } },
    } });
    scene.pod("web", using(json!({ "ephemeral": { "volumeClaimTemplate": template } }), SCRIPT)).await?;
    let refused = format!("PVC {}/{claim} was not created for pod", scene.namespace);
    scene.event_naming("web", "FailedMount", &refused).await?;
    ensure!(storage.driver.command("calls").await?.is_empty(), "the driver was called");
    let (now, claims) = (DeleteParams::default(), scene.api::<PersistentVolumeClaim>());
    claims.delete(claim, &now).await.context("delete the claim of somebody else")?;
    storage.volume(&scene, "web-own", claim, json!({}), json!({})).await?;
    let is_own = |found: Option<&PersistentVolumeClaim>| {
        found.is_some_and(|claim| claim.metadata.owner_references.as_ref().is_some_and(|all| !all.is_empty()))
    };
    wait_for(&claims, claim, EVENTUALLY, is_own).await.context("wait for the pod's own claim")?;
    scene.until("web", "ready", EVENTUALLY, is_ready).await?;
    scene.delete("web").await?;
    scene.gone("web").await?;
    let is_gone = |found: Option<&PersistentVolumeClaim>| found.is_none();
    wait_for(&claims, claim, EVENTUALLY, is_gone).await.context("wait until its claim is gone too")?;
    forget(&scene, &[claim, "web-own"]).await?;
    storage.end(&scene, &[]).await
}

/// `requiresRepublish`: the driver is asked again about once a minute, with tokens among its secrets, and the pod goes on.
pub(super) async fn that_are_to_be_published_again_are(scene: Scene) -> Result<()> {
    let object = json!({
        "volumeLifecycleModes": ["Ephemeral"], "requiresRepublish": true, "serviceAccountTokenInSecrets": true,
        "tokenRequests": [{ "audience": "vault", "expirationSeconds": 3600 }],
    });
    let storage = Storage::start(&scene, "csi-again", object, &[]).await?;
    let source = json!({ "csi": { "driver": storage.name } });
    let pod = scene.ready_pod("web", using(source, SCRIPT)).await?;
    let asked = storage.last("NodePublishVolume").await?;
    ensure!(asked["secrets"][TOKENS] == "hidden" && asked["attributes"][TOKENS].is_null(), "{asked}");
    let again = storage.driver.counted("NodePublishVolume", 2);
    tokio::time::timeout(EVENTUALLY, again).await.context("wait for the driver to be asked again")??;
    let after = scene.api::<Pod>().get("web").await?;
    ensure!(
        super::disruption::identity(&after) == super::disruption::identity(&pod),
        "the pod was restarted"
    );
    scene.delete("web").await?;
    scene.gone("web").await?;
    storage.end(&scene, &[]).await
}
