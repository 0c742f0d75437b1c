//! Gauges that are counted from the published picture of the node when somebody asks.

use std::collections::BTreeMap;
use std::time::Duration;

use apiserver::PodCertificates;
use model::{ContainerState, Now};
use node::{Phase, PodView, View};
use telemetry::metrics::Metrics;

/// Sets them. Counts of at most some thousands are exact as floats.
pub(crate) fn count(metrics: &Metrics, view: &View, now: Now) {
    waits(metrics, view, now);
    observed(metrics, view);
    desired(metrics, view);
    working(metrics, view);
    volumes_of(metrics, view);
    orphans(metrics, view);
    plugins(metrics, view);
}

/// Plugins by their sockets: those that are there, and those that are taken.
fn plugins(metrics: &Metrics, view: &View) {
    const STATES: [&str; 2] = ["desired_state_of_world", "actual_state_of_world"];
    let is_shown = |socket: &str, state: &str| {
        view.plugins.get(socket).is_some_and(|is_taken| *is_taken || state == STATES[0])
    };
    metrics.plugins.retain(|[socket, state]| is_shown(socket, state));
    for socket in view.plugins.keys() {
        for state in STATES.into_iter().filter(|state| is_shown(socket, state)) {
            metrics.plugins.with([socket.as_str(), state]).set(1.0);
        }
    }
}

/// How far the certificates of pods are.
pub(crate) fn pod_certificates(metrics: &Metrics, certificates: Option<&PodCertificates>) {
    let counts = certificates.map(PodCertificates::counts).unwrap_or_default();
    let is_there = |[signer, state]: [&str; 2]| {
        counts.keys().any(|(known, how_far)| known == signer && *how_far == state)
    };
    metrics.pod_certificates.retain(is_there);
    for ((signer, state), count) in &counts {
        metrics.pod_certificates.with([signer.as_str(), state]).set(f64::from(*count));
    }
}

/// What pods wait for: the same values as in an explanation.
fn waits(metrics: &Metrics, view: &View, now: Now) {
    let mut found: BTreeMap<&str, (u32, Duration)> = BTreeMap::new();
    for pod in view.pods.values() {
        // A pod counts once for each kind, however many of its containers wait for such a thing.
        let mut longest: BTreeMap<&str, Duration> = BTreeMap::new();
        for wait in pod.waits.iter() {
            let waited = now.mono.saturating_sub(wait.since);
            let known = longest.entry(wait.on.label()).or_default();
            *known = waited.max(*known);
        }
        for (on, waited) in longest {
            let (pods, known) = found.entry(on).or_default();
            *pods += 1;
            *known = waited.max(*known);
        }
    }
    metrics.waits.retain(|[on]| found.contains_key(on));
    metrics.longest_wait.retain(|[on]| found.contains_key(on));
    for (on, (pods, waited)) in found {
        metrics.waits.with([on]).set(f64::from(pods));
        metrics.longest_wait.with([on]).set(waited.as_secs_f64());
    }
}

/// Volumes of pods that are not over, by plugin: those wanted, and those of pods of which nothing is missing.
fn volumes_of(metrics: &Metrics, view: &View) {
    let mut counts: BTreeMap<(String, &str), u32> = BTreeMap::new();
    let pods = view.pods.values().filter(|pod| pod.phase != Phase::Terminated);
    for (pod, view) in pods.filter_map(|view| Some((view.pod.as_deref()?, view))) {
        for plugin in volumes::plugin_names(pod, &view.published) {
            if view.are_volumes_made {
                *counts.entry((plugin.clone(), "actual_state_of_world")).or_default() += 1;
            }
            *counts.entry((plugin, "desired_state_of_world")).or_default() += 1;
        }
    }
    metrics.volumes.retain(|[plugin, state]| counts.keys().any(|(p, s)| (p.as_str(), *s) == (plugin, state)));
    for ((plugin, state), count) in counts {
        metrics.volumes.with([&plugin, state]).set(f64::from(count));
    }
}

