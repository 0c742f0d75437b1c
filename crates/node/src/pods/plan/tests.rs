//! The plan by tables. The names in quotation marks are those of upstream's cases
//! (`TestComputePodActions*` in `pkg/kubelet/kuberuntime/kuberuntime_manager_test.go`), so that the
//! two can be compared; how they are written down is ours.
//!
//! A pod is `POLICY names…`: `i…` are init containers, `s…` sidecars, `e…` ephemeral, others
//! regular. An observation is a list of sandboxes (`0+` ready, `0-` not, `0x` not and stopped,
//! `0!` ready without an address; the number is the attempt) and containers (`name=state`, where the state is `run`,
//! `created`, `unknown` or an exit code, and `@0` a sandbox other than the newest).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, PodSpec, Probe};
use model::observed::ContainerExit;
use model::{
    ContainerId, ContainerObservation, ContainerState, Now, Pod, PodKey, PodObservation, PodUid, SandboxId,
    SandboxObservation,
};

use super::super::backoff::Delays;
use super::super::container::{ContainerRecord, KillCause, Stage};
use super::super::probe_state::ProbeState;
use super::*;

mod rules;

const NOW: u64 = 1000;
const RULES: RestartRules = RestartRules { of_containers: true, of_pods: true };

fn now() -> Now {
    Now { wall: at(NOW), mono: Duration::from_secs(NOW) }
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + i64::try_from(second).unwrap()).unwrap()
}

fn pod(text: &str) -> Pod {
    let mut words = text.split(' ');
    let mut spec = PodSpec { restart_policy: words.next().map(str::to_owned), ..PodSpec::default() };
    for word in words {
        let (name, policy) = word.split_once(':').map_or((word, None), |(n, p)| (n, Some(p.to_owned())));
        let container = Container { name: name.to_owned(), restart_policy: policy, ..Container::default() };
        match name.chars().next() {
            Some('i') => spec.init_containers.get_or_insert_default().push(container),
            Some('s') => {
                let container = Container { restart_policy: Some("Always".to_owned()), ..container };
                spec.init_containers.get_or_insert_default().push(container);
            }
            Some('e') => spec
                .ephemeral_containers
                .get_or_insert_default()
                .push(EphemeralContainer { name: name.to_owned(), ..EphemeralContainer::default() }),
            _ => spec.containers.push(container),
        }
    }
    Pod { spec: Some(spec), ..Pod::default() }
}

fn observation(pod: &Pod, text: &str) -> PodObservation {
    let mut seen = PodObservation::empty(PodUid::from("uid"), PodKey::new("ns", "pod"));
    let words: Vec<&str> = text.split(' ').filter(|w| !w.is_empty()).collect();
    let newest =
        words.iter().filter(|w| !w.contains('=')).map(|w| w[..1].parse::<u32>().unwrap()).max().unwrap_or(0);
    for word in words {
        let Some((name, state)) = word.split_once('=') else {
            let mark = &word[1..];
            seen.sandboxes.push(SandboxObservation {
                id: SandboxId::from(&word[..1]),
                attempt: word[..1].parse().unwrap(),
                is_ready: !matches!(mark, "-" | "x"),
                created_at: at(0),
                ips: if mark == "+" { vec!["10.0.0.1".to_owned()] } else { vec![] },
            });
            continue;
        };
        let (state, sandbox) =
            state.split_once('@').map_or((state, newest.to_string()), |(s, b)| (s, b.to_owned()));
        let (name, attempt) = name.split_once('#').map_or((name, 0), |(n, a)| (n, a.parse().unwrap()));
        let spec = model::pod::container(pod, name).map(|c| c.spec.into_owned()).unwrap_or_default();
        seen.containers.push(ContainerObservation {
            id: ContainerId::from(format!("{name}#{attempt}")),
            sandbox_id: SandboxId::from(sandbox),
            name: name.to_owned(),
            attempt,
            state: match state {
                "run" | "changed" => ContainerState::Running { started_at: Some(at(10)) },
                "created" => ContainerState::Created,
                "unknown" => ContainerState::Unknown,
                code => ContainerState::Exited(ContainerExit {
                    exit_code: code.parse().unwrap(),
                    finished_at: Some(at(NOW - 5)),
                    ..ContainerExit::default()
                }),
            },
            created_at: at(10),
            spec_hash: Some(if state == "changed" { 1 } else { model::hash::container_hash(&spec) }),
            image: String::new(),
            image_id: String::new(),
            image_used: None,
            pod_grace_seconds: None,
            resources: None,
            user: None,
            stop_signal: None,
            recursive_read_only: Vec::new(),
            image_mounts: Vec::new(),
        });
    }
    seen.sort();
    seen
}

