//! Builds Go programs that are missing.
//!
//! Programs of one module that are built alike are built by one `go build`, so that packages they share are compiled
//! once and the linker of one runs beside the compiler for the next. Modules follow one another, since all share the
//! standard library, but what a later one has to download comes while an earlier one is compiled. Each program is
//! built in a temporary folder and renamed, so a build that was cut off leaves nothing half-made and is continued by
//! the next.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;

use anyhow::{Context, Result, bail};

use crate::progress::Progress;
use crate::{command, workspace};

/// A program of a Go module. How it is written out is part of the name of its folder.
#[derive(Debug)]
pub(crate) struct Program {
    /// The file's name.
    pub(crate) name: &'static str,
    /// The package with its `main`.
    pub(crate) package: &'static str,
    /// Values of Go variables: versions the programs report.
    pub(crate) variables: &'static [&'static str],
    /// Build tags.
    pub(crate) tags: &'static str,
    /// Whether the program needs a C compiler.
    pub(crate) cgo: bool,
}

impl Program {
    /// What of the flags decides how its packages are compiled and linked.
    fn flags(&self) -> (&[&str], &str, bool) {
        (self.variables, self.tags, self.cgo)
    }
}

/// Programs that one `go build` makes.
#[derive(Debug)]
pub(crate) struct Build {
    /// What the developer knows it by.
    name: String,
    /// The folder of its `go.mod`.
    source: PathBuf,
    /// Where the programs belong.
    folder: PathBuf,
    programs: Vec<&'static Program>,
}

/// What has to be built so that these programs are in the folder.
pub(crate) fn missing(
    name: &str,
    source: &Path,
    folder: &Path,
    programs: impl IntoIterator<Item = &'static Program>,
) -> Vec<Build> {
    let mut builds: Vec<Build> = Vec::new();
    for program in programs.into_iter().filter(|program| !folder.join(program.name).exists()) {
        let alike = builds.iter_mut().find(|build| build.has_room_for(program));
        if let Some(build) = alike {
            build.programs.push(program);
            continue;
        }
        builds.push(Build {
            name: String::new(),
            source: source.to_owned(),
            folder: folder.to_owned(),
            programs: vec![program],
        });
    }
    for build in &mut builds {
        build.name = match build.programs.as_slice() {
            [only] => only.name.to_owned(),
            _ => name.to_owned(),
        };
    }
    builds
}

/// Builds them all.
pub(crate) fn build(builds: &[Build], progress: &Progress) -> Result<()> {
    if builds.is_empty() {
        return Ok(());
    }
    if !command::exists("go") {
        bail!("building the peers needs Go 1.26 or newer in PATH: install it from https://go.dev/dl/");
    }
    std::thread::scope(|scope| {
        let (fetched, ready) = mpsc::sync_channel(builds.len());
        scope.spawn(move || {
            for build in builds {
                let done = build.fetch(progress);
                let has_failed = done.is_err();
                // Whoever compiles may have failed and be gone.
                if fetched.send(done).is_err() || has_failed {
                    return;
                }
            }
        });
        for build in builds {
            let done =
                ready.recv().context("wait for the modules").flatten().and_then(|()| build.run(progress));
            if done.is_err() {
                progress.fail();
                return done;
            }
        }
        Ok(())
    })
}

impl Build {
    /// Whether a program can be made by the same `go build`, which names the files after the packages.
    fn has_room_for(&self, program: &Program) -> bool {
        let is_named_so = |program: &Program| program.package.rsplit('/').next() == Some(program.name);
        let alike = |other: &&Program| other.flags() == program.flags() && is_named_so(other);
        is_named_so(program) && self.programs.first().is_some_and(alike)
    }

