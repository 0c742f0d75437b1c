//! Pressure: time lost because a resource was short. Absent where the kernel does not tell.

use host::cgroup::stats::Pressure;

use super::{Family, counter, micros};

pub(super) const FAMILIES: &[Family] = &[
    counter("container_pressure_cpu_stalled_seconds_total", "Time all tasks waited for CPUs.", |g, out| {
        out.at(g, all(g.pressure?.cpu))
    }),
    counter("container_pressure_cpu_waiting_seconds_total", "Time some tasks waited for CPUs.", |g, out| {
        out.at(g, some(g.pressure?.cpu))
    }),
    counter("container_pressure_io_stalled_seconds_total", "Time all tasks waited for devices.", |g, out| {
        out.at(g, all(g.pressure?.io))
    }),
    counter(
        "container_pressure_io_waiting_seconds_total",
        "Time some tasks waited for devices.",
        |g, out| out.at(g, some(g.pressure?.io)),
    ),
    counter(
        "container_pressure_memory_stalled_seconds_total",
        "Time all tasks waited for memory.",
        |g, out| out.at(g, all(g.pressure?.memory)),
    ),
    counter(
        "container_pressure_memory_waiting_seconds_total",
        "Time some tasks waited for memory.",
        |g, out| out.at(g, some(g.pressure?.memory)),
    ),
];

fn all(pressure: Option<Pressure>) -> f64 {
    micros(pressure.unwrap_or_default().full.total_micros)
}

fn some(pressure: Option<Pressure>) -> f64 {
    micros(pressure.unwrap_or_default().some.total_micros)
}
