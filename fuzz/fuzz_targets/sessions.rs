//! Whatever a client and the container runtime send in a session over WebSocket, taking it ends: no panic, no endless
//! loop, no exhausted memory.
//!
//! `cargo +nightly fuzz run sessions -- -max_len=65536 -timeout=10 -rss_limit_mb=1024`

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    server::testing::hold_session(data);
    server::testing::forward_ports(data);
});