/// Running containers count as started.
fn records(seen: &PodObservation) -> BTreeMap<String, Box<ContainerRecord>> {
    let mut records: BTreeMap<String, Box<ContainerRecord>> = BTreeMap::new();
    for c in &seen.containers {
        records.entry(c.name.clone()).or_default().instance_mut(&c.id).stage = Stage::Started;
    }
    records
}

fn text(plan: &Plan) -> String {
    let mut words = vec![match &plan.sandbox {
        SandboxPlan::Keep => String::new(),
        SandboxPlan::Create { attempt } => format!("create {attempt}"),
        SandboxPlan::Replace { stop } => {
            format!("replace {}", stop.iter().map(SandboxId::as_str).collect::<Vec<_>>().join(" "))
        }
    }];
    let list = |verb: &str, names: Vec<String>| {
        if names.is_empty() { String::new() } else { format!("{verb} {}", names.join(" ")) }
    };
    words.push(list("stop", plan.stop.iter().map(|s| s.name.clone()).collect()));
    words.push(list("start", plan.start.iter().map(|s| format!("{}#{}", s.name, s.attempt)).collect()));
    words.push(list("wait", plan.back_off.iter().map(|b| b.name.clone()).collect()));
    words.push(if plan.is_over { "over".to_owned() } else { String::new() });
    words.retain(|w| !w.is_empty());
    words.join(", ")
}

fn plan_of(pod: &Pod, seen: &PodObservation, records: &BTreeMap<String, Box<ContainerRecord>>) -> Plan {
    plan_with(pod, seen, records, &BTreeSet::new())
}

fn plan_with(
    pod: &Pod,
    seen: &PodObservation,
    records: &BTreeMap<String, Box<ContainerRecord>>,
    stopped: &BTreeSet<SandboxId>,
) -> Plan {
    plan(PlanInputs {
        pod,
        observed: seen,
        containers: records,
        stopped,
        ended: &BTreeSet::new(),
        rules: RULES,
        now: now(),
    })
}

fn check(cases: &[(&str, &str, &str, &str)]) {
    for (name, pod_text, seen, expected) in cases {
        let pod = pod(pod_text);
        let stopped = seen.split(' ').filter_map(|w| w.strip_suffix('x')).map(SandboxId::from).collect();
        let seen = observation(&pod, seen);
        assert_eq!(text(&plan_with(&pod, &seen, &records(&seen), &stopped)), *expected, "{name}");
    }
}

/// `TestComputePodActions`
#[test]
fn regular_containers() {
    check(&[
        ("everything is good; do nothing", "Always a b c", "0+ a=run b=run c=run", ""),
        ("start pod sandbox and all containers for a new pod", "Always a b c", "", "create 0"),
        ("… and in the new sandbox", "Always a b c", "0+", "start a#0 b#0 c#0"),
        (
            "restart exited containers if RestartPolicy == Always",
            "Always a b c",
            "0+ a=0 b=111 c=run",
            "start a#1 b#1",
        ),
        (
            "restart failed containers if RestartPolicy == OnFailure",
            "OnFailure a b c",
            "0+ a=0 b=111 c=run",
            "start b#1",
        ),
        (
            "restart created but not started containers if RestartPolicy == OnFailure",
            "OnFailure a b c",
            "0+ a=0 b=created c=run",
            "start b#1",
        ),
        ("don't restart containers if RestartPolicy == Never", "Never a b c", "0+ a=0 b=111 c=run", ""),
        ("all of them ended", "Never a b c", "0+ a=0 b=111 c=1", "over"),
        ("all of them succeeded", "OnFailure a b", "0+ a=0 b=0", "over"),
        (
            "Kill pod and recreate everything if the pod sandbox is dead, and RestartPolicy == Always",
            "Always a b c",
            "0- a=run b=run c=run",
            "stop a b c",
        ),
        ("… once everything is stopped", "Always a b c", "0- a=137 b=137 c=137", "replace 0"),
        ("… and the sandbox, too", "Always a b c", "0x a=137 b=137 c=137", "create 1"),
        ("… which may be the second", "Always a", "1- 0x a=137", "replace 1"),
        ("… and in the new sandbox", "Always a b", "1+ 0- a=137@0 b=137@0", "start a#1 b#1"),
        (
            "Kill pod and recreate all containers (except for the succeeded one) if the pod sandbox is dead, and RestartPolicy == OnFailure",
            "OnFailure a b c",
            "1+ 0- a=137@0 b=0@0 c=137@0",
            "start a#1 c#1",
        ),
        (
            "Kill pod and recreate all containers if the PodSandbox does not have an IP",
            "Always a",
            "0! a=run",
            "stop a",
        ),
        ("… once everything is stopped", "Always a", "0! a=137", "replace 0"),
        (
            "Kill and recreate the container if the container's spec changed",
            "Always a b",
            "0+ a=run b=changed",
            "stop b",
        ),
        (
            "Verify we do not create a pod sandbox if no ready sandbox for pod with RestartPolicy=Never and all containers exited",
            "Never a b",
            "1- a=0 b=0",
            "over",
        ),
        (
            "Verify we do not create a pod sandbox if no ready sandbox for pod with RestartPolicy=OnFailure and all containers succeeded",
            "OnFailure a b",
            "1- a=0 b=0",
            "over",
        ),
        (
            "Verify we create a pod sandbox if no ready sandbox for pod with RestartPolicy=Never and no containers have ever been created",
            "Never a b",
            "2x",
            "create 3",
        ),
        (
            "Kill and recreate the container if the container is in unknown state",
            "Never a b c",
            "0+ a=run b=unknown c=run",
            "stop b",
        ),
        (
            "Restart the container if the container is in created state",
            "Never a b",
            "0+ a=run b=created",
            "start b#1",
        ),
    ]);
}

