//! How long each kind of call takes.

use std::collections::BTreeMap;
use std::time::Duration;

/// The calls that can be delayed and can hang.
pub const CALLS: &[&str] = &[
    "ContainerStatus",
    "CreateContainer",
    "ExecSync",
    "ImageFsInfo",
    "ImageStatus",
    "ListContainers",
    "ListImages",
    "ListPodSandbox",
    "PodSandboxStatus",
    "PullImage",
    "RemoveContainer",
    "RemovePodSandbox",
    "ReopenContainerLog",
    "RunPodSandbox",
    "StartContainer",
    "Status",
    "StopContainer",
    "StopPodSandbox",
    "StreamContainers",
    "StreamImages",
    "StreamPodSandboxes",
    "UpdateContainerResources",
    "UpdatePodSandboxResources",
    "UpdateRuntimeConfig",
    "Version",
];

/// A delay for some kinds of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies(BTreeMap<&'static str, Duration>);

/// A delay that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LatencyError {
    /// Not of the form `CALL=DURATION`.
    #[error("latency {0:?}: want CALL=DURATION, such as RunPodSandbox=20ms")]
    Form(String),
    /// A call that cannot be delayed.
    #[error("latency {0:?}: there is no such call; known are {known}", known = CALLS.join(", "))]
    Call(String),
}

impl Latencies {
    /// Reads `CALL=DURATION` items; the last one for a call counts.
    ///
    /// # Errors
    /// When an item makes no sense.
    pub fn parse<'a>(items: impl IntoIterator<Item = &'a str>) -> Result<Self, LatencyError> {
        let mut all = BTreeMap::new();
        for item in items {
            let (name, delay) = item
                .split_once('=')
                .and_then(|(name, delay)| Some((name, duration(delay)?)))
                .ok_or_else(|| LatencyError::Form(item.to_owned()))?;
            all.insert(call(name).ok_or_else(|| LatencyError::Call(item.to_owned()))?, delay);
        }
        Ok(Self(all))
    }

    pub(crate) fn of(&self, call: &str) -> Option<Duration> {
        self.0.get(call).copied()
    }
}

/// The call of this name.
pub(crate) fn call(name: &str) -> Option<&'static str> {
    CALLS.iter().copied().find(|call| *call == name)
}

/// Reads whole seconds (`2s`) or milliseconds (`20ms`), at most a day.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    let duration = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        _ => return None,
    };
    (duration <= Duration::from_secs(86_400)).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("20ms", Some(20)),
            ("2s", Some(2000)),
            ("0s", Some(0)),
            ("86401s", None),
            ("99999999999999999999s", None),
            ("2", None),
            ("ms", None),
            ("-1s", None),
            ("1m", None),
            ("", None),
        ] {
            assert_eq!(duration(text), milliseconds.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn latencies() {
        let all = Latencies::parse(["RunPodSandbox=20ms", "Status=1s", "Status=2s"]).unwrap();
        assert_eq!(all.of("RunPodSandbox"), Some(Duration::from_millis(20)));
        assert_eq!(all.of("Status"), Some(Duration::from_secs(2)));
        assert_eq!(all.of("StopContainer"), None);
        let form = |text: &str| LatencyError::Form(text.into());
        assert_eq!(Latencies::parse(["Status"]), Err(form("Status")));
        assert_eq!(Latencies::parse(["Status=soon"]), Err(form("Status=soon")));
        assert_eq!(Latencies::parse(["Nothing=1s"]), Err(LatencyError::Call("Nothing=1s".into())));
    }
}
