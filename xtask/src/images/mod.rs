//! The container images of the tests, written here because a test must not depend on a registry.
//!
//! One OCI archive holds all: pause (the sandbox image that containerd pins), busybox, and agnhost, the program
//! of the Kubernetes end-to-end tests, on top of busybox.

mod files;
mod oci;
mod read;
mod suite;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::peers::{self, Peers, Purpose};
use crate::{command, workspace};
use oci::{Archive, Config, Entry};
pub(crate) use read::{Store, Stored};
pub(crate) use suite::{STAND_IN, build as build_suite};

/// The sandbox image that containerd 2.3.7 asks for when its configuration names none.
pub(crate) const PAUSE: &str = "registry.k8s.io/pause:3.10.2";
/// A shell and the usual small programs.
pub(crate) const BUSYBOX: &str = "registry.k8s.io/e2e-test-images/busybox:1.37.0-2";
/// Servers and clients for tests.
pub(crate) const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost:2.66.1";

/// The program in that image.
const AGNHOST_PROGRAM: &str = "agnhost";

/// Counts up when the way the archive is written changes.
const FORMAT: &[u8] = b"1";

/// Waits for signals and reaps what the sandbox's pid namespace leaves to it.
const PAUSE_SOURCE: &str = include_str!("pause.c");

/// Writes the archive unless it is there, and returns its path. The sample does without agnhost.
pub(crate) fn build(peers: &Peers, purpose: Purpose) -> Result<PathBuf> {
    let busybox = Path::new("/bin/busybox");
    let agnhost = purpose.needs(AGNHOST_PROGRAM).then(|| peers.kubernetes(AGNHOST_PROGRAM));
    let shell = std::fs::read(busybox).context("read /bin/busybox, of the package busybox-static")?;
    let folder = agnhost.as_deref().and_then(Path::parent);
    let agnhost_key = folder.map(|folder| folder.as_os_str().as_encoded_bytes()).unwrap_or_default();
    let key = peers::short_hash(&[FORMAT, PAUSE_SOURCE.as_bytes(), &shell, agnhost_key]);
    let archive = workspace::cache()?.join("images").join(format!("{key}.tar"));
    if archive.exists() {
        return Ok(archive);
    }
    eprintln!("==> write the images");
    let folder = archive.parent().context("the image folder")?;
    workspace::create_dir(folder)?;
    let pause = compile(PAUSE_SOURCE, folder)?;
    let applets = command::output(Command::new(busybox).arg("--list"))?;

    let unfinished = folder.join(format!(".{key}.{}", std::process::id()));
    let file =
        std::fs::File::create(&unfinished).with_context(|| format!("create {}", unfinished.display()))?;
    let mut out = Archive::new(file)?;
    let pause = out.layer(&[Entry::program("pause", pause)])?;
    let shell = out.layer(&busybox_files(shell, &applets))?;
    let user = Config { entrypoint: &["/pause"], user: "65535:65535", ..Config::default() };
    out.image(PAUSE, &user, &[&pause])?;
    out.image(BUSYBOX, &Config { command: &["sh"], ..Config::default() }, &[&shell])?;
    if let Some(agnhost) = agnhost {
        let program = std::fs::read(&agnhost).with_context(|| format!("read {}", agnhost.display()))?;
        let agnhost = out.layer(&[Entry::program(AGNHOST_PROGRAM, program)])?;
        let server = Config { entrypoint: &["/agnhost"], command: &["pause"], ..Config::default() };
        out.image(AGNHOST, &server, &[&shell, &agnhost])?;
    }
    out.finish()?;
    std::fs::rename(&unfinished, &archive).with_context(|| format!("rename to {}", archive.display()))?;
    Ok(archive)
}

/// Writes an archive with one image of this name, which is of no use.
pub(crate) fn build_useless(path: &Path, name: &str) -> Result<()> {
    let file = std::fs::File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut out = Archive::new(file)?;
    let layer = out.layer(&[Entry::File { path: "etc/name".into(), mode: 0o644, content: name.into() }])?;
    out.image(name, &Config::default(), &[&layer])?;
    out.finish()
}

/// Compiles a program of one file that needs nothing in its image.
fn compile(text: &str, folder: &Path) -> Result<Vec<u8>> {
    let scratch = tempfile::tempdir_in(folder).context("create a folder for a program")?;
    let (source, program) = (scratch.path().join("program.c"), scratch.path().join("program"));
    workspace::write(&source, text)?;
    command::quiet(Command::new("gcc").args(["-static", "-Os", "-s", "-o"]).arg(&program).arg(&source))?;
    std::fs::read(&program).context("read a program that was compiled")
}

fn busybox_files(shell: Vec<u8>, applets: &str) -> Vec<Entry> {
    let mut files = vec![Entry::program("bin/busybox", shell)];
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        files.push(Entry::Link { path: format!("bin/{applet}"), target: "busybox".into() });
    }
    for (folder, mode) in [("etc", 0o755), ("home", 0o755), ("root", 0o700), ("tmp", 0o1777), ("usr", 0o755)]
    {
        files.push(Entry::Folder { path: folder.into(), mode });
    }
    files.push(Entry::Link { path: "usr/bin".into(), target: "../bin".into() });
    let people = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n";
    files.push(Entry::File { path: "etc/passwd".into(), mode: 0o644, content: people.into() });
    let groups = "root:x:0:\nnogroup:x:65534:\n";
    files.push(Entry::File { path: "etc/group".into(), mode: 0o644, content: groups.into() });
    files
}
