//! Gauges that are counted from the published picture of the node when somebody asks.

use std::collections::BTreeMap;

use model::ContainerState;
use node::View;
use telemetry::metrics::Metrics;

/// Sets them. Counts of at most some thousands are exact as floats.
pub(crate) fn count(metrics: &Metrics, view: &View) {
    observed(metrics, view);
    desired(metrics, view);
    working(metrics, view);
}

fn observed(metrics: &Metrics, view: &View) {
    let observed = || view.pods.values().filter_map(|p| p.observed.as_ref());
    let pods = observed().filter(|o| o.ready_sandbox().is_some()).count();
    metrics.running_pods.set(pods as f64);
    let mut states = [("running", 0_u32), ("exited", 0), ("created", 0), ("unknown", 0)];
    for container in observed().flat_map(|o| &o.containers) {
        let index = match container.state {
            ContainerState::Running { .. } => 0,
            ContainerState::Exited(_) => 1,
            ContainerState::Created => 2,
            ContainerState::Unknown => 3,
        };
        states[index].1 += 1;
    }
    for (state, count) in states {
        metrics.running_containers.with([state]).set(f64::from(count));
    }
    metrics.orphaned_runtime_pods.raise_to(view.tallies.orphans);
    metrics.restarted_pods.with(["true"]).raise_to(view.tallies.restarted_static);
}

fn desired(metrics: &Metrics, view: &View) {
    // By whether they are static: all of them, those that are not over, ephemeral containers.
    let (mut all, mut active, mut ephemeral) = ([0_u32; 2], [0_u32; 2], 0);
    for pod in view.pods.values().filter(|pod| pod.is_wanted) {
        let index = usize::from(pod.is_static);
        all[index] += 1;
        let is_over = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
        active[index] += u32::from(!is_over);
        let spec = pod.pod.as_ref().and_then(|pod| pod.spec.as_ref());
        ephemeral += spec.map_or(0, |spec| spec.ephemeral_containers.iter().flatten().count());
    }
    for (index, label) in ["", "true"].into_iter().enumerate() {
        metrics.desired_pods.with([label]).set(f64::from(all[index]));
        metrics.active_pods.with([label]).set(f64::from(active[index]));
    }
    metrics.managed_ephemeral_containers.set(ephemeral as f64);
    metrics.mirror_pods.set(view.mirrors as f64);
}

fn working(metrics: &Metrics, view: &View) {
    const LIFECYCLES: [&str; 3] = ["sync", "terminating", "terminated"];
    // Every combination that can be, so that none vanishes when its last pod does.
    let configs = [
        ("desired", ""),
        ("desired", "true"),
        ("orphan", ""),
        ("orphan", "true"),
        ("runtime_only", "unknown"),
    ];
    let mut counts: BTreeMap<(&str, &str, &str), u32> = configs
        .into_iter()
        .flat_map(|(config, is_static)| LIFECYCLES.map(|lifecycle| ((config, lifecycle, is_static), 0)))
        .collect();
    for pod in view.pods.values() {
        let lifecycle = match pod.phase {
            "Terminating" => "terminating",
            "Terminated" => "terminated",
            _ => "sync",
        };
        let is_static = if pod.is_static { "true" } else { "" };
        let key = match (&pod.pod, pod.is_wanted) {
            (None, _) => ("runtime_only", lifecycle, "unknown"),
            (Some(_), true) => ("desired", lifecycle, is_static),
            (Some(_), false) => ("orphan", lifecycle, is_static),
        };
        *counts.entry(key).or_default() += 1;
    }
    for ((config, lifecycle, is_static), count) in counts {
        metrics.working_pods.with([config, lifecycle, is_static]).set(f64::from(count));
    }
}
