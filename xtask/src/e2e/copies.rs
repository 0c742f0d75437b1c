//! `kubectl cp`, which runs `tar` in the container.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::scene::{Scene, shell};
use crate::workspace;

/// More than any window or buffer on the way, and no multiple of one.
const BIG_BYTES: usize = 8 * 1024 * 1024 + 13;

/// The folder that is copied, but for the link: paths and contents.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    // Nothing that repeats: a piece that is lost, doubled or in the wrong place shows.
    let big = (0..BIG_BYTES).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    vec![
        ("small", b"small\n".to_vec()),
        ("empty", Vec::new()),
        ("a name with blanks", b"blanks\n".to_vec()),
        ("deep/er/file", b"deep\n".to_vec()),
        ("big", big),
    ]
}

/// Fails unless the folder has what [`files`] says.
fn compare(folder: &Path) -> Result<()> {
    for (name, content) in files() {
        let found = std::fs::read(folder.join(name)).with_context(|| format!("read the copy of {name}"))?;
        ensure!(found == content, "{name}: {} bytes of {} and not all the same", found.len(), content.len());
    }
    Ok(())
}

pub(super) async fn go_both_ways(scene: Scene) -> Result<()> {
    scene.ready_pod("box", json!({ "containers": [shell("main", "sleep 1000")] })).await?;
    let folder = scene.cluster.paths.file(&scene.namespace);
    let here = folder.join("here");
    for (name, content) in files() {
        let path = here.join(name);
        workspace::create_dir(path.parent().context("its folder")?)?;
        workspace::write(&path, content)?;
    }
    std::os::unix::fs::symlink("deep/er/file", here.join("link")).context("make a link")?;
    let copy = async |from: &str, to: &str| -> Result<String> {
        let said = scene.kubectl_with(b"", &["cp", from, to]).await?;
        ensure!(said.code == 0, "kubectl cp {from} {to} ended with {}: {}", said.code, said.err.trim());
        Ok(said.out + &said.err)
    };
    let text = |path: &Path| path.to_string_lossy().into_owned();

    copy(&text(&here), "box:/tmp/there").await?;
    let link = scene.kubectl_out(&["exec", "box", "--", "readlink", "/tmp/there/link"]).await?;
    ensure!(link == "deep/er/file\n", "the link leads to {link:?}");
    let listed = scene.kubectl_out(&["exec", "box", "--", "cat", "/tmp/there/a name with blanks"]).await?;
    ensure!(listed == "blanks\n", "the file with blanks in its name has {listed:?}");

    let back = folder.join("back");
    let said = copy("box:/tmp/there", &text(&back)).await?;
    compare(&back)?;
    // kubectl does not make links here that a container chose.
    ensure!(std::fs::symlink_metadata(back.join("link")).is_err() && said.contains("link"), "{said:?}");

    // One file, to a name and from one with blanks.
    copy(&text(&here.join("a name with blanks")), "box:/tmp/one file").await?;
    copy("box:/tmp/one file", &text(&folder.join("one"))).await?;
    let one = std::fs::read(folder.join("one")).context("read the one file")?;
    ensure!(one == b"blanks\n", "the one file has {one:?}");
    std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))
}
