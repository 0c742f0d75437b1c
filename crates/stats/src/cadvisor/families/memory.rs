//! Memory. No limit is shown as zero.

use super::{Family, counter, gauge, labelled, number};

pub(super) const FAMILIES: &[Family] = &[
    gauge("container_memory_cache", "Page cache, in bytes.", |g, out| {
        out.at(g, number(g.memory?.cache_bytes))
    }),
    counter("container_memory_events_high_total", "Times the group was slowed at memory.high.", |g, out| {
        g.memory?;
        out.at(g, number(g.memory_events.high.unwrap_or(0)))
    }),
    counter("container_memory_events_max_total", "Times the group met memory.max.", |g, out| {
        g.memory?;
        out.at(g, number(g.memory_events.max.unwrap_or(0)))
    }),
    counter("container_memory_failcnt", "Times the memory limit was met.", |g, out| {
        g.memory?;
        out.at(g, number(g.memory_events.limit_hits.unwrap_or(0)))
    }),
    labelled(
        // The kernel's one number stands for both scopes, as upstream has it.
        counter("container_memory_failures_total", "Page faults.", |g, out| {
            let memory = g.memory?;
            for scope in ["container", "hierarchy"] {
                out.of(g, ["pgfault", scope], number(memory.page_faults));
                out.of(g, ["pgmajfault", scope], number(memory.major_page_faults));
            }
            Some(())
        }),
        &["failure_type", "scope"],
    ),
    gauge("container_memory_file_dirty_bytes", "Page cache not written to disk yet, in bytes.", |g, out| {
        out.at(g, number(g.memory?.file_dirty_bytes.unwrap_or(0)))
    }),
    gauge("container_memory_file_writeback_bytes", "Page cache on its way to disk, in bytes.", |g, out| {
        out.at(g, number(g.memory?.file_writeback_bytes.unwrap_or(0)))
    }),
    gauge("container_memory_kernel_usage", "Memory of the kernel for the group, in bytes.", |g, out| {
        g.memory?;
        out.at(g, number(g.memory_events.kernel_bytes.unwrap_or(0)))
    }),
    gauge("container_memory_mapped_file", "Mapped files, in bytes.", |g, out| {
        out.at(g, number(g.memory?.mapped_file_bytes))
    }),
    gauge("container_memory_max_usage_bytes", "The most memory ever in use, in bytes.", |g, out| {
        g.memory?;
        out.at(g, number(g.memory_events.max_usage_bytes.unwrap_or(0)))
    }),
    counter("container_memory_pgscan_total", "Pages looked at to find some to give back.", |g, out| {
        out.at(g, number(g.memory?.pages_scanned.unwrap_or(0)))
    }),
    counter("container_memory_pgsteal_total", "Pages given back.", |g, out| {
        out.at(g, number(g.memory?.pages_stolen.unwrap_or(0)))
    }),
    gauge("container_memory_rss", "Anonymous memory, in bytes.", |g, out| {
        out.at(g, number(g.memory?.rss_bytes))
    }),
    gauge("container_memory_swap", "Memory on swap devices, in bytes.", |g, out| {
        out.at(g, number(g.memory?.swap_bytes))
    }),
    gauge("container_memory_total_active_file_bytes", "Page cache used lately, in bytes.", |g, out| {
        out.at(g, number(g.memory?.active_file_bytes))
    }),
    gauge("container_memory_total_inactive_file_bytes", "Page cache not used lately, in bytes.", |g, out| {
        out.at(g, number(g.memory?.inactive_file_bytes))
    }),
    gauge("container_memory_usage_bytes", "Memory in use with all page cache, in bytes.", |g, out| {
        out.at(g, number(g.memory?.usage_bytes))
    }),
    gauge(
        "container_memory_working_set_bytes",
        "Memory in use without page cache that is easily given back, in bytes.",
        |g, out| out.at(g, number(g.memory?.working_set_bytes)),
    ),
    counter(
        "container_memory_workingset_refault_anon_total",
        "Anonymous pages wanted again soon after they were given back.",
        |g, out| out.at(g, number(g.memory?.refaulted_anon_pages.unwrap_or(0))),
    ),
    counter(
        "container_memory_workingset_refault_file_total",
        "Pages of files wanted again soon after they were given back.",
        |g, out| out.at(g, number(g.memory?.refaulted_file_pages.unwrap_or(0))),
    ),
    counter("container_oom_events_total", "Processes killed because memory ran out.", |g, out| {
        out.at(g, number(g.memory_events.oom_kills.unwrap_or(0)))
    }),
    gauge("container_spec_memory_limit_bytes", "Limit of memory, in bytes; 0 for none.", |g, out| {
        out.set(g, number(g.memory_limits?.limit_bytes.unwrap_or(0)))
    }),
    gauge(
        "container_spec_memory_reservation_limit_bytes",
        "Memory the group keeps when memory is short, in bytes.",
        |g, out| out.set(g, number(g.memory_limits?.reservation_bytes.unwrap_or(0))),
    ),
    gauge("container_spec_memory_swap_limit_bytes", "Limit of swap, in bytes; 0 for none.", |g, out| {
        out.set(g, number(g.memory_limits?.swap_limit_bytes.unwrap_or(0)))
    }),
];
