//! An explanation for people, at night: one screen, the cause first.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::control::document::{Explanation, NodeExplained, PodExplained, PodName, WaitExplained};

/// Pods told of at most, so that it stays one screen.
const MOST_PODS: usize = 12;
/// Failed pods told of at most.
const MOST_FAILED: usize = 3;
/// Marks told of at most: the last ones.
const MOST_MARKS: usize = 16;
/// Characters of an error. Runtimes repeat themselves.
const MOST_ERROR_CHARACTERS: usize = 600;

/// The text, of one pod or of the node.
pub(super) fn render(explanation: &Explanation, pod: Option<&PodName>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match pod {
        None => node(explanation, &mut text),
        Some(name) if explanation.pods.is_empty() => unknown(explanation, name, &mut text),
        Some(_) => pods_of_one_name(explanation, &mut text),
    };
    text
}

fn unknown(explanation: &Explanation, name: &PodName, text: &mut String) -> std::fmt::Result {
    writeln!(text, "node {} knows no pod {}/{}", explanation.node.name, name.namespace, name.name)?;
    let PodName { namespace, name } = name;
    if explanation.node.waits.is_empty() {
        writeln!(text, "  is it bound to this node? kubectl get pod -o wide -n {namespace} {name}")
    } else {
        node_waits(&explanation.node, explanation.now, text)
    }
}

// ---- the node ----

