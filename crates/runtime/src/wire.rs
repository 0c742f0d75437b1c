//! The generated protobuf types of CRI v1. They stay inside this crate, except for the `fake`
//! feature, which gives `fake-cri` the server side.

#![allow(missing_docs, unreachable_pub, clippy::all)]

use std::fmt;

tonic::include_proto!("runtime.v1");

/// Shows where credentials are for and nothing else.
impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig").field("server_address", &self.server_address).finish_non_exhaustive()
    }
}

/// Shows a variable's name; values often come from secrets.
impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValue").field("key", &self.key).finish_non_exhaustive()
    }
}
