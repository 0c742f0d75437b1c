//! `kubelet replay`: makes the decisions of a recording again, and tells them step by step.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use model::{Now, PodKey, PodUid, pod};
use node::{Action, Effect, EffectId, EventObject, Input, Outcome, RuntimeOutcome};
use recording::{Replay, Step};

use super::explain::text::why;
use super::{Failure, build, print};
use crate::control::explain_pod;

const USAGE: &str = "\
Step the kubelet's decisions through a recording, and print what it was told and what it decided.

Usage:
  kubelet replay FILE [--until T] [--pod NAMESPACE/NAME]

  --until T   stop after that time: RFC 3339 (2026-11-30T04:11:08Z), or since the start of the process (90s, 1m30s)
  --pod P     print only what concerns this pod

A recording is made with kubelet --record DIR or kubelet record start, in files that can each be replayed. The exit status is 1 when this kubelet decides otherwise than the one
that made the recording; the input after which it does is printed.
";

/// What is asked for.
#[derive(Debug, PartialEq)]
struct Request<'a> {
    file: &'a str,
    until: Option<Until>,
    pod: Option<PodKey>,
}

/// When to stop.
#[derive(Debug, PartialEq)]
enum Until {
    Wall(Timestamp),
    Mono(Duration),
}

impl Until {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(wall) = text.parse() {
            return Some(Self::Wall(wall));
        }
        let duration: SignedDuration = text.parse().ok()?;
        Duration::try_from(duration).ok().map(Self::Mono)
    }

    fn is_over(&self, now: Now) -> bool {
        match self {
            Self::Wall(wall) => now.wall > *wall,
            Self::Mono(mono) => now.mono > *mono,
        }
    }
}

fn parse<'a>(words: &[&'a str]) -> Option<Request<'a>> {
    let (mut file, mut until, mut pod) = (None, None, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, mut inline) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ => (*word, None),
        };
        let mut value = || inline.take().or_else(|| words.next().copied());
        match name {
            "--until" => until = Some(Until::parse(value()?)?),
            "--pod" => {
                let (namespace, name) = value()?.split_once('/')?;
                pod = Some(PodKey::new(namespace, name));
            }
            path if !path.starts_with('-') && file.is_none() => file = Some(path),
            _ => return None,
        }
    }
    Some(Request { file: file?, until, pod })
}

