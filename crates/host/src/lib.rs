//! The node's kernel, as the rest of the kubelet sees it: cgroups, mounts, files below a root,
//! facts about the machine and cheap samples of its usage.
//!
//! Every function here but those of [`inotify`] and [`kernel_log`] is synchronous and short; callers in async code run them with
//! `spawn_blocking`. Nothing in this crate knows a pod beyond its uid and QoS class, keeps state
//! of its own or decides anything. It is the only crate in which `unsafe` may appear, and at
//! present the only such place is [`testing`].

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

pub mod atomic;
pub mod beneath;
pub mod cgroup;
pub mod disk_counters;
pub mod disk_usage;
pub mod inotify;
pub mod kernel_log;
pub mod listeners;
pub mod machine;
pub mod memory;
pub mod mount;
pub mod network;
pub mod oom;
pub mod orphaned_pipes;
pub mod process;
pub mod profile;
pub mod selinux;
pub mod text;
pub mod topology;
pub mod tunables;
pub mod unix_socket;
pub mod usage;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use text::FileError;
