//! `kubelet explain`: what the node or a pod waits for.

pub(super) mod text;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::client::ask;
use super::{Failure, print};
use crate::control::document::{Answer, Explanation, PodName, Request};

const USAGE: &str = "\
Tell what this node or one of its pods waits for: on whom, since when, the last error, the next try, and what was done
so far. Asks the kubelet that runs on this node, for which only root may; needs no API server.

Usage:
  kubelet explain [NAMESPACE/POD] [-o text|json] [-w] [--root-dir DIR]

  -o, --output      text for people, or JSON for programs (default text)
  -w, --watch       again whenever something changes
      --root-dir    root folder of the kubelet (default /var/lib/kubelet)

A pod without a namespace is one of the namespace default. The exit status is 1 when there is no such pod here.
";

/// What clears a terminal, before the next text of one who watches.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// What is asked for.
#[derive(Debug, PartialEq)]
struct ExplainRequest {
    pod: Option<PodName>,
    is_json: bool,
    watch: bool,
    root: PathBuf,
}

fn parse(words: &[&str]) -> Option<ExplainRequest> {
    let mut request =
        ExplainRequest { pod: None, is_json: false, watch: false, root: PathBuf::from("/var/lib/kubelet") };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, mut inline) = match word.split_once('=') {
            Some((name, value)) if name.starts_with('-') => (name, Some(value)),
            _ => (*word, None),
        };
        let mut value = || inline.take().or_else(|| words.next().copied());
        match name {
            "-o" | "--output" => {
                request.is_json = match value()? {
                    "json" => true,
                    "text" => false,
                    _ => return None,
                }
            }
            "-w" | "--watch" if !word.contains('=') => request.watch = true,
            "--root-dir" => request.root = value()?.into(),
            pod if !pod.starts_with('-') && request.pod.is_none() => {
                let (namespace, name) = pod.split_once('/').unwrap_or(("default", pod));
                request.pod = Some(PodName { namespace: namespace.to_owned(), name: name.to_owned() });
            }
            _ => return None,
        }
    }
    Some(request)
}

/// Runs the words after `explain`.
pub(super) fn run(words: &[&str]) -> Result<ExitCode, Failure> {
    if matches!(words, ["-h" | "--help" | "help"]) {
        print(USAGE)?;
        return Ok(ExitCode::SUCCESS);
    }
    let ExplainRequest { pod, is_json, watch, root } = parse(words).ok_or(Failure::Usage(USAGE))?;
    let mut is_known = true;
    let request = Request::Explain { pod: pod.clone(), watch };
    let clears = watch && !is_json && std::io::stdout().is_terminal();
    let mut last: Option<Box<Explanation>> = None;
    ask(&root, &request, |answer| {
        let Answer::Explanation(explanation) = answer else { return Ok(true) };
        is_known = pod.is_none() || !explanation.pods.is_empty();
        // Where the text replaces the last one, it shows the time pass.
        if !clears && last.as_ref().is_some_and(|last| explanation.says_the_same_as(last)) {
            return Ok(watch);
        }
        let text = if is_json {
            format!("{}\n", serde_json::to_string(&explanation)?)
        } else {
            text::render(&explanation, pod.as_ref())
        };
        super::print_line(&format!("{}{text}", if clears { CLEAR } else { "" }))?;
        last = Some(explanation);
        Ok(watch)
    })?;
    Ok(if is_known { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_understood_or_refused() {
        let usual =
            || ExplainRequest { pod: None, is_json: false, watch: false, root: "/var/lib/kubelet".into() };
        let pod = |namespace: &str, name: &str| {
            Some(PodName { namespace: namespace.to_owned(), name: name.to_owned() })
        };
        for (words, expected) in [
            (&[][..], Some(usual())),
            (&["web"], Some(ExplainRequest { pod: pod("default", "web"), ..usual() })),
            (&["ns/web", "-w"], Some(ExplainRequest { pod: pod("ns", "web"), watch: true, ..usual() })),
            (&["-o", "json"], Some(ExplainRequest { is_json: true, ..usual() })),
            (&["-o=json", "-o", "text"], Some(usual())),
            (
                &["--root-dir", "/r", "--watch"],
                Some(ExplainRequest { root: "/r".into(), watch: true, ..usual() }),
            ),
            (&["-o"], None),
            (&["-o", "yaml"], None),
            (&["a", "b"], None),
            (&["--else"], None),
        ] {
            assert_eq!(parse(words), expected, "{words:?}");
        }
    }
}
