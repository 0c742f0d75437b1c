//! The container runtime, through CRI v1 (`proto/cri.proto`), and everything that is prepared
//! for it. Three kinds of modules:
//!
//! * **Translations**, pure: [`sandbox`] and [`container`] turn a pod into what the runtime
//!   makes, with [`dns`], [`hostname`], [`environment`] and [`expand`] as their parts. Every fact
//!   is an argument.
//! * **Calls**: [`Runtime`], one method for each thing the runtime can do. It holds no state but
//!   the connection; every future may be dropped, which cancels the call.
//! * **Files**: [`podfiles`] (hosts file, termination messages, log folders) and [`logs`]
//!   (reading what containers wrote).
//!
//! Nothing here decides anything: which pod to start, what to restart and when to retry is the
//! core's. No task outlives a call, and there is no queue; [`Runtime::events`] is a stream that
//! works only while it is polled.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

mod call_observer;
mod client;
pub mod container;
pub mod dns;
pub mod environment;
mod error;
mod events;
pub mod expand;
pub mod hostname;
pub mod images;
pub mod labels;
mod lifecycle;
mod lists;
pub mod logs;
mod node_settings;
mod observe;
mod pod_metrics;
pub mod podfiles;
pub mod sandbox;
mod termination;
pub mod usage;
#[cfg(feature = "fake")]
pub mod wire;
#[cfg(not(feature = "fake"))]
mod wire;

pub use call_observer::{CallEnded, CallObserver};
pub use client::{CgroupDriver, DriverAnswer, EndpointError, Runtime, RuntimeSettings, RuntimeVersion};
pub use error::{RpcStatus, RuntimeError};
pub use events::{ContainerChange, RuntimeEvent};
pub use lifecycle::{ExecOutput, Streams};
pub use node_settings::{MemoryQos, NodeSettings, PodTotals};
pub use pod_metrics::{MetricDescriptor, MetricSample};
