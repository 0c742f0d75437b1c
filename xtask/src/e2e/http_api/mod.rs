//! The HTTP API of both kubelets, side by side: the same requests on the same node, one kubelet after the other.
//!
//! What is asked is in `requests.yaml`, with which configuration in `configurations.yaml`. An answer is broken up into
//! facts ([`facts`]): the status, a header, a field's type, a metric's labels. Facts that differ fail the scenario
//! unless `wanted.yaml` says that they should, with a reason, or `not-yet.yaml` that they will not for long. An entry
//! of either list that nothing needs any more fails it too.

mod callers;
mod client;
mod configurations;
mod facts;
mod lists;
mod request;
mod state;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::scene::{EVENTUALLY, Scene};
use callers::Callers;
use facts::Facts;
use lists::Lists;
use request::Case;

/// A cold start of a kubelet on a busy machine, and its first look at what volumes hold.
const START_LIMIT: Duration = Duration::from_secs(300);
/// Differences that are printed; all of them are in the logs' folder.
const PRINTED: usize = 60;

/// Every endpoint, with every kind of caller, on the node's three ports.
pub(super) async fn answer_as_upstreams(scene: Scene) -> Result<()> {
    let state = state::arrange(&scene).await?;
    compare(&scene, &["open", "closed"], Some(&state)).await
}

/// `/configz` tells the same configuration, value by value.
pub(super) async fn tell_the_same_configuration(scene: Scene) -> Result<()> {
    compare(&scene, &["default", "kubeadm", "rich"], None).await
}

/// What a kubelet answered to each case, by the case's name.
type Answers = BTreeMap<String, Facts>;

async fn compare(scene: &Scene, configurations: &[&str], state: Option<&state::State>) -> Result<()> {
    let cluster = &scene.cluster;
    let callers = Callers::arrange(scene).await?;
    let uid = state.map_or("", |state| state.uid.as_str());
    let cases = request::cases(configurations, &scene.namespace, uid)?;
    cluster.kubelet.stop().await?;
    let ours = cluster.paths.kubelet.clone();
    let go = cluster.paths.peers.kubernetes("kubelet");
    let mut lists = Lists::load()?;
    let mut wrong = Vec::new();
    for configuration in configurations {
        let asked: Vec<&Case> = cases.iter().filter(|case| case.configuration == *configuration).collect();
        let theirs =
            answers(scene, "kubelet-http-api-go", &go, configuration, &callers, &asked, state).await?;
        let ours =
            answers(scene, "kubelet-http-api-ours", &ours, configuration, &callers, &asked, state).await?;
        for case in asked {
            wrong.extend(lists.judge(&case.name, &ours[&case.name], &theirs[&case.name]));
        }
    }
    wrong.extend(lists.unused(configurations));
    cluster.kubelet.start().await?;
    cluster.node_ready(EVENTUALLY).await?;
    drop(callers);
    let report = cluster.paths.logs.join(format!("{}.txt", scene.namespace));
    crate::workspace::write(&report, wrong.join("\n"))?;
    let shown = wrong.iter().take(PRINTED).map(|line| format!("\n    {line}")).collect::<String>();
    ensure!(
        wrong.is_empty(),
        "{} differences in {} requests, all of them in {}{shown}",
        wrong.len(),
        cases.len(),
        report.display()
    );
    Ok(())
}

/// Runs a kubelet with a configuration and asks it everything.
async fn answers(
    scene: &Scene,
    name: &'static str,
    binary: &Path,
    configuration: &str,
    callers: &Callers,
    cases: &[&Case],
    state: Option<&state::State>,
) -> Result<Answers> {
    let paths = &scene.cluster.paths;
    let fields = configurations::fields(configuration, paths)?;
    let kubelet = scene.cluster.kubelet_configured(name, binary, &fields)?;
    kubelet.start().await?;
    if state.is_some() {
        state::let_one_pass(scene).await?;
    }
    let is_ready = || state::is_shown(callers, &scene.namespace, state);
    kubelet.answers(START_LIMIT, is_ready).await.with_context(|| format!("wait for {name}"))?;
    let mut answers = Answers::new();
    for case in cases {
        // Cancel-safe: a request that is given up closes its connection.
        let answer = tokio::select! {
            answer = client::send(callers, case) => answer,
            died = kubelet.died() => return Err(died.context(case.name.clone())),
        };
        answers.insert(case.name.clone(), facts::of(case, &answer, &scene.namespace));
    }
    kubelet.stop().await?;
    Ok(answers)
}
