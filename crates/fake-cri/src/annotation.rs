//! What a pod's annotations ask of the runtime. A kubelet hands them through unread.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::latency;

/// The pod's containers end by themselves this long after their start: `2s`, `150ms`.
pub const EXIT_AFTER: &str = "fake-cri/exit-after";
/// The exit code of those that end by themselves; 0 without it.
pub const EXIT_CODE: &str = "fake-cri/exit-code";
/// Calls for the pod that are never answered, separated by commas: `StopContainer,ContainerStatus`.
pub const HANG: &str = "fake-cri/hang";

/// When and how a pod's containers end by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// From the start.
    pub(crate) after: Duration,
    /// The exit code.
    pub(crate) code: i32,
}

/// Reads [`EXIT_AFTER`] and [`EXIT_CODE`]; the error says which value makes no sense.
pub(crate) fn exit(annotations: &BTreeMap<String, String>) -> Result<Option<Exit>, String> {
    let Some(after) = annotations.get(EXIT_AFTER) else { return Ok(None) };
    let after = latency::duration(after)
        .ok_or_else(|| format!("annotation {EXIT_AFTER}: {after:?} is no duration; want 2s or 150ms"))?;
    let code = match annotations.get(EXIT_CODE) {
        None => 0,
        Some(code) => code
            .parse()
            .map_err(|_| format!("annotation {EXIT_CODE}: {code:?} is no exit code; want a number"))?,
    };
    Ok(Some(Exit { after, code }))
}

/// Reads [`HANG`]; the error says which call there is not.
pub(crate) fn hangs(annotations: &BTreeMap<String, String>) -> Result<Vec<&'static str>, String> {
    let names = annotations.get(HANG).map(String::as_str).unwrap_or_default();
    let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            latency::call(name).ok_or_else(|| format!("annotation {HANG}: there is no call {name:?}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn containers_end_as_annotated() {
        let read = |pairs| exit(&annotations(pairs));
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[(EXIT_CODE, "3")]), Ok(None));
        let after = Duration::from_millis(150);
        assert_eq!(read(&[(EXIT_AFTER, "150ms")]), Ok(Some(Exit { after, code: 0 })));
        let code = 3;
        assert_eq!(read(&[(EXIT_AFTER, "150ms"), (EXIT_CODE, "3")]), Ok(Some(Exit { after, code })));
        assert!(read(&[(EXIT_AFTER, "soon")]).unwrap_err().contains("\"soon\""));
        assert!(read(&[(EXIT_AFTER, "1s"), (EXIT_CODE, "bad")]).unwrap_err().contains("\"bad\""));
    }

    #[test]
    fn calls_hang_as_annotated() {
        let read = |text| hangs(&annotations(&[(HANG, text)]));
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read("StopContainer, ContainerStatus"), Ok(vec!["StopContainer", "ContainerStatus"]));
        assert!(read("StopEverything").unwrap_err().contains("StopEverything"));
    }
}
