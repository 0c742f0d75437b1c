//! An explanation for people, at night: one screen, the cause first.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::control::document::{Explanation, NodeExplained, PodExplained, PodName, WaitExplained};

/// Pods told of at most, so that it stays one screen.
const MOST_PODS: usize = 12;
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
        Some(_) => explanation.pods.iter().try_for_each(|pod| one_pod(pod, explanation, &mut text)),
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
    if !waiting.is_empty() {
        writeln!(text, "\npods that wait, longest first:")?;
    }
    for pod in waiting.iter().take(MOST_PODS) {
        brief(pod, now, text)?;
    }
    if waiting.len() > MOST_PODS {
        writeln!(text, "  and {} more; kubelet explain -o json tells all", waiting.len() - MOST_PODS)?;
    }
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
    let name = format!("{}/{}", pod.namespace, pod.name);
    write!(text, "  {name}  {} for {}", ago(wait.since, now), wait.r#for)?;
    if let Some(next) = wait.next_try {
        write!(text, ", next try {}", ahead(next, now))?;
    }
    writeln!(text)?;
    if let Some(error) = error(wait) {
        writeln!(text, "      {}", first(&error, 160))?;
    }
    Ok(())
}

// ---- a pod ----

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
    let name = format!("{}/{}", pod.namespace, pod.name);
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
        Some(next) => writeln!(text, "  next try  {}{tried}", ahead(next, now)),
        None if tried.is_empty() => Ok(()),
        None => writeln!(text, "  next try  under way{tried}"),
    }
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
    if next > now { format!("in {}", ago(now, next)) } else { "now".to_owned() }
}

#[cfg(test)]
mod tests;
