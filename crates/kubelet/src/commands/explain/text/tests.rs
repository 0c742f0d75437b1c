//! Pages of pods and nodes that wait, as a tired person reads them.

use crate::control::document::{CertificateExplained, ConditionExplained, MarkExplained};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_796_000_000 + second).unwrap()
}

fn wait(what: &str, since: i64) -> WaitExplained {
    WaitExplained {
        r#for: what.to_owned(),
        on: "the container runtime".to_owned(),
        since: at(since),
        attempts: 0,
        reason: None,
        error: None,
        next_try: None,
    }
}

fn pod(name: &str, waits: Vec<WaitExplained>) -> PodExplained {
    let mark = |second, seconds, what: &str| MarkExplained { at: at(second), seconds, what: what.to_owned() };
    PodExplained {
        namespace: "ns".to_owned(),
        name: name.to_owned(),
        uid: "u".to_owned(),
        stage: "Running".to_owned(),
        phase: "Pending".to_owned(),
        message: None,
        waits,
        timeline: vec![mark(10, 0.0, "first seen"), mark(11, 1.25, "admitted")],
    }
}

fn explanation(waits: Vec<WaitExplained>, pods: Vec<PodExplained>) -> Explanation {
    let node = NodeExplained {
        name: "n1".to_owned(),
        kubelet: "ferrolet 0.1.0".to_owned(),
        started: at(0),
        is_started: true,
        waits,
        conditions: vec![ConditionExplained {
            r#type: "Ready".to_owned(),
            status: "True".to_owned(),
            message: String::new(),
        }],
        certificates: vec![
            CertificateExplained { name: "client".to_owned(), expires: at(86_400 * 9 + 3700) },
            CertificateExplained { name: "serving".to_owned(), expires: at(0) },
        ],
        lease_renewed: Some(at(96)),
        is_lease_failing: false,
        pods: pods.len(),
    };
    Explanation { now: at(100), node, pods }
}

fn failing() -> WaitExplained {
    WaitExplained {
        attempts: 5,
        reason: Some("ErrImagePull".to_owned()),
        error: Some("not\x1b[31m found".to_owned()),
        next_try: Some(at(137)),
        ..wait("the image of container web", -33)
    }
}

