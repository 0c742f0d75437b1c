//! The life of each pod. Pods are found in the [`registry`]; a [`record`] has what is wanted of one, what it was [`seen`] to
//! be, where it is in its [`life`], and what is remembered of each [`container`].
//!
//! - One file drives each phase: [`admitting`], [`running`], [`terminating`], [`terminated`].
//! - A running pod follows its [`plan`], by the [`rules`] of restarts: [`preparing`] cgroup, volumes and sandbox,
//!   [`images`], [`image_volumes`], [`starting`] and [`stopping`] containers, [`probes`], [`restart_all`].
//! - What comes in: [`updates`] of it, how its actions ended in [`results`], what an earlier process left in [`adopt`].
//! - What goes out: its status in [`report`], what it waits for in [`waits`].

pub(crate) mod admitting;
mod adopt;
pub(crate) mod backoff;
mod container;
mod drive;
pub(crate) mod image_record;
mod image_volumes;
mod images;
pub(crate) mod life;
pub(crate) mod missing_volumes;
pub(crate) mod plan;
mod preparing;
mod probe_state;
pub(crate) mod probes;
pub(crate) mod record;
pub(crate) mod registry;
mod removal;
mod report;
mod restart_all;
pub(crate) mod results;
pub(crate) mod rules;
mod running;
pub(crate) mod seen;
mod starting;
mod stopping;
mod terminated;
mod terminating;
#[cfg(test)]
mod tests;
mod updates;
mod waits;
