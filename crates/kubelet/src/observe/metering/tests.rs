//! Stories of pods and the numbers they leave.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodStatus;
use model::downward::PodFacts;
use model::probe::{ProbeKind, ProbeOutcome};
use model::{AllocatedPod, RuntimeHandler};
use node::{
    Action, ApiAction, ApiOutcome, ContainerStart, Failure, FailureKind, HostAction, ImageAction,
    ImageAnswer, ImageOutcome, ImageQuestion, ProbeAction, RuntimeAction, RuntimeOutcome, Source,
    VolumeAction, VolumeOutcome,
};
use telemetry::metrics::{Endpoint, Exposition};

use super::ends::size_class;
use super::*;

struct Scenario {
    metering: Metering,
    now: Now,
    last: u64,
}

impl Scenario {
    fn new() -> Self {
        let now = Now { wall: "2026-01-01T00:00:10Z".parse().unwrap(), mono: Duration::from_secs(10) };
        Self { metering: Metering::new(Arc::default()), now, last: 0 }
    }

    fn after(&mut self, seconds: u64) {
        let pause = Duration::from_secs(seconds);
        self.now = Now { wall: self.now.wall + pause, mono: self.now.mono + pause };
    }

    fn start(&mut self, action: &Action) -> EffectId {
        self.last += 1;
        self.metering.on_started(self.now, EffectId(self.last), action);
        EffectId(self.last)
    }

    /// Ends one action after some seconds, and starts what follows from it.
    fn end(
        &mut self,
        id: EffectId,
        seconds: u64,
        outcome: Outcome,
        next: Option<&Action>,
    ) -> Option<EffectId> {
        self.after(seconds);
        self.metering.on_input(self.now, &Input::Finished { id, outcome });
        let next = next.map(|action| self.start(action));
        self.metering.on_finished(self.now, id);
        next
    }

    fn page(&self, endpoint: Endpoint) -> String {
        let mut page = Exposition::new();
        self.metering.metrics.write(endpoint, &mut page).unwrap();
        page.into_text()
    }

    #[track_caller]
    fn shows(&self, endpoint: Endpoint, lines: &[&str]) {
        let page = self.page(endpoint);
        for line in lines {
            assert!(page.lines().any(|l| l == *line), "{line} is not in\n{page}");
        }
    }
}

fn pod(spec: &str) -> AllocatedPod {
    let text = format!(
        r#"{{"metadata":{{"name":"p","namespace":"d","uid":"u","creationTimestamp":"2026-01-01T00:00:08Z"}},"spec":{spec}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn status(text: &str) -> Arc<PodStatus> {
    Arc::new(serde_json::from_str(text).unwrap())
}

fn write(old: &str, new: &str) -> Action {
    let key = model::PodKey::new("d", "p");
    Action::Api(ApiAction::WriteStatus { key, uid: PodUid::from("u"), old: status(old), new: status(new) })
}

const RUNNING: &str = r#"{"phase":"Running",
    "initContainerStatuses":[{"name":"i","image":"","imageID":"","ready":false,"restartCount":0,
        "state":{"terminated":{"exitCode":0,"reason":"Completed","startedAt":"2026-01-01T00:00:12Z","finishedAt":"2026-01-01T00:00:13Z"}}}],
    "containerStatuses":[{"name":"c","image":"","imageID":"","ready":true,"restartCount":0,
        "state":{"running":{"startedAt":"2026-01-01T00:00:15Z"}}}]}"#;

