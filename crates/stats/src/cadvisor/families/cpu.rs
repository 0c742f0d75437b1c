//! CPU time. What concerns a quota is shown for groups that have one.

use super::{Family, counter, gauge, labelled, nanos, number};

pub(super) const FAMILIES: &[Family] = &[
    counter("container_cpu_cfs_burst_periods_total", "Periods with a burst beyond the quota.", |g, out| {
        out.at(g, number(g.throttling?.burst_periods))
    }),
    counter("container_cpu_cfs_burst_seconds_total", "CPU time used in bursts, in seconds.", |g, out| {
        out.at(g, nanos(g.throttling?.burst_nanos))
    }),
    counter("container_cpu_cfs_periods_total", "Periods in which the quota was enforced.", |g, out| {
        out.at(g, number(g.throttling?.periods))
    }),
    counter("container_cpu_cfs_throttled_periods_total", "Periods in which the quota ran out.", |g, out| {
        out.at(g, number(g.throttling?.throttled_periods))
    }),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        "Time the group was held back for its quota, in seconds.",
        |g, out| out.at(g, nanos(g.throttling?.throttled_nanos)),
    ),
    counter("container_cpu_system_seconds_total", "CPU time used in the kernel, in seconds.", |g, out| {
        out.at(g, nanos(g.cpu?.system_nanos))
    }),
    labelled(
        // Upstream's kubelet does not show each CPU either; the label is what cadvisor's users expect.
        counter("container_cpu_usage_seconds_total", "CPU time used, in seconds.", |g, out| {
            let used = g.cpu?.usage_nanos;
            (used > 0).then(|| out.of(g, ["total"], nanos(used))).flatten()
        }),
        &["cpu"],
    ),
    counter("container_cpu_user_seconds_total", "CPU time used in user mode, in seconds.", |g, out| {
        out.at(g, nanos(g.cpu?.user_nanos))
    }),
    gauge("container_spec_cpu_period", "Period of the CPU quota, in microseconds.", |g, out| {
        out.set(g, number(g.cpu_limits?.period_micros.unwrap_or(0)))
    }),
    gauge("container_spec_cpu_quota", "CPU time in a period, in microseconds.", |g, out| {
        out.set(g, number(g.cpu_limits?.quota_micros?))
    }),
    gauge("container_spec_cpu_shares", "Weight of the group when CPUs are short.", |g, out| {
        out.set(g, number(g.cpu_limits?.shares.unwrap_or(0)))
    }),
];
