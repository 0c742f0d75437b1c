//! kubectl at a terminal: `exec -it` and `attach -it`, whose window changes its size, and keys that become signals.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use super::scene::{SOON, Scene, phase, shell, with};

/// Says the size of its terminal in rows and columns whenever that changes to one of three, and what it reads in between.
const SCRIPT: &str = r#"
size() { until test "$(stty size)" = "$1"; do sleep 0.1; done; echo "size $1"; }
trap 'echo interrupted; exit 7' INT
size "33 77"; read line; echo "read $line"
size "44 88"; read line; echo "read $line"
while :; do sleep 0.1; done
"#;

/// A program at a terminal, of which the test has the other end.
struct Terminal {
    child: Child,
    /// Kept open, for its size is changed through it.
    master: OwnedFd,
    reads: pipe::Receiver,
    writes: pipe::Sender,
    said: String,
}

impl Terminal {
    /// Starts a program at a terminal of this size.
    fn start(mut program: Command, rows: u16, columns: u16) -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).context("open a terminal")?;
        grantpt(&master).and_then(|()| unlockpt(&master)).context("unlock the terminal")?;
        let name = ptsname(&master, Vec::new()).context("name the terminal")?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = File::from(rustix::fs::open(&name, flags, Mode::empty()).context("open the terminal")?);
        resize(&master, rows, columns)?;
        program.stdin(Stdio::from(slave.try_clone()?)).stdout(Stdio::from(slave.try_clone()?));
        let child = program.stderr(Stdio::from(slave)).kill_on_drop(true).spawn().context("start it")?;
        // `program` still holds the other end; it has to go, or the end of the program is never seen.
        drop(program);
        rustix::io::ioctl_fionbio(&master, true).context("read without waiting")?;
        let reads = pipe::Receiver::from_owned_fd_unchecked(master.try_clone()?)?;
        let writes = pipe::Sender::from_owned_fd_unchecked(master.try_clone()?)?;
        Ok(Self { child, master, reads, writes, said: String::new() })
    }

    /// Changes the size and says so to the program, as a terminal does.
    fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        resize(&self.master, rows, columns)?;
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        kill_process(pid.context("it has ended")?, Signal::WINCH).context("tell of the new size")
    }

    async fn type_in(&mut self, keys: &str) -> Result<()> {
        self.writes.write_all(keys.as_bytes()).await.context("type")
    }

    /// Reads until this is on the screen.
    async fn shows(&mut self, text: &str) -> Result<()> {
        let reading = async {
            let mut some = [0; 4096];
            while !self.said.contains(text) {
                let count = self.reads.read(&mut some).await.context("read the screen")?;
                ensure!(count > 0, "it has ended");
                self.said.push_str(&String::from_utf8_lossy(&some[..count]));
            }
            Ok(())
        };
        let read = tokio::time::timeout(SOON, reading).await;
        let read = read.unwrap_or_else(|_| Err(anyhow::anyhow!("not within {SOON:?}")));
        read.with_context(|| format!("no {text:?} on the screen, only {:?}", self.said))
    }

    /// The exit code, once it has ended.
    async fn code(mut self) -> Result<Option<i32>> {
        // What it still has to say must not hold it up. Reading fails once nobody has the other end.
        let rest = async { while self.reads.read_u8().await.is_ok() {} };
        let both = async { tokio::join!(self.child.wait(), rest).0 };
        let ended = tokio::time::timeout(SOON, both).await.context("it does not end")?;
        Ok(ended.context("wait for its end")?.code())
    }
}

fn resize(master: &OwnedFd, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).context("set the size of the terminal")
}

/// What [`SCRIPT`] sees of a terminal whose window is resized and at which somebody types.
async fn at_work(terminal: &mut Terminal) -> Result<()> {
    terminal.shows("size 33 77").await?;
    terminal.type_in("one\r").await?;
    terminal.shows("read one").await?;
    terminal.resize(44, 88)?;
    terminal.shows("size 44 88").await?;
    terminal.type_in("two\r").await?;
    terminal.shows("read two").await?;
    // Ctrl-C is for the program in the container, not for kubectl.
    terminal.type_in("\u{3}").await?;
    terminal.shows("interrupted").await
}

pub(super) async fn exec(scene: Scene) -> Result<()> {
    scene.ready_pod("box", json!({ "containers": [shell("main", "sleep 1000")] })).await?;
    let kubectl = scene.kubectl(&["exec", "-it", "box", "--", "sh", "-c", SCRIPT]);
    let mut terminal = Terminal::start(kubectl, 33, 77)?;
    at_work(&mut terminal).await?;
    let code = terminal.code().await?;
    ensure!(code == Some(7), "kubectl ends with the program's exit code: {code:?}");
    Ok(())
}

pub(super) async fn attach(scene: Scene) -> Result<()> {
    let container = with(shell("main", SCRIPT), json!({ "stdin": true, "tty": true }));
    scene.ready_pod("box", json!({ "restartPolicy": "Never", "containers": [container] })).await?;
    let mut terminal = Terminal::start(scene.kubectl(&["attach", "-it", "box"]), 33, 77)?;
    at_work(&mut terminal).await?;
    terminal.code().await?;
    let pod = scene.until("box", "finished", SOON, |pod| phase(pod) == "Failed").await?;
    let ended = super::scene::ended(&pod, "main");
    ensure!(
        ended.is_some_and(|(_, code)| code == 7),
        "the program in the container was interrupted: {ended:?}"
    );
    Ok(())
}
