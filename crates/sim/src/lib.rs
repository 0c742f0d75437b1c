//! A seeded world around the core: a runtime, an API server, static pod files, volumes, cgroups,
//! users and faults, all driven by one number. The same seed gives the same history, so that a
//! history that breaks a rule can be looked at again and again.
//!
//! [`run`] lets one world live: first a phase of fault injection, in which calls fail, are late, are lost or
//! take effect although they failed, containers and sandboxes die, and the node agent itself
//! restarts; then a phase of settling in which everything has to end up as it should be. The rules that must
//! hold at every moment are in [`checks`], those about what pods have of the node in [`grants`], what must be reached then is in
//! [`convergence`], and that nothing is stuck without saying so in [`explained`].
//!
//! - [`rng`]: randomness. [`faults`]: which faults are injected, and how often.
//! - [`specs`]: pods. [`workload`]: what people do with them.
//! - [`runtime`], [`api`], [`host`], [`images`], [`plugins`]: the fakes. [`perform`]: what each action does to them.
//! - [`process`]: one life of the node agent. [`world`]: the queue of what happens when.

mod api;
mod checks;
mod convergence;
mod explained;
mod faults;
mod grants;
mod host;
mod images;
mod perform;
mod plugins;
mod pressure;
mod process;
mod rng;
mod runtime;
mod specs;
mod storage;
mod text;
mod workload;
mod world;

pub use process::settings;
pub use world::{Broken, Summary, record, run};
