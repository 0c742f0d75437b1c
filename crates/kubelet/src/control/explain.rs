//! Makes an explanation of what is published of the node.

use std::time::Duration;

use jiff::Timestamp;
use model::Now;
use node::{PodView, Responsible, View, Wait};

use super::ControlContext;
use super::document::{
    CertificateExplained, ConditionExplained, Explanation, MarkExplained, NodeExplained, PodExplained,
    PodName, WaitExplained,
};
use super::stage::Stage;
use crate::commands;
use crate::identity::CertificateWait;

/// What is known now, of the pod of this name or of all.
pub(super) fn explain(context: &ControlContext, pod: Option<&PodName>, now: Now) -> Explanation {
    let (stage, view) = (*context.stage.borrow(), context.view.borrow().clone());
    let is_asked = |view: &&PodView| {
        pod.is_none_or(|pod| *view.key.namespace == pod.namespace && *view.key.name == pod.name)
    };
    let mut pods: Vec<PodExplained> = view
        .pods
        .values()
        .map(|pod| pod.as_ref())
        .filter(is_asked)
        .map(|pod| explain_pod(pod, now))
        .collect();
    // Those that wait longest first; those that wait for nothing last.
    pods.sort_by_key(|pod| {
        let since = pod.waits.iter().map(|wait| wait.since).min();
        (since.is_none(), since, pod.namespace.clone(), pod.name.clone())
    });
    Explanation { now: now.wall, node: explain_node(context, stage, &view, now), pods }
}

fn explain_node(context: &ControlContext, stage: Stage, view: &View, now: Now) -> NodeExplained {
    let certificates: Vec<CertificateExplained> = context
        .identity
        .expiries()
        .into_iter()
        .map(|(name, expires)| CertificateExplained { name: name.to_owned(), expires })
        .collect();
    let has_client = certificates.iter().any(|known| known.name == "client" && known.expires > now.wall);
    let awaited = context.identity.waits().borrow().clone();
    let mut waits = Vec::new();
    match &awaited.client {
        // Everything else follows from that.
        Some(wait) if !has_client => waits.push(explain_certificate("its client certificate", wait)),
        None if stage == Stage::Connecting => waits.push(WaitExplained::new(
            "its connection to the API server",
            Responsible::Api.as_str(),
            wall(Duration::ZERO, now),
        )),
        _ => {}
    }
    let is_started = stage == Stage::Started;
    if is_started {
        waits.extend(view.waits.iter().map(|wait| explain_wait(wait, now)));
    }
    let lease = context.lease.get().map(|lease| lease.borrow().clone()).unwrap_or_default();
    if let Some(failure) = &lease.failure {
        waits.push(WaitExplained {
            attempts: failure.attempts,
            error: Some(failure.error.clone()),
            next_try: Some(failure.next_try),
            ..WaitExplained::new("its lease to be renewed", Responsible::Api.as_str(), failure.since)
        });
    }
    if let Some(wait) = awaited.client.as_ref().filter(|_| has_client) {
        waits.push(explain_certificate("its next client certificate", wait));
    }
    if let Some(wait) = &awaited.serving {
        waits.push(explain_certificate("its serving certificate", wait));
    }
    let conditions = view.node_status.conditions.iter().flatten().map(|condition| ConditionExplained {
        r#type: condition.type_.clone(),
        status: condition.status.clone(),
        message: condition.message.clone().unwrap_or_default(),
    });
    NodeExplained {
        name: context.node_name.clone(),
        kubelet: commands::build(),
        started: wall(Duration::ZERO, now),
        is_started,
        waits,
        conditions: conditions.collect(),
        certificates,
        lease_renewed: lease.renewed,
        is_lease_failing: lease.failure.is_some(),
        pods: view.pods.size(),
    }
}

/// A certificate that is waited for, and what has to be done about it.
fn explain_certificate(what: &str, wait: &CertificateWait) -> WaitExplained {
    let on = match &wait.request {
        Some(request) => {
            format!("whoever approves and signs certificates: kubectl certificate approve {request}")
        }
        None => Responsible::Api.as_str().to_owned(),
    };
    let unsigned =
        |request: &String| format!("certificate signing request {request} is not approved and signed yet");
    WaitExplained {
        attempts: wait.attempts,
        error: wait.error.clone().or_else(|| wait.request.as_ref().map(unsigned)),
        next_try: wait.next_try,
        ..WaitExplained::new(what, &on, wait.since)
    }
}

/// A pod as it was published, at this time.
pub(crate) fn explain_pod(pod: &PodView, now: Now) -> PodExplained {
    let mut before: Option<Duration> = None;
    let timeline = pod.timeline.marks().map(|(at, mark)| {
        let took = before.replace(at.mono).map_or(Duration::ZERO, |before| at.mono.saturating_sub(before));
        MarkExplained { at: at.wall, seconds: took.as_secs_f64(), what: mark.to_string() }
    });
    let reason = pod.status.reason.as_deref();
    let message = match (reason, pod.status.message.as_deref()) {
        (Some(reason), Some(message)) => Some(format!("{reason}: {message}")),
        (reason, message) => message.or(reason).map(str::to_owned),
    };
    PodExplained {
        namespace: pod.key.namespace.to_string(),
        name: pod.key.name.to_string(),
        uid: pod.uid.to_string(),
        stage: format!("{:?}", pod.phase),
        phase: pod.status.phase.clone().unwrap_or_default(),
        message,
        waits: pod.waits.iter().map(|wait| explain_wait(wait, now)).collect(),
        timeline: timeline.collect(),
    }
}

fn explain_wait(wait: &Wait, now: Now) -> WaitExplained {
    WaitExplained {
        r#for: wait.on.to_string(),
        on: wait.responsible().as_str().to_owned(),
        since: wall(wait.since, now),
        attempts: wait.attempts,
        reason: wait.reason.as_ref().map(ToString::to_string),
        error: wait.error.clone(),
        next_try: wait.next_try.map(|at| wall(at, now)),
    }
}

/// A moment of the monotonic clock on the wall's.
fn wall(mono: Duration, now: Now) -> Timestamp {
    if mono >= now.mono { now.wall + (mono - now.mono) } else { now.wall - (now.mono - mono) }
}

#[cfg(test)]
mod tests {
    use model::PodKey;
    use node::WaitOn;

    use super::*;

    #[test]
    fn what_parts_of_the_node_wait_for_is_in_words() {
        let now = Now { wall: Timestamp::from_second(1000).unwrap(), mono: Duration::from_secs(100) };
        for (on, what, whom) in [
            (WaitOn::PodCidr, "the container runtime to be told the pod CIDR", "the container runtime"),
            (WaitOn::QosCgroups, "the cgroups of QoS classes to be updated", "the kernel of this node"),
            (
                WaitOn::StrayMirror(PodKey::new("ns", "web")),
                "mirror pod ns/web, which has no manifest, to be removed",
                "the API server",
            ),
        ] {
            let wait = Wait {
                on,
                since: Duration::from_secs(90),
                attempts: 2,
                reason: None,
                error: Some("refused".to_owned()),
                next_try: Some(Duration::from_secs(104)),
            };
            let told = explain_wait(&wait, now);
            assert_eq!((told.r#for.as_str(), told.on.as_str()), (what, whom));
            assert_eq!((told.attempts, told.error.as_deref()), (2, Some("refused")));
            let seconds = |at: Timestamp| at.as_second();
            assert_eq!((seconds(told.since), told.next_try.map(seconds)), (990, Some(1004)));
        }
    }
}