/// `TestComputePodActionsWithInitContainers`
#[test]
fn init_containers() {
    check(&[
        (
            "initialization completed; start all containers",
            "Always i1 i2 i3 a b",
            "0+ i1=0 i2=0 i3=0",
            "start a#0 b#0",
        ),
        ("no init containers have been started; start the first one", "Always i1 i2 a", "0+", "start i1#0"),
        ("the next one", "Always i1 i2 a", "0+ i1=0", "start i2#0"),
        ("initialization in progress; do nothing", "Always i1 i2 i3 a", "0+ i1=0 i2=0 i3=run", ""),
        (
            "Kill pod and restart the first init container if the pod sandbox is dead",
            "Always i1 i2 a",
            "1+ 0- i1=0@0 i2=0@0",
            "start i1#1",
        ),
        (
            "initialization failed; restart the last init container if RestartPolicy == Always",
            "Always i1 i2 i3 a",
            "0+ i1=0 i2=0 i3=137",
            "start i3#1",
        ),
        (
            "initialization failed; restart the last init container if RestartPolicy == OnFailure",
            "OnFailure i1 i2 i3 a",
            "0+ i1=0 i2=0 i3=137",
            "start i3#1",
        ),
        (
            "initialization failed; kill pod if RestartPolicy == Never",
            "Never i1 i2 i3 a",
            "0+ i1=0 i2=0 i3=137",
            "over",
        ),
        (
            "init container state unknown; kill and recreate the last init container if RestartPolicy == Always",
            "Always i1 i2 a",
            "0+ i1=0 i2=unknown",
            "stop i2",
        ),
        (
            "init container state unknown; kill pod if RestartPolicy == Never",
            "Never i1 i2 a",
            "0+ i1=0 i2=unknown",
            "over",
        ),
        (
            "Pod sandbox not ready, init container failed, but RestartPolicy == Never; kill pod only",
            "Never i1 i2 a",
            "0- i1=0 i2=1",
            "over",
        ),
        (
            "Pod sandbox not ready, and RestartPolicy == Never, but no visible init containers; create a new pod sandbox",
            "Never i1 a",
            "0x",
            "create 1",
        ),
        (
            "Pod sandbox not ready, init container failed, and RestartPolicy == OnFailure; create a new pod sandbox",
            "OnFailure i1 i2 a",
            "0x i1=0 i2=137",
            "create 1",
        ),
        (
            "some of the init container statuses are missing but the last init container is running, don't restart preceding ones",
            "Always i1 i2 i3 a",
            "0+ i3=run",
            "",
        ),
        (
            "stale main container from a previous sandbox must not mark pod as initialized",
            "Always i1 a",
            "1+ 0- a=created@0",
            "start i1#0",
        ),
        (
            "an init container is in the created state due to an unknown error when starting container; restart it",
            "Always i1 i2 a",
            "0+ i1=0 i2=created",
            "start i2#1",
        ),
        ("an initialized pod does not run them again", "Always i1 a b", "0+ a=run b=1", "start b#1"),
    ]);
}