fn node(explanation: &Explanation, text: &mut String) -> std::fmt::Result {
    let (node, now) = (&explanation.node, explanation.now);
    let waiting: Vec<&PodExplained> = explanation.pods.iter().filter(|pod| !pod.waits.is_empty()).collect();
    writeln!(text, "node {} is {}; pods: {}, waiting: {}", node.name, state(node), node.pods, waiting.len())?;
    node_waits(node, now, text)?;
    for condition in &node.conditions {
        let is_bad =
            if condition.r#type == "Ready" { condition.status != "True" } else { condition.status == "True" };
        if is_bad {
            writeln!(text, "  {} is {}: {}", condition.r#type, condition.status, clean(&condition.message))?;
        }
    }
    waiting_pods(&waiting, node, now, text)?;
    failed_pods(&explanation.pods, text)?;
    writeln!(text)?;
    writeln!(
        text,
        "{} since {} ({})",
        node.kubelet,
        node.started.strftime("%F %TZ"),
        ago(node.started, now)
    )?;
    match node.lease_renewed {
        Some(renewed) => writeln!(text, "lease renewed {} ago", ago(renewed, now))?,
        None => writeln!(text, "no lease was renewed so far")?,
    }
    for certificate in &node.certificates {
        let (name, left) = (&certificate.name, certificate.expires);
        if left > now {
            writeln!(text, "{name} certificate holds for {}", ago(now, left))?;
        } else {
            writeln!(text, "{name} certificate has EXPIRED {} ago", ago(left, now))?;
        }
    }
    Ok(())
}

/// Those that wait for what the node waits for anyway are told of in one line.
fn waiting_pods(
    waiting: &[&PodExplained],
    node: &NodeExplained,
    now: Timestamp,
    text: &mut String,
) -> std::fmt::Result {
    let is_nodes = |pod: &PodExplained| {
        let cause = causes(&pod.waits).into_iter().next();
        cause.is_some_and(|cause| node.waits.iter().any(|wait| wait.r#for == cause.r#for))
    };
    let (held_up, own): (Vec<&PodExplained>, Vec<&PodExplained>) =
        waiting.iter().copied().partition(|pod| is_nodes(pod));
    if !waiting.is_empty() {
        writeln!(text, "\npods that wait, longest first:")?;
    }
    for pod in own.iter().take(MOST_PODS) {
        brief(pod, now, text)?;
    }
    if own.len() > MOST_PODS {
        writeln!(text, "  and {} more; kubelet explain -o json tells all", own.len() - MOST_PODS)?;
    }
    match held_up.len() {
        0 => Ok(()),
        count => writeln!(text, "  {count} for what the node itself waits for"),
    }
}

/// Those that wait for nothing any more, and should not have ended like this.
fn failed_pods(pods: &[PodExplained], text: &mut String) -> std::fmt::Result {
    let failed: Vec<(&PodExplained, &String)> = pods
        .iter()
        .filter(|pod| pod.waits.is_empty() && pod.phase == "Failed")
        .filter_map(|pod| Some((pod, pod.message.as_ref()?)))
        .collect();
    if !failed.is_empty() {
        writeln!(text, "\npods that failed: {}", failed.len())?;
    }
    for (pod, message) in failed.iter().take(MOST_FAILED) {
        writeln!(text, "  {}  {}", name_of(pod), first(&clean(message), 160))?;
    }
    Ok(())
}

fn state(node: &NodeExplained) -> &'static str {
    let ready = node.conditions.iter().find(|condition| condition.r#type == "Ready");
    match (node.is_started, ready) {
        (false, _) => "starting",
        (true, Some(ready)) if ready.status == "True" && node.is_lease_failing => {
            "ready, but the API server does not hear of it"
        }
        (true, Some(ready)) if ready.status == "True" => "ready",
        (true, Some(_)) => "NOT ready",
        (true, None) if node.waits.is_empty() => "running",
        (true, None) => "not ready yet",
    }
}

fn node_waits(node: &NodeExplained, now: Timestamp, text: &mut String) -> std::fmt::Result {
    for wait in causes(&node.waits) {
        writeln!(text, "it waits for {}, {} so far", wait.r#for, ago(wait.since, now))?;
        details(wait, now, text)?;
    }
    Ok(())
}

/// A pod in two lines at most.
fn brief(pod: &PodExplained, now: Timestamp, text: &mut String) -> std::fmt::Result {
    let Some(wait) = causes(&pod.waits).into_iter().next() else { return Ok(()) };
    write!(text, "  {}  {} for {}", name_of(pod), ago(wait.since, now), wait.r#for)?;
    match wait.next_try {
        Some(next) if is_failing(wait) => writeln!(text, ", next try {}", ahead(next, now))?,
        Some(next) if next > now => writeln!(text, ", at most {} more", ago(now, next))?,
        _ => writeln!(text)?,
    }
    if let Some(error) = error(wait) {
        writeln!(text, "      {}", first(&error, 160))?;
    }
    Ok(())
}

// ---- a pod ----

/// One is usual. While a pod has a successor of the same name, what that waits for comes last.
fn pods_of_one_name(explanation: &Explanation, text: &mut String) -> std::fmt::Result {
    let mut pods: Vec<&PodExplained> = explanation.pods.iter().collect();
    pods.sort_by_key(|pod| pod.stage == "Admitting");
    for (index, pod) in pods.iter().enumerate() {
        if index > 0 {
            writeln!(text)?;
        }
        one_pod(pod, explanation, text)?;
    }
    Ok(())
}

/// What was found on disk has no name.
fn name_of(pod: &PodExplained) -> String {
    match pod.name.as_str() {
        "" => format!("(what is left of pod {})", pod.uid),
        name => format!("{}/{name}", pod.namespace),
    }
}

fn one_pod(pod: &PodExplained, explanation: &Explanation, text: &mut String) -> std::fmt::Result {
    let now = explanation.now;
    why(pod, now, text)?;
    if !explanation.node.waits.is_empty() {
        writeln!(text, "the node has waits of its own:")?;
        for wait in causes(&explanation.node.waits) {
            writeln!(text, "  {}, {} so far", wait.r#for, ago(wait.since, now))?;
        }
    }
    history(pod, now, text)?;
    writeln!(text, "uid {}", pod.uid)
}

/// What a pod waits for, the cause first.
pub(in crate::commands) fn why(pod: &PodExplained, now: Timestamp, text: &mut String) -> std::fmt::Result {
    let name = name_of(pod);
    let causes = causes(&pod.waits);
    match causes.split_first() {
        None => {
            writeln!(text, "{name} waits for nothing: {}", standing(pod))?;
        }
        Some((cause, others)) => {
            writeln!(text, "{name} waits for {}, {} so far", cause.r#for, ago(cause.since, now))?;
            details(cause, now, text)?;
            if !others.is_empty() {
                writeln!(text, "it waits as well for")?;
            }
            for wait in others {
                write!(text, "  {}, {} so far", wait.r#for, ago(wait.since, now))?;
                match error(wait) {
                    Some(error) => writeln!(text, ": {}", first(&error, 160))?,
                    None => writeln!(text)?,
                }
            }
        }
    }
    if let Some(message) = &pod.message {
        writeln!(text, "its status says: {}", clean(message))?;
    }
    Ok(())
}

fn history(pod: &PodExplained, now: Timestamp, text: &mut String) -> std::fmt::Result {
    writeln!(text, "\nwhat was done ({}):", standing(pod))?;
    let left_out = pod.timeline.len().saturating_sub(MOST_MARKS);
    if left_out > 0 {
        writeln!(text, "  {left_out} earlier steps are left out")?;
    }
    for (index, mark) in pod.timeline.iter().enumerate().skip(left_out) {
        let took = if index == 0 { String::new() } else { format!("+{:.3}s", mark.seconds) };
        writeln!(text, "  {}  {took:>12}  {}", mark.at.strftime("%F %T%.3fZ"), mark.what)?;
    }
    if let Some(last) = pod.timeline.last() {
        let took = format!("+{:.3}s", now.duration_since(last.at).as_secs_f64());
        writeln!(text, "  {}  {took:>12}  now", now.strftime("%F %T%.3fZ"))?;
    }
    Ok(())
}

fn standing(pod: &PodExplained) -> String {
    let stage = match pod.stage.as_str() {
        "Admitting" => "not let in yet",
        "Running" => "is to run",
        "Terminating" => "is to end",
        _ => "has ended",
    };
    if pod.phase.is_empty() { stage.to_owned() } else { format!("{stage}, phase {}", pod.phase) }
}

// ---- waits ----

/// What has failed before what only takes its time.
fn causes(waits: &[WaitExplained]) -> Vec<&WaitExplained> {
    let mut sorted: Vec<&WaitExplained> = waits.iter().collect();
    sorted.sort_by_key(|wait| wait.error.is_none());
    sorted
}

fn details(wait: &WaitExplained, now: Timestamp, text: &mut String) -> std::fmt::Result {
    if let Some(error) = error(wait) {
        writeln!(text, "  error     {}", first(&error, MOST_ERROR_CHARACTERS))?;
    }
    writeln!(text, "  on        {}", wait.on)?;
    let tried = match wait.attempts {
        0 => String::new(),
        1 => "; tried once in vain".to_owned(),
        times => format!("; tried {times} times in vain"),
    };
    match wait.next_try {
        Some(next) if is_failing(wait) => writeln!(text, "  next try  {}{tried}", ahead(next, now)),
        Some(next) if next > now => writeln!(text, "  at most   {} more", ago(now, next)),
        _ if tried.is_empty() => Ok(()),
        _ => writeln!(text, "  next try  under way{tried}"),
    }
}

/// Whether it was tried in vain; else it only takes its time, and not for ever.
fn is_failing(wait: &WaitExplained) -> bool {
    wait.attempts > 0 || wait.error.is_some()
}

fn error(wait: &WaitExplained) -> Option<String> {
    match (&wait.reason, &wait.error) {
        (Some(reason), Some(error)) => Some(clean(&format!("{reason}: {error}"))),
        (reason, error) => error.as_ref().or(reason.as_ref()).map(|text| clean(text)),
    }
}

/// Errors come from anywhere, and terminals obey.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn first(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// How long it is from one moment to a later one.
fn ago(earlier: Timestamp, later: Timestamp) -> String {
    let time = later.duration_since(earlier);
    let seconds = time.as_secs().max(0);
    match seconds {
        0..10 => format!("{:.1}s", time.as_secs_f64().max(0.0)),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn ahead(next: Timestamp, now: Timestamp) -> String {
    if next > now { format!("in {}", ago(now, next)) } else { "under way".to_owned() }
}

#[cfg(test)]
mod tests;
