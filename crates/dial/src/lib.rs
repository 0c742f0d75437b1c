//! Connections to HTTP servers, directly or through a proxy, as a Go program makes them.
//!
//! | question | answered by |
//! |---|---|
//! | which proxy is for which server | [`Proxies`], by a URL that is given or by the environment |
//! | how is a server reached through it | [`Dial`], by forwarding, `CONNECT` or SOCKS 5 |
//!
//! What is sent on a connection, and the TLS that a server behind a proxy wants, are the caller's.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

mod connector;
mod link;
mod no_proxy;
mod proxies;
mod proxy;
mod socks;
mod tunnel;

pub use connector::{Dial, DialError};
pub use link::Link;
pub use proxies::{Proxies, is_local};
pub use proxy::{Proxy, ProxyError, without_secret};

#[cfg(test)]
mod tests;
