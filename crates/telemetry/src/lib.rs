//! What the kubelet says about itself: its log ([`log`]) and its metrics ([`metrics`]).
//!
//! Both have upstream's form to the letter, since programs read them: klog's text and JSON lines, and
//! Prometheus' text format with upstream's names, labels and buckets. Nothing here runs by itself:
//! there is no task, no timer and no buffer to flush.

pub mod log;
pub mod metrics;