/// Runs the words after `replay`.
pub(super) fn run(words: &[&str]) -> Result<ExitCode, Failure> {
    if matches!(words, ["-h" | "--help" | "help"]) {
        print(USAGE)?;
        return Ok(ExitCode::SUCCESS);
    }
    let request = parse(words).ok_or(Failure::Usage(USAGE))?;
    let file = File::open(request.file).with_context(|| format!("open {}", request.file))?;
    let mut replay = Replay::open(BufReader::new(file))?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    writeln!(out, "recorded by {}, replayed by {}", replay.kubelet(), build())?;
    let mut filter = request.pod.map(Filter::new);
    let (mut steps, mut is_same, mut last) = (0_u64, true, None);
    while let Some(step) = replay.step()? {
        if request.until.as_ref().is_some_and(|until| until.is_over(step.now)) {
            break;
        }
        steps += 1;
        last = Some(step.now);
        let concerns = filter.as_mut().is_none_or(|filter| filter.concerns(&step));
        if concerns || !step.is_same {
            tell(&step, filter.as_ref().filter(|_| step.is_same), &mut out)?;
        }
        if !step.is_same {
            is_same = false;
            writeln!(
                out,
                "line {}: decided otherwise than in the recording after: {}",
                step.line, step.input
            )?;
            break;
        }
    }
    if let (Some(filter), Some(now)) = (&filter, last) {
        let view = replay.node().view();
        for pod in view.pods.values().filter(|pod| pod.key == filter.key) {
            let mut text = String::new();
            why(&explain_pod(pod, now), now.wall, &mut text)?;
            write!(out, "{text}")?;
        }
    }
    if is_same {
        writeln!(out, "{steps} steps, each decided as in the recording")?;
    }
    out.flush()?;
    Ok(if is_same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(step: &Step, filter: Option<&Filter>, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "{:>12.3}s  {:.3}  {}", step.now.mono.as_secs_f64(), step.now.wall, step.input)?;
    for effect in step.effects.iter().filter(|effect| filter.is_none_or(|f| f.is_of_pod(effect))) {
        match effect {
            Effect::Start { id, action } => writeln!(out, "{:>15}#{} {action}", "", id.0)?,
            Effect::Cancel(id) => writeln!(out, "{:>15}cancel #{}", "", id.0)?,
            Effect::Record(event) => {
                writeln!(out, "{:>15}event on {}: {}: {}", "", event.about, event.reason, event.message)?;
            }
        }
    }
    Ok(())
}

/// What concerns one pod. Its uid, and its mirror's, are learned on the way.
struct Filter {
    key: PodKey,
    uids: BTreeSet<PodUid>,
    actions: BTreeSet<EffectId>,
}

impl Filter {
    fn new(key: PodKey) -> Self {
        Self { key, uids: BTreeSet::new(), actions: BTreeSet::new() }
    }

    fn concerns(&mut self, step: &Step) -> bool {
        let is_told = self.is_told(&step.input);
        let mut is_decided = false;
        for effect in &step.effects {
            if !self.is_of_pod(effect) {
                continue;
            }
            is_decided = true;
            if let Effect::Start { id, action } = effect {
                self.actions.insert(*id);
                self.uids.extend(action.subject().uid);
            }
        }
        is_told || is_decided
    }

    fn is_told(&mut self, input: &Input) -> bool {
        match input {
            Input::PodsListed { pods, .. } => {
                let own: Vec<PodUid> =
                    pods.iter().filter(|p| pod::key(p) == self.key).map(|p| pod::uid(p)).collect();
                let is_listed = !own.is_empty();
                self.uids.extend(own);
                is_listed
            }
            Input::PodApplied { pod: applied, .. } => {
                let is_own = pod::key(applied) == self.key;
                if is_own {
                    self.uids.insert(pod::uid(applied));
                }
                is_own
            }
            Input::PodDeleted { uid, .. }
            | Input::RuntimeHint { uid, .. }
            | Input::PodCertificateChanged(uid) => self.uids.contains(uid),
            Input::Finished { id, outcome } => {
                self.actions.remove(id)
                    || matches!(outcome, Outcome::Runtime(RuntimeOutcome::Relisted(pods))
                        if pods.iter().any(|pod| pod.key == self.key))
            }
            Input::Restored(restored) => restored.pods.iter().any(|uid| self.uids.contains(uid)),
            Input::EventStream { .. }
            | Input::RuntimeHealth(_)
            | Input::NodeObject(_)
            | Input::NodeAddresses(_)
            | Input::RuntimeVersion { .. }
            | Input::RuntimeClasses(_)
            | Input::CsiDrivers(_)
            | Input::PluginSockets(_)
            | Input::Images(_)
            | Input::Sample(_)
            | Input::ObjectChanged(_)
            | Input::ManyObjectsChanged
            | Input::TrustBundlesChanged(_)
            | Input::Tick => false,
        }
    }

    fn is_of_pod(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Start { action, .. } => self.is_about_pod(action),
            Effect::Cancel(id) => self.actions.contains(id),
            Effect::Record(event) => matches!(&event.about, EventObject::Pod { key, .. } if *key == self.key),
        }
    }

    fn is_about_pod(&self, action: &Action) -> bool {
        let subject = action.subject();
        subject.key.as_ref() == Some(&self.key) || subject.uid.is_some_and(|uid| self.uids.contains(&uid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_understood_or_refused() {
        let request = |until, pod| Some(Request { file: "f", until, pod });
        let key = || Some(PodKey::new("ns", "web"));
        let wall = "2026-11-30T04:11:08Z".parse().unwrap();
        for (words, expected) in [
            (&["f"][..], request(None, None)),
            (&["f", "--pod", "ns/web"], request(None, key())),
            (
                &["--pod=ns/web", "f", "--until=90s"],
                request(Some(Until::Mono(Duration::from_secs(90))), key()),
            ),
            (&["--until", "1m30s", "f"], request(Some(Until::Mono(Duration::from_secs(90))), None)),
            (&["f", "--until", "2026-11-30T04:11:08Z"], request(Some(Until::Wall(wall)), None)),
            (&[], None),
            (&["f", "g"], None),
            (&["f", "--pod"], None),
            (&["f", "--pod", "web"], None),
            (&["f", "--until", "soon"], None),
            (&["f", "--until", "-3s"], None),
            (&["f", "--else"], None),
        ] {
            assert_eq!(parse(words), expected, "{words:?}");
        }
    }
}