/// Pods that nobody wants any more, not even to run them to their end, of which something is left.
fn orphans(metrics: &Metrics, view: &View) {
    let (mut all, mut failing) = (0_u32, 0_u32);
    let is_gone = |pod: &PodView| {
        let observed = pod.observed.as_ref();
        pod.pod.is_none() && observed.is_none_or(|o| o.sandboxes.is_empty() && o.containers.is_empty())
    };
    for pod in view.pods.values().filter(|pod| is_gone(pod)) {
        all += 1;
        failing += u32::from(pod.waits.iter().any(|wait| wait.error.is_some()));
    }
    metrics.orphans_cleaned.set(f64::from(all));
    metrics.orphans_cleaned_errors.set(f64::from(failing));
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
    for (signal, count) in &view.tallies.evicted {
        metrics.evictions.with([signal.as_str()]).raise_to(*count);
    }
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
            Phase::Admitting | Phase::Running => "sync",
            Phase::Terminating => "terminating",
            Phase::Terminated => "terminated",
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use k8s_openapi::api::core::v1::PodStatus;
    use model::{Pod, PodKey, PodUid};
    use node::{Wait, WaitOn};
    use serde_json::{Value, json};
    use telemetry::metrics::{Endpoint, Exposition};

    use super::*;

    /// A pod of a name that uses these volumes; of one that nobody knows any more there is no spec.
    fn pod(name: &str, volumes: Option<Value>, are_volumes_made: bool) -> PodView {
        let spec = |volumes: Value| {
            let names = volumes.as_array().into_iter().flatten().map(|volume| &volume["name"]);
            let mounts: Vec<_> = names.map(|name| json!({ "name": name, "mountPath": "/v" })).collect();
            let container = json!({ "name": "c", "volumeMounts": mounts });
            json!({ "spec": { "containers": [container], "volumes": volumes } })
        };
        let pod = volumes.map(|volumes| serde_json::from_value::<Pod>(spec(volumes)).unwrap());
        PodView {
            uid: PodUid::from(name),
            key: PodKey::new("ns", name),
            allocated: None,
            is_wanted: pod.is_some(),
            pod: pod.map(Arc::new),
            is_static: false,
            status: Arc::new(PodStatus::default()),
            observed: None,
            phase: Phase::Running,
            is_finished: false,
            are_volumes_made,
            published: BTreeMap::new(),
            waits: Arc::default(),
            timeline: Arc::default(),
        }
    }

    /// The lines of these families, when the node is so many seconds old.
    fn lines(metrics: &Metrics, pods: Vec<PodView>, seconds: u64, families: &[&str]) -> Vec<String> {
        let pods = pods.into_iter().map(|pod| (pod.uid.clone(), Arc::new(pod))).collect();
        let now = Now { wall: jiff::Timestamp::UNIX_EPOCH, mono: Duration::from_secs(seconds) };
        count(metrics, &View { pods, ..View::default() }, now);
        let mut page = Exposition::new();
        metrics.write(Endpoint::Main, &mut page).unwrap();
        let page = page.into_text();
        page.lines().filter(|line| families.iter().any(|f| line.starts_with(f))).map(str::to_owned).collect()
    }

    fn counted(metrics: &Metrics, pods: Vec<PodView>) -> Vec<String> {
        lines(metrics, pods, 0, &["volume_manager_total_volumes", "kubelet_orphan_pod_cleaned_volumes"])
    }

    fn image(container: &str) -> WaitOn {
        WaitOn::Image(model::ImageUse::Container(container.to_owned()))
    }

    fn wait(on: WaitOn, since: u64, error: Option<&str>) -> Wait {
        let since = Duration::from_secs(since);
        Wait { on, since, attempts: 0, reason: None, error: error.map(str::to_owned), next_try: None }
    }

    #[test]
    fn waits_are_counted_by_pod_and_what_is_over_leaves_no_series() {
        let waiting = |name: &str, waits: Vec<Wait>| PodView {
            waits: Arc::new(waits),
            ..pod(name, Some(json!([])), false)
        };
        let pods = vec![
            waiting(
                "a",
                vec![
                    wait(image("x"), 90, Some("denied")),
                    wait(image("y"), 70, None),
                    wait(WaitOn::StatusWrite, 99, None),
                ],
            ),
            waiting("b", vec![wait(image("x"), 40, None)]),
            waiting("c", vec![]),
        ];
        let metrics = Metrics::default();
        let families = ["ferrolet_"];
        assert_eq!(
            lines(&metrics, pods, 100, &families),
            [
                "ferrolet_longest_wait_seconds{on=\"image\"} 60",
                "ferrolet_longest_wait_seconds{on=\"status_write\"} 1",
                "ferrolet_waits{on=\"image\"} 2",
                "ferrolet_waits{on=\"status_write\"} 1",
            ]
        );
        assert_eq!(lines(&metrics, vec![waiting("a", vec![])], 101, &families), Vec::<String>::new());
    }

    #[test]
    fn volumes_and_what_is_left_of_pods() {
        let volumes = json!([{ "name": "a", "emptyDir": {} }, { "name": "b", "hostPath": { "path": "/" } }]);
        let mut failing = pod("stuck", None, false);
        failing.waits = Arc::new(vec![wait(WaitOn::Unmount, 0, Some("unmount: busy"))]);
        let claim = json!([{ "name": "c", "persistentVolumeClaim": { "claimName": "c" } }]);
        let mut claiming = pod("claiming", Some(claim), true);
        let volume = model::storage::PublishedVolume {
            folder: "pv".to_owned(),
            place: model::storage::PublishedPlace::Csi,
            is_read_only: false,
            mode: model::storage::VolumeMode::Filesystem,
            plugin: "kubernetes.io/csi:d".to_owned(),
            usage: model::storage::UsageSource::FileSystem,
        };
        claiming.published.insert("c".to_owned(), volume);
        let ended = PodView { phase: Phase::Terminated, ..pod("ended", Some(volumes.clone()), true) };
        let pods = vec![
            pod("ready", Some(volumes), true),
            pod("waits", Some(json!([{ "name": "a", "emptyDir": {} }])), false),
            ended,
            claiming,
            pod("left", None, false),
            failing,
        ];
        let metrics = Metrics::default();
        let volumes = |plugin: &str, state: &str, count: u32| {
            let plugin = format!("kubernetes.io/{plugin}");
            format!(
                "volume_manager_total_volumes{{plugin_name=\"{plugin}\",state=\"{state}_state_of_world\"}} {count}"
            )
        };
        let orphans = |all: u32, failing: u32| {
            [
                format!("kubelet_orphan_pod_cleaned_volumes {all}"),
                format!("kubelet_orphan_pod_cleaned_volumes_errors {failing}"),
            ]
        };
        let mut want = orphans(2, 1).to_vec();
        want.extend([
            volumes("csi:d", "actual", 1),
            volumes("csi:d", "desired", 1),
            volumes("empty-dir", "actual", 1),
            volumes("empty-dir", "desired", 2),
            volumes("host-path", "actual", 1),
            volumes("host-path", "desired", 1),
        ]);
        assert_eq!(counted(&metrics, pods), want);
        assert_eq!(counted(&metrics, Vec::new()), orphans(0, 0), "what is gone leaves no series");
    }
}
