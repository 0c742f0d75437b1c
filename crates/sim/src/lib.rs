//! A seeded world around the core: a runtime, an API server, static pod files, volumes, cgroups,
//! users and mishaps, all driven by one number. The same seed gives the same history, so that a
//! history that breaks a rule can be looked at again and again.
//!
//! [`run`] lets one world live: first a stormy time in which calls fail, are late, are lost or
//! take effect although they failed, containers and sandboxes die, and the node agent itself
//! restarts; then a calm in which everything has to end up as it should be. The rules that must
//! hold at every moment are in [`checks`], what must be reached in the calm is in [`goal`], and that nothing is stuck
//! without saying so in [`explained`].
//!
//! - [`chance`]: randomness. [`weather`]: which mishaps a history has, and how often.
//! - [`specs`]: pods. [`users`]: what people do with them.
//! - [`runtime`], [`api`], [`host`]: the fakes. [`perform`]: what each action does to them.
//! - [`process`]: one life of the node agent. [`world`]: the queue of what happens when.

mod api;
mod chance;
mod checks;
mod explained;
mod goal;
mod host;
mod perform;
mod process;
mod runtime;
mod specs;
mod text;
mod users;
mod weather;
mod world;

pub use process::settings;
pub use world::{Broken, Summary, record, run};