/// `TestComputePodActionsWithRestartableInitContainers`
#[test]
fn sidecars() {
    check(&[
        (
            "initialization completed; start all containers",
            "Always s1 s2 a b",
            "0+ s1=run s2=run",
            "start a#0 b#0",
        ),
        ("no init containers have been started; start the first one", "Always s1 s2 a", "0+", "start s1#0"),
        (
            "an init container is stuck in the created state; restart it",
            "Always s1 s2 a",
            "0+ s1=run s2=created",
            "start s2#1",
        ),
        (
            "restartable init container has started; start the next",
            "Always s1 s2 s3 a",
            "0+ s1=run",
            "start s2#0",
        ),
        (
            "kill and recreate the restartable init container if the container definition changes",
            "Always s1 s2 a",
            "0+ s1=run s2=changed a=run",
            "stop s2",
        ),
        (
            "restart terminated restartable init container and next init container",
            "Always s1 s2 s3 a",
            "0+ s1=0 s2=run s3=0",
            "start s1#1 s3#1",
        ),
        (
            "restart terminated restartable init container and regular containers",
            "Always s1 s2 s3 a b",
            "0+ s1=0 s2=run s3=run",
            "start s1#1 a#0 b#0",
        ),
        (
            "Pod sandbox not ready, restartable init container failed, but RestartPolicy == Never; kill pod only",
            "Never s1 a",
            "0- s1=137",
            "over",
        ),
        (
            "Pod sandbox not ready, and RestartPolicy == Never, but no visible restartable init containers; create a new pod sandbox",
            "Never s1 a",
            "0x",
            "create 1",
        ),
        (
            "initialization failed; restart the last restartable init container even if pod's RestartPolicy == Never",
            "Never s1 s2 a",
            "0+ s1=run s2=137",
            "start s2#1",
        ),
        (
            "restartable init container state unknown; kill and recreate the last restartable init container even if pod's RestartPolicy == Never",
            "Never s1 s2 a",
            "0+ s1=run s2=unknown",
            "stop s2",
        ),
        (
            "restart restartable init container if regular containers are running even if pod's RestartPolicy == Never",
            "Never s1 s2 a b",
            "0+ s1=run s2=137 a=run b=run",
            "start s2#1",
        ),
        (
            "kill the pod if all main containers succeeded if pod's RestartPolicy == Never",
            "Never s1 a b",
            "0+ s1=run a=0 b=0",
            "over",
        ),
        (
            "some of the init container statuses are missing but the last init container is running, restart restartable init and regular containers",
            "Always s1 s2 s3 a b",
            "0+ s3=run",
            "start s1#0 s2#0 a#0 b#0",
        ),
        (
            "stale main container with mixed restartable and non-restartable init containers; start the first one",
            "Always s1 i2 s3 a",
            "1+ 0- a=created@0",
            "start s1#0",
        ),
    ]);
}

/// `TestComputePodActionsWithInitAndEphemeralContainers`
#[test]
fn ephemeral_containers() {
    check(&[
        (
            "steady state; do nothing; ignore ephemeral container",
            "Always i1 a e1",
            "0+ i1=0 a=run e1=run",
            "",
        ),
        ("No ephemeral containers running; start one", "Always i1 a e1", "0+ i1=0 a=run", "start e1#0"),
        ("Start second ephemeral container", "Always a e1 e2", "0+ a=run e1=run", "start e2#0"),
        ("Ephemeral container exited; do not restart", "Always a e1", "0+ a=run e1=1", ""),
        (
            "initialization in progress; start ephemeral container",
            "Always i1 a e1",
            "0+ i1=run",
            "start e1#0",
        ),
        (
            "Kill pod and do not restart ephemeral container if the pod sandbox is dead",
            "Always i1 a e1",
            "0x i1=0 a=137 e1=137",
            "create 1",
        ),
        (
            "Kill pod if all containers exited except ephemeral container",
            "Never a b e1",
            "0+ a=0 b=0 e1=run",
            "over",
        ),
        ("Ephemeral container is in unknown state; leave it alone", "Never a e1", "0+ a=run e1=unknown", ""),
    ]);
}

/// `TestComputePodActionsWithContainerRestartRules` (the policies of single containers, KEP-5307)
#[test]
fn policies_of_containers() {
    check(&[
        (
            "restart exited containers if RestartPolicy == Always",
            "Never a:Always b:Always c",
            "0+ a=0 b=111 c=run",
            "start a#1 b#1",
        ),
        (
            "restart failed containers if RestartPolicy == OnFailure",
            "Never a:OnFailure b:OnFailure c",
            "0+ a=0 b=111 c=run",
            "start b#1",
        ),
        (
            "don't restart containers if RestartPolicy == Never",
            "Always a:Never b:Never c",
            "0+ a=0 b=111 c=run",
            "",
        ),
    ]);
}

