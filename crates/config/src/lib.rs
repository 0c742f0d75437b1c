//! What the kubelet was told: flags, the `KubeletConfiguration` document and its drop-ins, read once
//! at the start into one validated [`Config`] with a part for each crate that needs any of it.
//!
//! ```text
//! arguments ─► flags::parse ─► CommandLine ─┐
//! --config ──► tree ─► document (codec) ─────┼─► defaults ─► validate ─► build ─► Config
//! --config-dir ─► tree, merged as JSON ─────┘         every step notes Findings
//! ```
//!
//! Two layers keep this honest. [`document`] has the written form: upstream's field names, Go's
//! idea of "unset", nothing checked but types. [`Config`] has the meaning: durations, addresses and
//! enums that need no further check. No step stops at the first mistake; [`load`] gives either a
//! configuration with its warnings, or everything that is wrong with it.
//!
//! Flags are one table (`flags/table.rs`); each row says where in the document its value belongs,
//! so that precedence is nothing but the order in which values are written there.

mod amount;
mod build;
mod codec;
mod cpus;
mod credentials;
mod defaults;
pub mod document;
mod duration;
mod eviction;
mod finding;
mod flags;
pub mod gates;
mod inspect;
mod label;
mod load;
mod origin;
mod sections;
mod similar;
mod tree;
mod unsupported;
mod validate;
pub mod version;

pub use codec::{Dict, Headers, List, QuantityText, Secret, TextOrNanos};
pub use cpus::cpu_list;
pub use credentials::{CredentialProvider, ExecEnvVar, ServiceAccountTokenAttributes};
pub use duration::{GoDuration, ParseDurationError};
pub use eviction::{EvictionThreshold, ThresholdValue};
pub use finding::{Finding, Severity};
pub use gates::FeatureGates;
pub use load::{Invocation, Loaded, Refused, load};
pub use sections::{
    ApiClient, Authentication, Authorization, CgroupDriver, Config, ContainerLogs, DeadContainers, Detection,
    EmptyNodeName, Eviction, Identity, ImageGc, ImageVerification, LogFormat, Logging, Node, Paths, Pods,
    Process, ReservedCgroup, Runtime, Server, Sources, Tls, TlsFiles, TlsVersion, Tracing,
};