#[test]
fn images_are_counted_by_what_was_found_and_what_it_takes() {
    let image = || model::ImageRef::from("i");
    for (policy, answer, labels, is_error) in [
        ("IfNotPresent", ImageAnswer::Absent, ["false", "true"], false),
        ("IfNotPresent", ImageAnswer::Unproven, ["true", "true"], false),
        ("IfNotPresent", ImageAnswer::Accessible(image()), ["true", "false"], false),
        ("IfNotPresent", ImageAnswer::Present(image()), ["true", "false"], false),
        ("Always", ImageAnswer::Unproven, ["unknown", "true"], false),
        ("Never", ImageAnswer::Absent, ["false", "unknown"], true),
        ("Never", ImageAnswer::Unproven, ["true", "true"], true),
        ("Never", ImageAnswer::Accessible(image()), ["true", "false"], false),
    ] {
        let mut story = Scenario::new();
        let pod = pod(&format!(r#"{{"containers":[{{"name":"c","imagePullPolicy":"{policy}"}}]}}"#));
        let inspect = story.start(&Action::Image(ImageAction::Inspect {
            pod,
            used_by: model::ImageUse::Container("c".into()),
            question: ImageQuestion::Presence,
        }));
        story.end(inspect, 0, Outcome::Image(ImageOutcome::Inspected(answer)), None);
        let [present, required] = labels;
        let policy = policy.to_lowercase();
        let line = format!(
            "kubelet_image_manager_ensure_image_requests_total{{present_locally=\"{present}\",\
             pull_policy=\"{policy}\",pull_required=\"{required}\"}} 1"
        );
        story.shows(Endpoint::Main, &[&line]);
        let error = "kubelet_started_containers_errors_total{code=\"ErrImageNeverPull\"";
        assert_eq!(story.page(Endpoint::Main).contains(error), is_error, "{line}");
    }
}

#[test]
fn a_pods_start_is_measured_with_and_without_what_it_waited_for() {
    let mut story = Scenario::new();
    let pod =
        pod(r#"{"initContainers":[{"name":"i"}],"containers":[{"name":"c","imagePullPolicy":"Always"}]}"#);
    story.metering.on_input(story.now, &Input::PodApplied { source: Source::Api, pod: pod.shared().clone() });
    story.after(1);
    let inspect = story.start(&Action::Image(ImageAction::Inspect {
        pod: pod.clone(),
        used_by: model::ImageUse::Container("c".into()),
        question: ImageQuestion::Presence,
    }));
    let pull = Action::Image(ImageAction::Pull {
        pod: pod.clone(),
        used_by: model::ImageUse::Container("c".into()),
        handler: RuntimeHandler::default(),
    });
    let pull = story
        .end(inspect, 0, Outcome::Image(ImageOutcome::Inspected(ImageAnswer::Unproven)), Some(&pull))
        .unwrap();
    let took = Duration::from_secs(2);
    let pulled = Outcome::Image(ImageOutcome::Pulled {
        image: model::ImageRef::from("i"),
        size_bytes: 20 << 20,
        took,
        took_with_wait: took,
    });
    story.end(pull, 2, pulled, None);
    let written = story.start(&write(r#"{"phase":"Pending"}"#, RUNNING));
    story.end(written, 3, Outcome::Api(ApiOutcome::Written { version: 2 }), None);
    story.shows(
        Endpoint::Main,
        &[
            "kubelet_pod_worker_start_duration_seconds_sum 1",
            // From the first look at the image to the end of its pull.
            "kubelet_pod_worker_duration_seconds_sum{operation_type=\"sync\"} 2",
            "kubelet_pod_worker_duration_seconds_count{operation_type=\"sync\"} 1",
            "kubelet_pod_status_sync_duration_seconds_sum 3",
            "kubelet_pod_start_duration_seconds_sum 6",
            // From 00:00:08 to 00:00:16; two seconds of it for the pull, one for the init container.
            "kubelet_pod_start_total_duration_seconds_sum 8",
            "kubelet_pod_start_sli_duration_seconds_sum 5",
            "kubelet_first_network_pod_start_sli_duration_seconds 5",
            "kubelet_containers_per_pod_count_sum 1",
            "kubelet_image_pull_duration_seconds_sum{image_size_in_bytes=\"10MB-100MB\"} 2",
            "kubelet_image_manager_ensure_image_requests_total{present_locally=\"unknown\",pull_policy=\"always\",pull_required=\"true\"} 1",
            "kubelet_terminated_containers_total{container_type=\"init_container\",exit_code=\"0\",reason=\"Completed\"} 1",
        ],
    );
    let again = story.start(&write(RUNNING, RUNNING));
    story.end(again, 1, Outcome::Api(ApiOutcome::Written { version: 3 }), None);
    story.shows(Endpoint::Main, &["kubelet_pod_start_total_duration_seconds_count 1"]);
}

#[test]
fn a_status_that_was_not_written_counts_for_nothing() {
    let mut story = Scenario::new();
    let rejected = r#"{"phase":"Failed","reason":"OutOfexample.com/gpu","message":"Pod was rejected: no"}"#;
    let action = write("{}", rejected);
    let id = story.start(&action);
    let failure = Failure { kind: FailureKind::Other, message: String::new() };
    story.end(id, 1, Outcome::Failed(failure), None);
    assert!(!story.page(Endpoint::Main).contains("kubelet_admission_rejections_total{"));
    let id = story.start(&action);
    story.end(id, 1, Outcome::Api(ApiOutcome::Written { version: 1 }), None);
    let id = story.start(&write(rejected, rejected));
    story.end(id, 1, Outcome::Api(ApiOutcome::Written { version: 2 }), None);
    story.shows(Endpoint::Main, &["kubelet_admission_rejections_total{reason=\"OutOfExtendedResources\"} 1"]);
}

#[test]
fn probes_are_counted_until_the_pod_is_gone() {
    let mut story = Scenario::new();
    let pod = pod(r#"{"containers":[{"name":"c"}]}"#);
    let probe = Action::Probe(ProbeAction::Attempt {
        pod: pod.shared().clone(),
        container: "c".into(),
        id: model::ContainerId::from("x"),
        kind: ProbeKind::Liveness,
        pod_ip: None,
    });
    // One that could not be made is not counted, as upstream does not.
    let unmade = ProbeOutcome::unknown("away");
    for outcome in [ProbeOutcome::Success, ProbeOutcome::Failure(String::new()), unmade] {
        let id = story.start(&probe);
        story.end(id, 1, Outcome::Probed(outcome), None);
    }
    let labels = "container=\"c\",namespace=\"d\",pod=\"p\",pod_uid=\"u\",probe_type=\"Liveness\"";
    story.shows(
        Endpoint::Probes,
        &[
            &format!("prober_probe_total{{{labels},result=\"successful\"}} 1"),
            &format!("prober_probe_total{{{labels},result=\"failed\"}} 1"),
            "prober_probe_duration_seconds_count{container=\"c\",namespace=\"d\",pod=\"p\",probe_type=\"Liveness\"} 1",
        ],
    );
    assert!(!story.page(Endpoint::Probes).contains("unknown"));
    let id = story.start(&Action::Host(HostAction::RemoveCgroup {
        uid: PodUid::from("u"),
        key: model::PodKey::new("d", "p"),
    }));
    story.end(id, 1, Outcome::Done, None);
    assert!(!story.page(Endpoint::Probes).contains("probe_type"));
    story.shows(
        Endpoint::Main,
        &[
            "kubelet_cgroup_manager_duration_seconds_sum{operation_type=\"destroy\"} 1",
            "kubelet_pod_worker_duration_seconds_sum{operation_type=\"terminated\"} 1",
        ],
    );
}

#[test]
fn what_failed_is_counted_by_its_reason() {
    let mut story = Scenario::new();
    let pod = pod(r#"{"hostUsers":false,"containers":[{"name":"c"}]}"#);
    let failed = |kind| Outcome::Failed(Failure { kind, message: String::new() });
    let id = story.start(&Action::Runtime(RuntimeAction::RunSandbox {
        pod: pod.clone(),
        attempt: 0,
        loss: None,
        handler: RuntimeHandler::default(),
        volume_groups: vec![],
    }));
    story.end(id, 1, failed(FailureKind::Other), None);
    let id = story.start(&Action::Image(ImageAction::Pull {
        pod: pod.clone(),
        used_by: model::ImageUse::Container("c".into()),
        handler: RuntimeHandler::default(),
    }));
    story.end(id, 1, failed(FailureKind::RegistryUnavailable), None);
    let id = story.start(&Action::Runtime(RuntimeAction::StartContainer(Box::new(ContainerStart {
        pod,
        container: "c".into(),
        sandbox: model::SandboxId::from("s"),
        attempt: 0,
        image: model::ImageRef::from("i"),
        image_volumes: BTreeMap::new(),
        published_volumes: BTreeMap::new(),
        volume_groups: vec![],
        sandbox_attempt: 0,
        facts: PodFacts::default(),
        handler: RuntimeHandler::default(),
        target: None,
    }))));
    story.end(id, 1, failed(FailureKind::ContainerStart), None);
    // One failure, however often something of it fails.
    story.shows(
        Endpoint::Main,
        &[
            "kubelet_started_pods_total 1",
            "kubelet_started_pods_errors_total 1",
            "kubelet_started_user_namespaced_pods_total 1",
            "kubelet_started_user_namespaced_pods_errors_total 1",
            "kubelet_started_containers_total{container_type=\"container\"} 1",
            "kubelet_started_containers_errors_total{code=\"RegistryUnavailable\",container_type=\"container\"} 1",
            "kubelet_started_containers_errors_total{code=\"RunContainerError\",container_type=\"container\"} 1",
        ],
    );
}

/// "metrics should report count of started and failed user namespaced pods": mostly the first container shows it.
#[test]
fn a_user_namespace_that_does_not_work_is_counted_once() {
    let mut story = Scenario::new();
    let pod = pod(r#"{"hostUsers":false,"containers":[{"name":"c"}]}"#);
    let id = story.start(&Action::Runtime(RuntimeAction::RunSandbox {
        pod: pod.clone(),
        attempt: 0,
        loss: None,
        handler: RuntimeHandler::default(),
        volume_groups: vec![],
    }));
    story.end(id, 1, Outcome::Done, None);
    for attempt in 0..3 {
        let id = story.start(&Action::Runtime(RuntimeAction::StartContainer(Box::new(ContainerStart {
            pod: pod.clone(),
            container: "c".into(),
            sandbox: model::SandboxId::from("s"),
            attempt,
            image: model::ImageRef::from("i"),
            image_volumes: BTreeMap::new(),
            published_volumes: BTreeMap::new(),
            volume_groups: vec![],
            sandbox_attempt: 0,
            facts: PodFacts::default(),
            handler: RuntimeHandler::default(),
            target: None,
        }))));
        let failure = Failure { kind: FailureKind::ContainerStart, message: String::new() };
        story.end(id, 1, Outcome::Failed(failure), None);
    }
    story.shows(
        Endpoint::Main,
        &[
            "kubelet_started_pods_errors_total 0",
            "kubelet_started_user_namespaced_pods_total 1",
            "kubelet_started_user_namespaced_pods_errors_total 1",
        ],
    );
}

#[test]
fn images_that_containers_mount_are_counted() {
    for (outcome, counts) in [
        (Outcome::Done, [2, 3, 0]),
        (failed(FailureKind::ContainerCreate, "ImageVolumeMountFailed: no such folder"), [2, 0, 3]),
        // Nothing else is held against them.
        (failed(FailureKind::ContainerCreate, "no space left"), [2, 3, 0]),
        (failed(FailureKind::ContainerStart, "ImageVolumeMountFailed"), [2, 3, 0]),
    ] {
        let mut story = Scenario::new();
        let pod = pod(
            r#"{"volumes":[{"name":"v","image":{"reference":"i"}},{"name":"w","image":{"reference":"j"}}],
            "containers":[{"name":"c","volumeMounts":[{"name":"v","mountPath":"/v"},{"name":"w","mountPath":"/w"},
            {"name":"v","mountPath":"/x"}]}]}"#,
        );
        let images = ["v", "w"].map(|name| (name.to_owned(), model::ImageRef::from(name)));
        let id = story.start(&Action::Runtime(RuntimeAction::StartContainer(Box::new(ContainerStart {
            pod,
            container: "c".into(),
            sandbox: model::SandboxId::from("s"),
            attempt: 0,
            image: model::ImageRef::from("i"),
            image_volumes: BTreeMap::from(images),
            published_volumes: BTreeMap::new(),
            volume_groups: vec![],
            sandbox_attempt: 0,
            facts: PodFacts::default(),
            handler: RuntimeHandler::default(),
            target: None,
        }))));
        story.end(id, 1, outcome, None);
        let [requested, mounted, errors] = counts;
        story.shows(
            Endpoint::Main,
            &[
                &format!("kubelet_image_volume_requested_total {requested}"),
                &format!("kubelet_image_volume_mounted_succeed_total {mounted}"),
                &format!("kubelet_image_volume_mounted_errors_total {errors}"),
            ],
        );
    }
}

fn failed(kind: FailureKind, message: &str) -> Outcome {
    Outcome::Failed(Failure { kind, message: message.to_owned() })
}

#[test]
fn lists_of_all_pods_are_timed() {
    let mut story = Scenario::new();
    let id = story.start(&Action::Runtime(RuntimeAction::Relist));
    story.end(id, 2, Outcome::Runtime(RuntimeOutcome::Relisted(Vec::new())), None);
    story.after(3);
    let _ = story.start(&Action::Runtime(RuntimeAction::Relist));
    let one =
        Action::Runtime(RuntimeAction::Observe { uid: PodUid::from("u"), key: model::PodKey::new("d", "p") });
    let id = story.start(&one);
    story.end(id, 1, Outcome::Cancelled, None);
    story.shows(
        Endpoint::Main,
        &[
            "kubelet_pleg_relist_duration_seconds_sum 2",
            "kubelet_pleg_relist_interval_seconds_sum 5",
            "kubelet_pleg_pod_relist_duration_seconds_sum 1",
            "kubelet_pleg_last_seen_seconds 1.767225612e+09",
        ],
    );
}

#[test]
fn volumes_are_timed_from_the_first_attempt() {
    let mut story = Scenario::new();
    let pod = pod(
        r#"{"containers":[{"name":"c","volumeMounts":[{"name":"a","mountPath":"/a"},{"name":"h","mountPath":"/h"}]}],
            "volumes":[{"name":"a"},{"name":"h","hostPath":{"path":"/"}}]}"#,
    );
    // It may well run since before this process.
    let sync = Action::Volume(VolumeAction::Sync { pod, facts: PodFacts::default() });
    let id = story.start(&sync);
    story.end(id, 1, Outcome::Failed(Failure { kind: FailureKind::Other, message: String::new() }), None);
    story.after(5);
    for _ in 0..2 {
        let id = story.start(&sync);
        story.end(id, 2, Outcome::Volume(VolumeOutcome::Synced { refresh_after: None }), None);
    }
    let id = story.start(&Action::Volume(VolumeAction::TearDown {
        uid: PodUid::from("u"),
        key: model::PodKey::new("d", "p"),
    }));
    story.end(id, 1, Outcome::Done, None);
    assert!(story.metering.pods.is_empty(), "nothing is remembered of a pod that is gone");
    let labels =
        |plugin| format!("operation_name=\"overall_volume_mount\",plugin_name=\"kubernetes.io/{plugin}\"");
    for plugin in ["empty-dir", "host-path"] {
        let labels = labels(plugin);
        story.shows(
            Endpoint::Main,
            &[
                &format!("volume_operation_total_seconds_sum{{{labels}}} 8"),
                &format!("volume_operation_total_seconds_count{{{labels}}} 1"),
            ],
        );
    }
}

#[test]
fn pods_are_counted_once_by_where_they_ask_for_resources() {
    let asks = r#""resources":{"requests":{"cpu":"1"}}"#;
    for (spec, mode, class) in [
        (r#"{"containers":[{"name":"c"}]}"#.to_owned(), "", "besteffort"),
        (format!(r#"{{"containers":[{{"name":"c",{asks}}}]}}"#), "container_level", "burstable"),
        (format!(r#"{{"containers":[{{"name":"c"}}],{asks}}}"#), "pod_level", "burstable"),
        (
            format!(r#"{{"containers":[{{"name":"c"}}],"initContainers":[{{"name":"i",{asks}}}],{asks}}}"#),
            "pod_and_container_level",
            "burstable",
        ),
    ] {
        let mut story = Scenario::new();
        let pod = pod(&spec);
        story
            .metering
            .on_input(story.now, &Input::PodApplied { source: Source::Api, pod: pod.shared().clone() });
        for _ in 0..2 {
            let id = story.start(&Action::Host(HostAction::EnsureCgroup { pod: pod.clone() }));
            story.end(id, 1, Outcome::Done, None);
        }
        let labels = format!("config_mode=\"{mode}\",qos_class=\"{class}\"");
        story.shows(Endpoint::Main, &[&format!("kubelet_pod_level_resources_admission_total{{{labels}}} 1")]);
    }
}

#[test]
fn sizes_are_classed_as_upstream_does() {
    for (bytes, class) in
        [(0, "N/A"), (1, "0-10MB"), (10 << 20, "0-10MB"), (1 << 31, "1GB-5GB"), (1 << 40, "GT100GB")]
    {
        assert_eq!(size_class(bytes), class);
    }
}