    fn go(&self, arguments: &[&str]) -> Command {
        let (_, tags, cgo) = self.programs.first().map(|first| first.flags()).unwrap_or_default();
        let mut go = Command::new("go");
        go.current_dir(&self.source).env("CGO_ENABLED", if cgo { "1" } else { "0" });
        // Neither a workspace file nor flags of the user's environment may change what is built.
        go.env("GOWORK", "off").env_remove("GOFLAGS");
        // Compilers are short-lived: collecting their garbage takes longer than having the memory for it.
        for (name, value) in [("GOGC", "400"), ("GOMEMLIMIT", "3GiB")] {
            if std::env::var_os(name).is_none() {
                go.env(name, value);
            }
        }
        go.args(arguments).args(["-mod=readonly", "-tags", tags]);
        go
    }

    /// Whether it is the test of a package, as the name says by Go's own custom.
    fn is_test(&self) -> bool {
        self.programs.first().is_some_and(|program| program.name.ends_with(".test"))
    }

    fn packages(&self) -> impl Iterator<Item = &'static str> {
        self.programs.iter().map(|program| program.package)
    }

    /// Downloads the modules of all packages these programs are made from.
    fn fetch(&self, progress: &Progress) -> Result<()> {
        let mut list = self.go(&["list", "-deps"]);
        list.args(self.is_test().then_some("-test")).args(self.packages());
        let mut step = None;
        let mut modules = 0;
        command::watch(&format!("download the modules of {}", self.name), list, progress, |line| {
            if !line.starts_with("go: downloading ") {
                return false;
            }
            modules += 1;
            let name = format!("modules of {}", self.name);
            step.get_or_insert_with(|| progress.step("download", &name, 0, "downloaded")).reach(modules, 0);
            true
        })?;
        step.map_or(Ok(()), |step| step.finish(modules))
    }

    /// The packages that are not compiled yet.
    fn stale(&self) -> Result<BTreeSet<String>> {
        let mut list =
            self.go(&["list", "-buildvcs=false", "-deps", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}"]);
        let text = command::output(list.args(self.packages()))?;
        Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    fn run(&self, progress: &Progress) -> Result<()> {
        // The builder of tests does not say what it compiles.
        let stale = if self.is_test() { BTreeSet::new() } else { self.stale()? };
        let step = progress.step("build", &self.name, stale.len(), "packages");
        workspace::create_dir(&self.folder)?;
        remove_unfinished(&self.folder)?;
        let unfinished = tempfile::Builder::new()
            .prefix(&format!("{UNFINISHED}{}.", std::process::id()))
            .tempdir_in(&self.folder)
            .context("create a folder for what is being built")?;
        let variables = self.programs.first().map(|first| first.variables).unwrap_or_default();
        let variables: String = variables.iter().map(|variable| format!(" -X {variable}")).collect();
        let verb: &[&str] = if self.is_test() { &["test", "-c"] } else { &["build", "-v"] };
        let mut go = self.go(verb);
        go.arg("-buildvcs=false");
        go.arg("-ldflags").arg(format!("-s -w{variables}")).arg("-o");
        match self.programs.as_slice() {
            [only] => go.arg(unfinished.path().join(only.name)),
            _ => go.arg(unfinished.path()),
        };
        go.args(self.packages());
        let mut done = 0;
        command::watch(&format!("build {}", self.name), go, progress, |line| {
            let is_package = stale.contains(line);
            if is_package {
                done += 1;
                step.reach(done, stale.len());
            }
            is_package
        })?;
        for program in &self.programs {
            let finished = self.folder.join(program.name);
            std::fs::rename(unfinished.path().join(program.name), &finished)
                .with_context(|| format!("rename to {}", finished.display()))?;
        }
        step.finish(done)
    }
}

/// What the name of a folder begins with in which something is being built; the builder's pid follows.
const UNFINISHED: &str = ".unfinished-";

/// Removes what builders have left that were killed.
fn remove_unfinished(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(UNFINISHED).and_then(|rest| rest.split('.').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            std::fs::remove_dir_all(entry.path())
                .with_context(|| format!("remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}
