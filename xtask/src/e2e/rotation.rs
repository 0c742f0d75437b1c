//! Logs that are rotated while somebody follows them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::identity::lease_renewed;
use super::scene::{EVENTUALLY, SOON, Scene, phase, shell};
use crate::cluster::Changes;

/// Lines that are written at a time: several times what a log may have before it is rotated.
const LINES: usize = 400;
const BURSTS: usize = 3;

/// The names of the logs that were set aside, without the ending they get once they are compressed.
fn set_aside(folder: &Path) -> Result<BTreeSet<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: Vec<String> = names.collect::<Result<_>>()?;
    let old = names.iter().filter(|name| name.starts_with("0.log.") && !name.ends_with(".tmp"));
    Ok(old.map(|name| name.trim_end_matches(".gz").to_owned()).collect())
}

pub(super) async fn follower_misses_nothing(scene: Scene) -> Result<()> {
    scene.cluster.kubelet.stop().await?;
    let fields = json!({
        "containerLogMaxSize": "8Ki", "containerLogMaxFiles": 3, "containerLogMonitorInterval": "3s",
    });
    let changes = Changes { fields, ..Changes::default() };
    let kubelet = scene.cluster.kubelet_changed("small-logs", changes)?;
    kubelet.start().await?;
    let script = "until test -e /tmp/end; do sleep 0.1; done; echo the end";
    let spec = json!({ "restartPolicy": "Never", "containers": [shell("main", script)] });
    let pod = scene.ready_pod("talks", spec).await?;
    let uid = pod.metadata.uid.context("the pod's uid")?;
    let folder = PathBuf::from(format!("/var/log/pods/{}_talks_{uid}/main", scene.namespace));

    let mut kubectl = scene.kubectl(&["logs", "-f", "talks"]);
    let follower = kubectl.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("run kubectl")?;
    let followed = tokio::spawn(follower.wait_with_output());
    for burst in 0..BURSTS {
        let before = set_aside(&folder)?;
        let (first, last) = (burst * LINES + 1, (burst + 1) * LINES);
        // Into the pipe that is the container's standard output.
        let write = format!("seq {first} {last} > /proc/1/fd/1");
        scene.kubectl_out(&["exec", "talks", "--", "sh", "-c", &write]).await?;
        let rotated = async || {
            ensure!(!set_aside(&folder)?.is_subset(&before), "the log is not rotated");
            Ok(())
        };
        kubelet.answers(SOON, rotated).await?;
    }
    ensure!(set_aside(&folder)?.len() == 2, "with the one in use there are three: {:?}", set_aside(&folder)?);
    let current = scene.kubectl_out(&["logs", "talks"]).await?;
    ensure!(
        current.lines().count() <= LINES,
        "only what is in the last log: {} lines",
        current.lines().count()
    );

    scene.kubectl_out(&["exec", "talks", "--", "touch", "/tmp/end"]).await?;
    scene.until("talks", "finished", SOON, |pod| phase(pod) == "Succeeded").await?;
    let followed = tokio::time::timeout(EVENTUALLY, followed).await.context("kubectl does not end")??;
    let followed = followed.context("wait for kubectl")?;
    let text = String::from_utf8_lossy(&followed.stdout);
    let lines: Vec<&str> = text.lines().collect();
    let wanted: Vec<String> =
        (1..=BURSTS * LINES).map(|i| i.to_string()).chain(["the end".to_owned()]).collect();
    let wrong = lines.iter().zip(&wanted).position(|(line, wanted)| line != wanted);
    ensure!(
        lines.len() == wanted.len() && wrong.is_none(),
        "{} of {} lines, the first wrong one is {wrong:?}: {}",
        lines.len(),
        wanted.len(),
        String::from_utf8_lossy(&followed.stderr).trim(),
    );
    kubelet.stop().await
}

/// Two looks a day leave a log as it is. The usual number would have been long past it when the lease is renewed once more,
/// which is done every ten seconds: as often as logs are looked at where nothing is configured.
pub(super) async fn looks_no_oftener_than_configured(scene: Scene) -> Result<()> {
    scene.cluster.kubelet.stop().await?;
    let fields = json!({ "containerLogMaxSize": "8Ki", "containerLogMonitorInterval": "12h" });
    let kubelet = scene.cluster.kubelet_changed("rare-looks", Changes { fields, ..Changes::default() })?;
    kubelet.start().await?;
    let script = format!("seq 1 {LINES}; sleep 100000");
    let pod = scene.ready_pod("talks", json!({ "containers": [shell("main", &script)] })).await?;
    let uid = pod.metadata.uid.context("the pod's uid")?;
    let folder = PathBuf::from(format!("/var/log/pods/{}_talks_{uid}/main", scene.namespace));
    let last = LINES.to_string();
    let written = async || {
        let log = scene.kubectl_out(&["logs", "talks", "--tail=1"]).await?;
        ensure!(log.trim() == last, "the last line is {log:?}");
        Ok(())
    };
    kubelet.answers(SOON, written).await?;
    for _ in 0..3 {
        let renewed = tokio::time::timeout(SOON, lease_renewed(&scene)).await;
        renewed.context("the lease is not renewed")??;
    }
    ensure!(set_aside(&folder)?.is_empty(), "nobody was to look at it: {:?}", set_aside(&folder)?);
    let size = std::fs::metadata(folder.join("0.log")).context("look at the log")?.len();
    ensure!(size > 8 << 10, "it is no larger than a log may be: {size} bytes");
    kubelet.stop().await
}
