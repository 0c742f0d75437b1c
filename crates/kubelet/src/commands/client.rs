//! The other end of the control socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, anyhow};

use crate::control::SOCKET;
use crate::control::document::{Answer, Request};

/// Asks the kubelet whose root folder that is, and gives each answer to `take`, which says whether to go on.
pub(super) fn ask(
    root: &Path,
    request: &Request,
    mut take: impl FnMut(Answer) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let path = root.join(SOCKET);
    let mut stream = UnixStream::connect(&path).with_context(|| {
        format!("no kubelet answers at {} (another root folder is given with --root-dir)", path.display())
    })?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).context("ask the kubelet")?;
    let mut has_answered = false;
    for line in BufReader::new(stream).lines() {
        let line = line.context("hear from the kubelet")?;
        match serde_json::from_str(&line).context("understand the kubelet, which is of another version")? {
            Answer::Error(error) => return Err(anyhow!(error)),
            answer => {
                has_answered = true;
                if !take(answer)? {
                    return Ok(());
                }
            }
        }
    }
    if has_answered { Ok(()) } else { Err(anyhow!("the kubelet has hung up; only root is answered")) }
}
