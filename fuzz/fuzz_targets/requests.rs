//! Whatever a stranger asks for, and with whatever parameters, headers and frames, reading it ends: no panic, no
//! endless loop.
//!
//! `cargo +nightly fuzz run requests -- -max_len=65536 -timeout=10 -rss_limit_mb=1024`

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    server::testing::read_request(data);
    server::testing::read_spdy(data);
});
