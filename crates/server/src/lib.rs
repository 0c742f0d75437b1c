//! The node's HTTP API: HTTPS on 10250 with authentication and authorization, the optional
//! read-only port, and the health port.
//!
//! | task | module |
//! |---|---|
//! | which request is which endpoint | [`endpoint`] (pure) |
//! | who asks, and may they | `auth`, `attributes` (pure), `identity`, `cache` |
//! | how many requests, and how long each takes | `counting` |
//! | sockets, TLS, limits, drain | `listen`, `slots`, `unauthenticated`, `tls`, [`certificate`] |
//! | answers | `answer` and one module an endpoint |
//! | the machine's own logs | [`nodelogs`] |
//! | exec, attach and port-forward | `streaming`; `tunnel`, `pump`: passed through to the runtime; `translate`: from WebSocket to the runtime's SPDY |
//!
//! Everything served comes through one bundle of [`Ports`]: this crate knows neither the core nor
//! the runtime.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

mod accept;
mod activity;
mod answer;
mod attributes;
mod auth;
mod cache;
pub mod certificate;
mod counting;
mod debugflags;
pub mod endpoint;
mod file_watch;
mod health;
mod identity;
mod input;
mod listen;
mod logs;
mod metrics;
pub mod nodelogs;
mod number;
mod pods;
pub mod ports;
mod pprof;
mod pump;
mod service;
pub mod settings;
mod slots;
mod socket;
mod spdy;
mod streaming;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tls;
mod translate;
mod tunnel;
mod unauthenticated;
mod websocket;
mod zpages;

pub use attributes::Attributes;
pub use listen::{Addresses, HealthServer, ListenError, Server};
pub use ports::{Decision, Ports, UserInfo};
pub use settings::Settings;

#[cfg(test)]
mod tests;
