//! What a kubelet records of itself, and replays of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::exit_codes::started;
use crate::process::{DEADLINE, Lab, ended, signal};

/// Runs `kubelet` with these words.
pub(crate) async fn kubelet(words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubelet"));
    let output = timeout(DEADLINE, command.args(words).output()).await.expect("it goes on").unwrap();
    let Output { status, stdout, stderr } = output;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn recordings(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

#[tokio::test]
async fn what_was_decided_is_decided_again() {
    let lab = Lab::new();
    let folder = lab.path("recordings");
    let (_lab, mut child, _systemd) = started(lab.flag(format!("--record={}", folder.display()))).await;
    // The runtime of these tests cannot list pods, which the core has asked for and is told.
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = async {
        let mut lines = Vec::new();
        while let Some(line) = log.next_line().await.unwrap() {
            if line.contains("list pods") {
                return;
            }
            lines.push(line);
        }
        panic!("it ended:\n{}", lines.join("\n"));
    };
    timeout(DEADLINE, told).await.unwrap();
    signal(&child, Signal::TERM);
    let drained = async { while log.next_line().await.unwrap().is_some() {} };
    timeout(DEADLINE, drained).await.unwrap();
    assert_eq!(ended(child).await.code, Some(0));

    let [file] = &recordings(&folder)[..] else { panic!("one process has one recording") };
    let path = file.to_str().unwrap();
    let (code, stdout, stderr) = kubelet(&["replay", path]).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    for text in [
        "recorded by ferrolet",
        "list pods of the runtime",
        "sample of signals",
        "each decided as in the recording",
    ] {
        assert!(stdout.contains(text), "{text}: {stdout}");
    }
    let (_, none, _) = kubelet(&["replay", path, "--pod", "default/none"]).await;
    assert!(!none.contains("sample of signals"), "{none}");

    // A build that decides otherwise, seen from the other side.
    let text = fs::read_to_string(file).unwrap();
    let first = text
        .lines()
        .position(|line| !line.contains(r#""effects":"""#) && line.contains("\"effects\""))
        .unwrap();
    let changed: Vec<String> = text
        .lines()
        .enumerate()
        .map(|(index, line)| match index == first {
            true => line.replace("\"effects\":\"", "\"effects\":\"0"),
            false => line.to_owned(),
        })
        .collect();
    fs::write(file, changed.join("\n")).unwrap();
    let (code, stdout, _) = kubelet(&["replay", path]).await;
    assert_eq!(code, Some(1), "{stdout}");
    let last = stdout.lines().last().unwrap();
    assert!(last.starts_with(&format!("line {}: decided otherwise than", first + 1)), "{last}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_keeps_it_from_starting() {
    let lab = Lab::new();
    crate::runtime::serve(&lab.path("cri.sock"));
    lab.write("file", "");
    let path = lab.path("file/below");
    let lab = lab.flag(format!("--record={}", path.display()));
    let ended = lab.run().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.last().contains("use the folder given to --record: make the folder"), "{}", ended.last());
}

#[tokio::test]
async fn words_that_are_none_of_its_commands_are_refused_as_upstream_does() {
    let (code, _, stderr) = kubelet(&["replays"]).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("replays"), "{stderr}");
    let (code, stdout, _) = kubelet(&["replay", "--help"]).await;
    assert_eq!((code, stdout.contains("kubelet replay FILE")), (Some(0), true));
    let (code, stdout, stderr) = kubelet(&["replay"]).await;
    assert_eq!((code, stdout.as_str(), stderr.contains("kubelet replay FILE")), (Some(1), "", true));
    let (code, _, stderr) = kubelet(&["replay", "/nowhere/at/all"]).await;
    assert_eq!(
        (code, stderr.as_str()),
        (Some(1), "kubelet replay: open /nowhere/at/all: No such file or directory (os error 2)\n")
    );
}
