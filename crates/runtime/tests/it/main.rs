//! The protocol against upstream's facts, and the client against a real gRPC server.

// Clippy knows tests by their attribute only, and not what they share.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod calls;
mod facts;
mod fake;
mod records;
