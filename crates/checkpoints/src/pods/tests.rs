//! Our reading and writing against upstream's: a line each document of `documents/` in `upstream.jsonl`, with what upstream's
//! kubelet writes once it has read it, unless it refuses it. `cargo xtask parity` says when these are not upstream's any
//! more.

use std::path::Path;

use super::*;

/// What upstream makes of a document.
#[derive(Deserialize)]
struct Upstream {
    path: String,
    #[serde(default)]
    written: Option<String>,
}

#[expect(clippy::disallowed_methods, reason = "the documents are files of the tests")]
fn all() -> Vec<(Upstream, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pods/documents");
    let read = |line: &str| {
        let upstream: Upstream = serde_json::from_str(line).unwrap();
        let content = std::fs::read(folder.join(&upstream.path)).unwrap();
        (upstream, content)
    };
    let all: Vec<_> = include_str!("upstream.jsonl").lines().map(read).collect();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), all.len(), "each document has its line");
    all
}

#[test]
fn documents_are_read_and_written_as_by_upstream() {
    for (Upstream { path, written }, content) in all() {
        let ours = PodsState::read(&content).ok().map(|state| {
            let text = String::from_utf8(state.write().unwrap()).unwrap();
            assert_eq!(PodsState::read(text.as_bytes()).unwrap(), state, "{path}");
            text
        });
        assert_eq!(ours, written, "{path}");
    }
}

/// Whichever byte is lost or another, it is noticed.
#[test]
fn damage_is_noticed_wherever_it_is() {
    let content = include_bytes!("documents/made-up-1.json").trim_ascii();
    let state = PodsState::read(content).unwrap();
    for at in 0..content.len() {
        assert!(PodsState::read(&content[..at]).is_err(), "cut off at {at}");
        let mut changed = content.to_vec();
        changed[at] ^= 1;
        let read = PodsState::read(&changed);
        assert!(read.as_ref().is_err() || *read.as_ref().unwrap() == state, "changed at {at}: {read:?}");
    }
}

#[test]
fn what_is_damaged_is_told() {
    let text = |content: &[u8]| model::chain(&PodsState::read(content).unwrap_err());
    assert_eq!(text(b""), "it is no document of its kind: EOF while parsing a value at line 1 column 0");
    let sealed = PodsState::default().write().unwrap();
    let changed = String::from_utf8(sealed).unwrap().replace("{}", "{ }");
    assert_eq!(text(changed.as_bytes()), "its checksum is 694314937, and that of its content 4006221445");
}
