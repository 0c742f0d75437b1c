//! Our uids against those that upstream's own code gave: a line each manifest of `manifests/` in `upstream.txt`, with
//! the hash of the pod alone, and the uid it gets from a file and from a web server, if it may be a static pod there.
//! `cargo xtask parity` says when these are not upstream's any more.

use std::path::Path;

use jiff::Timestamp;

use super::*;
use crate::manifest::ManifestGates;

const NODE: &str = "node-1";

struct Case {
    name: &'static str,
    text: Vec<u8>,
    hash: &'static str,
    of_file: Option<&'static str>,
    of_url: Option<&'static str>,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/uid/manifests");
    let case = |line: &'static str| {
        let [name, hash, of_file, of_url] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("four words: {line}")
        };
        let uid = |word: &'static str| (word != "-").then_some(word);
        let text = std::fs::read(folder.join(name)).unwrap();
        Case { name, text, hash, of_file: uid(of_file), of_url: uid(of_url) }
    };
    include_str!("upstream.txt").lines().map(case).collect()
}

/// The pod as upstream writes it down.
fn text_of(manifest: &[u8]) -> String {
    let mut pod = crate::manifest::decode(manifest).unwrap();
    crate::defaults::apply(&mut pod, false);
    let mut text = String::new();
    print::pod(&serde_json::to_value(&pod).unwrap(), &mut text).unwrap();
    text
}

#[test]
fn pods_hash_as_upstreams() {
    let mut wrong = Vec::new();
    for case in cases() {
        let text = text_of(&case.text);
        let mut hash = Hash128::default();
        hash.update(text.as_bytes());
        if format!("{:032x}", hash.value()) != case.hash {
            // To be compared with what `manifest-judge` says.
            wrong.push(format!("{}: {text}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn read(case: &Case, place: Place<'_>) -> Option<String> {
    let origin =
        Origin { place, node_name: NODE, seen: Timestamp::UNIX_EPOCH, gates: ManifestGates::default() };
    crate::manifest::parse(&case.text, origin).ok().and_then(|pod| pod.metadata.uid)
}

#[test]
fn uids_are_upstreams() {
    for case in cases() {
        let url = format!("http://manifests.test/{}", case.name);
        assert_eq!(read(&case, Place::File(Path::new(case.name))).as_deref(), case.of_file, "{}", case.name);
        assert_eq!(read(&case, Place::Url(&url)).as_deref(), case.of_url, "{}", case.name);
    }
}

#[test]
fn every_type_is_known() {
    let known: Vec<&str> = print::TYPES.lines().filter_map(|line| line.split(' ').next()).collect();
    for line in print::TYPES.lines() {
        for word in line.split(' ').skip(1) {
            let kind = word.split_once(':').map_or(word, |(_, kind)| kind);
            let kind = kind.rsplit([']', '*']).next().unwrap();
            let is_own = ["string", "bool", "int32", "int64", "v1.Time", "v1.FieldsV1", "resource.Quantity"];
            let is_own = is_own.contains(&kind) || kind == "intstr.IntOrString";
            assert!(is_own || known.contains(&kind), "{line}: {kind}");
        }
    }
}
