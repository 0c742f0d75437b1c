//! What the kubelet says about itself: its log ([`log`]), its metrics ([`metrics`]) and its traces
//! ([`traces`]).
//!
//! They have upstream's form to the letter, since programs read them: klog's text and JSON lines, and
//! Prometheus' text format with upstream's names, labels and buckets. Nothing here runs by
//! itself, but for the threads that write out the log's buffer and send spans, for those who ask for them.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

pub mod log;
pub mod metrics;
pub mod traces;
