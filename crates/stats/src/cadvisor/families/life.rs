//! Since when a group exists.

use super::{Family, MILLIS_PER_SECOND, gauge};

pub(super) const FAMILIES: &[Family] = &[
    gauge("container_creation_time_seconds", "When the group was made, in seconds since 1970.", |g, out| {
        out.set(g, g.created_seconds?)
    }),
    gauge(
        "container_health_state",
        "Result of the image's own health check; -1 as Kubernetes has none.",
        |g, out| out.at(g, -1.0),
    ),
    gauge("container_last_seen", "When the group was seen last, in seconds since 1970.", |g, out| {
        out.at(g, (g.millis as f64 / MILLIS_PER_SECOND).trunc())
    }),
    gauge("container_start_time_seconds", "When the group was started, in seconds since 1970.", |g, out| {
        out.set(g, g.started_seconds?)
    }),
];