#[test]
fn two_at_once_are_brought_to_one() {
    check(&[
        ("an older sandbox is still ready", "Always a", "1+ 0+ a=run", "replace 0"),
        ("… and a container runs in it", "Always a", "1+ 0+ a=run@0", "stop a"),
        ("a container of a lost sandbox still runs", "Always a b", "1+ 0- a=run@0 b=run", "stop a"),
        ("a start that was given up came late", "Always a", "0+ a#0=run a#1=run", "stop a"),
        ("… and its successor has ended", "Always a", "0+ a#0=run a#1=1", "stop a"),
    ]);
}

/// "Kill and recreate the container if the liveness (startup) check has failed"
#[test]
fn a_failed_check_ends_its_container() {
    let pod = pod("Always a b");
    let seen = observation(&pod, "0+ a=run b=run");
    let mut records = records(&seen);
    records.get_mut("b").unwrap().instance_mut(&ContainerId::from("b#0")).kill = Some(KillCause::Liveness);
    let made = plan_of(&pod, &seen, &records);
    assert_eq!(made.stop.len(), 1);
    assert_eq!((made.stop[0].name.as_str(), &made.stop[0].why), ("b", &KillCause::Liveness));
    let verdicts = &mut records.get_mut("b").unwrap().instances;
    let of_b = verdicts.remove(&ContainerId::from("b#0")).unwrap();
    verdicts.insert(ContainerId::from("earlier"), of_b);
    assert_eq!(
        text(&plan_of(&pod, &seen, &records)),
        "",
        "a verdict about an earlier instance means nothing"
    );
}

/// "startupProbe has not been run; do nothing", "startupProbe has completed; start the next"
#[test]
fn a_sidecar_holds_back_what_follows_until_it_has_started() {
    let mut pod = pod("Always s1 a");
    let sidecar = &mut pod.spec.as_mut().unwrap().init_containers.as_mut().unwrap()[0];
    sidecar.startup_probe = Some(Probe::default());
    let seen = observation(&pod, "0+ s1=run");
    let mut records = records(&seen);
    assert_eq!(text(&plan_of(&pod, &seen, &records)), "");
    let now = Now { wall: at(NOW), mono: Duration::from_secs(NOW) };
    let mut probe = ProbeState::new(&Probe::default(), Duration::ZERO, now);
    probe.verdict = Some(true);
    let instance = records.get_mut("s1").unwrap().instance_mut(&ContainerId::from("s1#0"));
    instance.probes.insert(model::probe::ProbeKind::Startup, probe);
    assert_eq!(text(&plan_of(&pod, &seen, &records)), "start a#0");
    records.get_mut("s1").unwrap().instance_mut(&ContainerId::from("s1#0")).stage = Stage::PostStart;
    assert_eq!(text(&plan_of(&pod, &seen, &records)), "", "its postStart hook still runs");
}

/// `TestDoBackOff`, from the plan's side.
#[test]
fn a_container_that_keeps_ending_waits() {
    let pod = pod("Always a");
    let seen = observation(&pod, "0+ a#3=1");
    let mut records = records(&seen);
    let a = records.get_mut("a").unwrap();
    a.restart_backoff.advance(
        at(NOW - 20),
        Delays::USUAL,
        Now { wall: at(NOW - 20), mono: Duration::from_secs(NOW - 20) },
    );
    let made = plan_of(&pod, &seen, &records);
    assert_eq!(text(&made), "wait a");
    // It ended five seconds ago and has ten to wait.
    assert_eq!(made.back_off[0].until, Duration::from_secs(NOW + 5));
    assert_eq!(made.back_off[0].delay, Duration::from_secs(10));
    // The start that answered this very end failed: that has a pause of its own.
    records.get_mut("a").unwrap().instance_mut(&ContainerId::from("a#3")).answer = Answer::Start;
    assert_eq!(text(&plan_of(&pod, &seen, &records)), "start a#4");
}

#[test]
fn the_count_goes_on_after_containers_are_gone() {
    let pod = pod("Always a");
    let seen = observation(&pod, "0+");
    let mut records = BTreeMap::new();
    let known = ContainerRecord { last_attempt: Some(4), ..ContainerRecord::default() };
    records.insert("a".to_owned(), Box::new(known));
    assert_eq!(text(&plan_of(&pod, &seen, &records)), "start a#5");
}
