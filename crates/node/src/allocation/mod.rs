//! What pods have of the node: what each was granted, and what that comes to.
//!
//! Four things are not the same: what a pod asks for (its object), what it was granted (here), what was put into effect, and
//! what its containers are seen to have. All that depends on resources goes by what was granted.
//!
//! - [`grant`]: what one pod was granted, and its object with that in place of what it asks for. The pod's record holds it.
//! - [`ledger`]: what all of them have together, kept up as pods come and go. [`amounts`], [`host_ports`]: what is added up.
//! - [`written`]: what state files have of it.
//! - [`resize`]: what is said of an object that asks for something else than was granted.

mod amounts;
mod grant;
mod host_ports;
mod ledger;
mod resize;
mod written;

pub(crate) use amounts::{number, requested};
pub(crate) use grant::{Grant, Granted};
pub(crate) use host_ports::host_ports;
pub(crate) use ledger::{Ledger, Room};
pub(crate) use resize::{RESIZE_IS_INFEASIBLE, pending_event};
pub(crate) use written::{actuated, actuated_container, allocated};
