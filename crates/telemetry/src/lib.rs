//! What the kubelet says about itself: its log ([`log`]) and its metrics ([`metrics`]).
//!
//! Both have upstream's form to the letter, since programs read them: klog's text and JSON lines, and
//! Prometheus' text format with upstream's names, labels and buckets. Nothing here runs by
//! itself, but for the thread that writes out the log's buffer, for those who ask for one.

pub mod log;
pub mod metrics;
