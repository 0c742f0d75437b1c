//! Lets tests mount without leaving a trace on the machine. Compiled for tests only (feature
//! `testing`).

use std::thread;

use rustix::mount::MountPropagationFlags;
use rustix::thread::UnshareFlags;

/// Runs `body` on a thread with a mount namespace of its own; every mount it makes vanishes with
/// the thread. Threads started inside, such as a runtime's, share the namespace.
///
/// # Panics
///
/// If `body` does, or without the right to make namespaces (tests that mount run as root).
#[allow(clippy::expect_used, reason = "only tests call this")]
pub fn in_mount_namespace<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    #[expect(clippy::disallowed_methods, reason = "it is joined below")]
    let thread = thread::spawn(|| {
        enter_mount_namespace();
        body()
    });
    match thread.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

#[allow(clippy::expect_used, reason = "only tests call this")]
fn enter_mount_namespace() {
    #[allow(unsafe_code)]
    // SAFETY: `unshare` is unsafe because threads could end up with different descriptor tables
    // (`CLONE_FILES`); a mount namespace leaves those alone.
    unsafe {
        rustix::thread::unshare_unsafe(UnshareFlags::NEWNS).expect("unshare the mount namespace");
    }
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .expect("make all mounts private");
}
