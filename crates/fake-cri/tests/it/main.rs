//! A server on real sockets, asked by the kubelet's own client.

// Clippy knows tests by their attribute only, and not what they share.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod lab;
mod life;
mod mischief;
