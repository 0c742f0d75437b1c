//! Processes, threads and what they have open.

use super::{Family, gauge, labelled, number};

pub(super) const FAMILIES: &[Family] = &[
    gauge("container_file_descriptors", "Descriptors that processes have open.", |g, out| {
        out.at(g, number(g.processes?.file_descriptors))
    }),
    gauge("container_processes", "Processes of the group itself.", |g, out| {
        out.at(g, number(g.processes?.processes))
    }),
    gauge("container_sockets", "Sockets that processes have open.", |g, out| {
        out.at(g, number(g.processes?.sockets))
    }),
    gauge("container_threads", "Threads, those of groups below included.", |g, out| {
        out.at(g, number(g.tasks?.current))
    }),
    gauge("container_threads_max", "The most threads there may be; 0 for no limit.", |g, out| {
        out.at(g, number(g.tasks?.limit.unwrap_or(0)))
    }),
    labelled(
        gauge("container_ulimits_soft", "Soft limit of the first process; -1 for none.", |g, out| {
            out.of(g, ["max_open_files"], g.open_files_limit? as f64)
        }),
        &["ulimit"],
    ),
];
