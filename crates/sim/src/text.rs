//! Pods in words.

use model::Pod;
use model::pod::uid;

/// What a container's spec asks for, where it matters here.
pub(crate) fn spec(pod: &Pod) -> String {
    let containers: Vec<String> = model::pod::containers(pod)
        .map(|c| {
            let s = &c.spec;
            let life = s.lifecycle.as_ref();
            let requests = s.resources.as_ref().and_then(|r| r.requests.as_ref()?.get("cpu"));
            let cpu = requests.map(|cpu| format!(" {}", cpu.0)).unwrap_or_default();
            let marks = [
                ("L", s.liveness_probe.is_some()),
                ("R", s.readiness_probe.is_some()),
                ("S", s.startup_probe.is_some()),
                ("<", life.is_some_and(|l| l.post_start.is_some())),
                (">", life.is_some_and(|l| l.pre_stop.is_some())),
            ];
            let marks: String = marks.iter().filter(|(_, has)| *has).map(|(mark, _)| *mark).collect();
            format!("{}{marks}{cpu}", s.name)
        })
        .collect();
    let spec = pod.spec.clone().unwrap_or_default();
    format!(
        "{} {} [{}] grace {:?} deadline {:?}",
        uid(pod),
        spec.restart_policy.unwrap_or_default(),
        containers.join(" "),
        spec.termination_grace_period_seconds.unwrap_or(-1),
        spec.active_deadline_seconds,
    )
}