#[test]
fn a_pod_tells_its_cause_first() {
    let all = explanation(Vec::new(), vec![pod("web", vec![wait("its volumes", 20), failing()])]);
    let name = PodName { namespace: "ns".to_owned(), name: "web".to_owned() };
    assert_eq!(
        render(&all, Some(&name)),
        "\
ns/web waits for the image of container web, 2m13s so far
  error     ErrImagePull: not [31m found
  on        the container runtime
  next try  in 37s; tried 5 times in vain
it waits as well for
  its volumes, 1m20s so far

what was done (is to run, phase Pending):
  2026-11-30 00:53:30.000Z                first seen
  2026-11-30 00:53:31.000Z       +1.250s  admitted
  2026-11-30 00:55:00.000Z      +89.000s  now
uid u
"
    );
}

#[test]
fn a_pod_that_is_well_or_unknown_says_so() {
    let name = |name: &str| PodName { namespace: "ns".to_owned(), name: name.to_owned() };
    let all = explanation(Vec::new(), vec![pod("web", Vec::new())]);
    let text = render(&all, Some(&name("web")));
    assert!(text.starts_with("ns/web waits for nothing: is to run, phase Pending\n"), "{text}");
    let none = explanation(Vec::new(), Vec::new());
    let text = render(&none, Some(&name("db")));
    assert!(text.starts_with("node n1 knows no pod ns/db\n  is it bound"), "{text}");
    let none = explanation(vec![wait("the first list", 99)], Vec::new());
    let text = render(&none, Some(&name("db")));
    assert_eq!(
        text,
        "node n1 knows no pod ns/db\nit waits for the first list, 1.0s so far\n  on        the container runtime\n"
    );
}

#[test]
fn the_node_tells_its_own_waits_then_those_of_its_pods() {
    let pods = vec![pod("web", vec![failing()]), pod("db", Vec::new())];
    let all = explanation(vec![wait("the container runtime to be ready", 88)], pods);
    assert_eq!(
        render(&all, None),
        "\
node n1 is ready; pods: 2, waiting: 1
it waits for the container runtime to be ready, 12s so far
  on        the container runtime

pods that wait, longest first:
  ns/web  2m13s for the image of container web, next try in 37s
      ErrImagePull: not [31m found

ferrolet 0.1.0 since 2026-11-30 00:53:20Z (1m40s)
lease renewed 4.0s ago
client certificate holds for 9d01h
serving certificate has EXPIRED 1m40s ago
"
    );
}

#[test]
fn a_node_that_nobody_hears_says_so_first() {
    let lease = WaitExplained {
        on: "the API server".to_owned(),
        attempts: 3,
        error: Some("connection refused".to_owned()),
        next_try: Some(at(101)),
        ..wait("its lease to be renewed", 80)
    };
    let mut all = explanation(vec![lease], Vec::new());
    all.node.is_lease_failing = true;
    let text = render(&all, None);
    assert!(text.starts_with("node n1 is ready, but the API server does not hear of it; pods: 0"), "{text}");
    assert!(
        text.contains("\nit waits for its lease to be renewed, 20s so far\n  error     connection refused\n"),
        "{text}"
    );
}

#[test]
fn what_only_takes_its_time_ends_at_some_time() {
    let stop = WaitExplained { next_try: Some(at(124)), ..wait("container web to stop", 94) };
    let all = explanation(Vec::new(), vec![pod("web", vec![stop])]);
    let name = PodName { namespace: "ns".to_owned(), name: "web".to_owned() };
    let text = render(&all, Some(&name));
    assert!(text.contains("container web to stop, 6.0s so far\n"), "{text}");
    assert!(text.contains("  at most   24s more\n"), "{text}");
    assert!(render(&all, None).contains("  ns/web  6.0s for container web to stop, at most 24s more\n"));
}

#[test]
fn a_successor_comes_after_what_it_waits_for() {
    let mut second = pod("web", vec![wait("the end of the pod that had its name before (u)", 94)]);
    second.stage = "Admitting".to_owned();
    second.uid = "v".to_owned();
    let all = explanation(Vec::new(), vec![second, pod("web", vec![wait("container web to stop", 94)])]);
    let name = PodName { namespace: "ns".to_owned(), name: "web".to_owned() };
    let text = render(&all, Some(&name));
    assert!(text.starts_with("ns/web waits for container web to stop"), "{text}");
    assert!(
        text.contains("\nuid u\n\nns/web waits for the end of the pod that had its name before (u)"),
        "{text}"
    );
}

#[test]
fn pods_that_wait_for_what_the_node_waits_for_are_one_line() {
    let mut nameless = pod("", vec![wait("the first list", 99)]);
    nameless.namespace = String::new();
    let pods = vec![pod("web", vec![failing()]), pod("db", vec![wait("the first list", 99)]), nameless];
    let text = render(&explanation(vec![wait("the first list", 99)], pods), None);
    assert!(text.contains("longest first:\n  ns/web  2m13s"), "{text}");
    assert!(text.contains("\n  2 for what the node itself waits for\n"), "{text}");
    let mut nameless = pod("", vec![wait("its volumes to be unmounted", 99)]);
    nameless.uid = "u7".to_owned();
    let text = render(&explanation(Vec::new(), vec![nameless]), None);
    assert!(text.contains("  (what is left of pod u7)  1.0s for its volumes to be unmounted\n"), "{text}");
}

#[test]
fn the_node_tells_of_pods_it_has_turned_away() {
    let mut full = pod("full", Vec::new());
    full.phase = "Failed".to_owned();
    full.message = Some("OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu".to_owned());
    let text = render(&explanation(Vec::new(), vec![full]), None);
    assert!(text.contains("\npods that failed: 1\n  ns/full  OutOfcpu: Pod was rejected"), "{text}");
}

#[test]
fn it_stays_one_screen() {
    let pods = (0..200).map(|n| pod(&format!("p{n}"), vec![failing()])).collect();
    let text = render(&explanation(Vec::new(), pods), None);
    assert!(text.lines().count() <= 40, "{text}");
    assert!(text.contains("and 188 more"), "{text}");
}
