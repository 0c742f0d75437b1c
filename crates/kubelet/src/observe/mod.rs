//! What the process shows of itself: metrics, and whether it is healthy.

pub(crate) mod gauges;
pub(crate) mod health;
pub(crate) mod metering;
pub(crate) mod sync_loop_health;
