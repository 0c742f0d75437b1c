//! csi-sanity, the CSI project's own suite for drivers, against the driver of these tests: so that what a kubelet does with it is
//! what it does with a driver.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::scene::{Scene, run_with};
use crate::cluster::CsiDriver;
use crate::workspace;

/// What the suite skips, for the driver does not say that it can do that: groups, or single tests.
const SKIPPED: [&str; 16] = [
    "Controller Service [Controller Server] CreateVolume should create volume from an existing source snapshot",
    "Controller Service [Controller Server] CreateVolume should fail when the volume source snapshot is not found",
    "Controller Service [Controller Server] CreateVolume should create volume from an existing source volume",
    "Controller Service [Controller Server] CreateVolume should fail when the volume source volume is not found",
    "Controller Service [Controller Server] CreateVolume should create volume with a volume attribute class",
    "Controller Service [Controller Server] CreateVolume should not create volume with an invalid volume attribute class",
    "ListSnapshots [Controller Server]",
    "GetSnapshot [Controller Server]",
    "DeleteSnapshot [Controller Server]",
    "CreateSnapshot [Controller Server]",
    "ModifyVolume [Controller Server]",
    "GroupController Service",
    "ControllerGetVolumeHealth [Controller Server]",
    "ControllerListVolumeHealth [Controller Server]",
    "Node Service NodeGetVolumeHealth",
    "Node Service NodeGetStorageHealth",
];

/// One test of the suite, and what came of it.
struct Spec {
    name: String,
    state: String,
}

/// All of the suite that concerns what the driver can do passes, and nothing else is skipped.
pub(super) async fn finds_a_driver(scene: Scene) -> Result<()> {
    let flags = [
        "--name=sanity.csi.example",
        "--topology=zone=a",
        "--max-volumes=3",
        "--controller",
        "--capability=stage",
        "--capability=single-node-writers",
        "--capability=group",
        "--capability=stats",
        "--capability=expand",
    ];
    let driver = CsiDriver::unregistered(&scene.cluster, "csi-sane", &flags)?;
    driver.start().await?;
    let folder = scene.cluster.paths.file("csi-sanity");
    workspace::create_dir(&folder)?;
    let report = folder.join("report.json");
    let mut suite = Command::new(scene.cluster.paths.peers.csi("csi-sanity"));
    suite.args([
        format!("--csi.endpoint=unix://{}", driver.socket().display()),
        format!("--csi.mountdir={}", folder.join("mount").display()),
        format!("--csi.stagingdir={}", folder.join("staging").display()),
        "--csi.testnodevolumeattachlimit".to_owned(),
        format!("--ginkgo.json-report={}", report.display()),
        "--ginkgo.no-color".to_owned(),
    ]);
    let said = run_with(b"", suite).await.context("csi-sanity")?;
    ensure!(said.code == 0, "csi-sanity ended with {}: {}{}", said.code, said.out, said.err);
    judge(&read(&report)?)?;
    ensure!(driver.command("volumes").await?.is_empty(), "volumes were left");
    driver.stop().await
}

fn read(report: &Path) -> Result<Vec<Spec>> {
    let text = std::fs::read(report).context("read what csi-sanity reports")?;
    let suites: Value = serde_json::from_slice(&text).context("read what csi-sanity reports")?;
    let specs = suites[0]["SpecReports"].as_array().context("what csi-sanity reports has no tests")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let spec = |spec: &Value| {
        let groups = spec["ContainerHierarchyTexts"].as_array().into_iter().flatten();
        let words: Vec<String> = groups.chain([&spec["LeafNodeText"]]).map(text).collect();
        Spec { name: words.join(" "), state: text(&spec["State"]) }
    };
    Ok(specs.iter().filter(|spec| spec["LeafNodeType"] == "It").map(spec).collect())
}

fn judge(specs: &[Spec]) -> Result<()> {
    let mut groups: BTreeSet<&str> = BTreeSet::new();
    for spec in specs {
        let group = SKIPPED.into_iter().find(|group| spec.name.starts_with(group));
        match (spec.state.as_str(), group) {
            ("passed", None) => {}
            ("skipped", Some(group)) => drop(groups.insert(group)),
            // By upstream itself.
            ("pending", _) => {}
            (state, _) => anyhow::bail!("{} {state}", spec.name),
        }
    }
    let gone: Vec<_> = SKIPPED.into_iter().filter(|group| !groups.contains(group)).collect();
    ensure!(gone.is_empty(), "these are not skipped any more: {gone:?}");
    ensure!(specs.iter().any(|spec| spec.state == "passed"), "nothing was tested");
    Ok(())
}
