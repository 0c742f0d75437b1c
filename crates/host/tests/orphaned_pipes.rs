//! Pipes between real processes. One test in a process of its own: children that other tests start would hold copies of
//! its pipes for a moment.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, helpers included")]

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use host::orphaned_pipes::held_by;

/// Holds both ends of a pipe, or only one of them.
fn sleeper(stdin: Option<&File>, stdout: Option<&File>) -> Child {
    let end = |file: Option<&File>| file.map_or_else(Stdio::null, |file| file.try_clone().unwrap().into());
    Command::new("sleep").arg("1000").stdin(end(stdin)).stdout(end(stdout)).spawn().unwrap()
}

/// Writes until there is no more room. Returns how much it was.
fn fill(writer: &mut File) -> u64 {
    let mut written = 0;
    loop {
        match writer.write(&[7; 1000]) {
            Ok(length) => written += length as u64,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return written;
            }
        }
    }
}

#[test]
fn a_full_pipe_is_drained_once_only_its_writer_could_read_it() {
    let (reader, writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let (reader, mut writer) = (File::from(OwnedFd::from(reader)), File::from(OwnedFd::from(writer)));
    let mut holder = sleeper(Some(&reader), Some(&writer));
    let mut program = sleeper(Some(&reader), None);
    drop(reader);

    let mut written = fill(&mut writer);
    assert!(held_by(holder.id()).is_empty(), "this process could write, and the program read");
    drop(writer);
    assert!(held_by(holder.id()).is_empty(), "the program could read");
    program.kill().unwrap();
    program.wait().unwrap();
    let orphaned = held_by(holder.id());
    assert_eq!(orphaned.len(), 1);
    assert_eq!(held_by(holder.id()), orphaned, "to look changes nothing");

    // What its writer adds in the meantime is read as well.
    let path = format!("/proc/{}/fd/1", holder.id());
    let mut writer = File::options().write(true).open(&path).unwrap();
    let adding = std::thread::spawn(move || writer.write_all(&[7; 100_000]).map(|()| drop(writer)));
    written += 100_000;
    let mut drained = 0;
    while drained < written {
        drained += orphaned[0].drain().unwrap();
    }
    adding.join().unwrap().unwrap();
    assert_eq!(drained, written);
    assert!(held_by(holder.id()).is_empty(), "it is not full any more");
    assert_eq!(orphaned[0].drain().unwrap(), 0);

    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(orphaned[0].drain().is_err());
    assert!(held_by(holder.id()).is_empty());
}
