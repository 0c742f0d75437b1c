//! Memory of a group: use, limits, and what happened when limits were met.

use std::path::Path;

use super::{Controller, GroupReader, limited, pairs};
use crate::text::{self, keyed_number};

/// Memory in use, bytes, with groups below included; and counts of events since the group was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// In use, page cache included.
    pub usage_bytes: u64,
    /// Usage less inactive page cache: what cannot easily be given back.
    pub working_set_bytes: u64,
    /// Anonymous memory and swap cache.
    pub rss_bytes: u64,
    /// Page cache, tmpfs included.
    pub cache_bytes: u64,
    /// Page cache that processes have mapped.
    pub mapped_file_bytes: u64,
    /// On swap devices.
    pub swap_bytes: u64,
    /// Page cache used lately.
    pub active_file_bytes: u64,
    /// Page cache that goes first when memory is short.
    pub inactive_file_bytes: u64,
    /// Page cache that has to be written to disk yet. Version 2 only.
    pub file_dirty_bytes: Option<u64>,
    /// Page cache on its way to disk. Version 2 only.
    pub file_writeback_bytes: Option<u64>,
    /// Page faults. Of the group alone on version 1, of all below too on version 2: the kernel's
    /// field of that name.
    pub page_faults: u64,
    /// Page faults that had to read, counted likewise.
    pub major_page_faults: u64,
    /// Pages looked at to find some that can be given back. Version 2 only.
    pub pages_scanned: Option<u64>,
    /// Pages given back. Version 2 only.
    pub pages_stolen: Option<u64>,
    /// Pages of files that were wanted again soon after they had been given back.
    pub refaulted_file_pages: Option<u64>,
    /// Anonymous pages of that kind.
    pub refaulted_anon_pages: Option<u64>,
    /// The limits that bind the group. Version 1 only, where they come with the counts.
    pub least_limits: Option<LeastLimits>,
}

/// The lowest limits of a group and those above it, bytes; `None` without any. While they stay as they
/// are, no limit of the group's own can have become one that binds, or ceased to be one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeastLimits {
    /// Of memory.
    pub memory_bytes: Option<u64>,
    /// Of memory and swap together.
    pub memory_and_swap_bytes: Option<u64>,
}

/// What a group may use, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryLimits {
    /// The most it may use; `None` without a limit.
    pub limit_bytes: Option<u64>,
    /// What it keeps when memory is short: the soft limit of version 1, `memory.min` of version 2.
    pub reservation_bytes: Option<u64>,
    /// The most on swap devices on version 2; memory and swap together on version 1. `None` without
    /// a limit or without swap accounting.
    pub swap_limit_bytes: Option<u64>,
}

/// Events and extremes that are in files of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryEvents {
    /// The most that was ever in use, bytes.
    pub max_usage_bytes: Option<u64>,
    /// How often the limit was met. Version 1 only.
    pub limit_hits: Option<u64>,
    /// Memory of the kernel on the group's behalf, bytes. Version 1 only.
    pub kernel_bytes: Option<u64>,
    /// How often the group was slowed down at `memory.high`. Version 2 only.
    pub high: Option<u64>,
    /// How often `memory.max` was met. Version 2 only.
    pub max: Option<u64>,
    /// Processes of the group itself that were killed because memory ran out.
    pub oom_kills: Option<u64>,
}

impl GroupReader {
    /// Memory the group and those below it use. The root of version 2 accounts for no total: there
    /// it is anonymous memory and page cache together, as upstream reckons.
    pub fn memory(&mut self, group: &str) -> Option<MemoryUsage> {
        let is_v1 = self.is_v1();
        let file = if is_v1 { "memory.usage_in_bytes" } else { "memory.current" };
        let counted = self.number(Controller::Memory, group, file);
        let stat = self.text(Controller::Memory, group, "memory.stat")?;
        let mut memory = if is_v1 { stat_of_v1(stat) } else { stat_of_v2(stat) };
        memory.usage_bytes = match counted {
            Some(bytes) => bytes,
            None if !is_v1 => memory.rss_bytes.saturating_add(memory.cache_bytes),
            None => return None,
        };
        memory.working_set_bytes = memory.usage_bytes.saturating_sub(memory.inactive_file_bytes);
        if !is_v1 {
            let swap = self.number(Controller::Memory, group, "memory.swap.current");
            let is_root = group.trim_matches('/').is_empty();
            let swap = swap.or_else(|| is_root.then(|| swap_of_machine(&self.proc)).flatten());
            memory.swap_bytes = swap.unwrap_or(0);
        }
        Some(memory)
    }

    /// What the group may use. `None` for a group without the memory controller.
    pub fn memory_limits(&mut self, group: &str) -> Option<MemoryLimits> {
        let [limit, reservation, swap] = if self.is_v1() {
            ["memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.memsw.limit_in_bytes"]
        } else {
            ["memory.max", "memory.min", "memory.swap.max"]
        };
        let limit_bytes = limited(self.number(Controller::Memory, group, limit)?);
        let mut of = |file| self.number(Controller::Memory, group, file).and_then(limited);
        Some(MemoryLimits { limit_bytes, reservation_bytes: of(reservation), swap_limit_bytes: of(swap) })
    }

    /// The most memory the group may use, bytes; `None` without a limit.
    pub fn memory_limit(&mut self, group: &str) -> Option<u64> {
        self.written_memory_limit(group).and_then(limited)
    }

    /// The same as the kernel has it written, bytes: version 1 has a number where there is no limit; `None` for the `max` of
    /// version 2.
    pub(in crate::cgroup) fn written_memory_limit(&mut self, group: &str) -> Option<u64> {
        let file = if self.is_v1() { "memory.limit_in_bytes" } else { "memory.max" };
        self.number(Controller::Memory, group, file).filter(|bytes| *bytes < 1 << 63)
    }

    /// [`MemoryLimits::swap_limit_bytes`] alone.
    pub fn swap_limit(&mut self, group: &str) -> Option<u64> {
        let file = if self.is_v1() { "memory.memsw.limit_in_bytes" } else { "memory.swap.max" };
        self.number(Controller::Memory, group, file).and_then(limited)
    }

    /// Extremes and events. All absent for a group without the memory controller.
    pub fn memory_events(&mut self, group: &str) -> MemoryEvents {
        let mut events = MemoryEvents::default();
        if self.is_v1() {
            let mut of = |file| self.number(Controller::Memory, group, file);
            events.max_usage_bytes = of("memory.max_usage_in_bytes");
            events.limit_hits = of("memory.failcnt");
            events.kernel_bytes = of("memory.kmem.usage_in_bytes");
            events.oom_kills = self.oom_kills(group, "memory.oom_control");
            return events;
        }
        events.max_usage_bytes = self.number(Controller::Memory, group, "memory.peak");
        for (key, count) in pairs(self.text(Controller::Memory, group, "memory.events").unwrap_or("")) {
            match key {
                "high" => events.high = Some(count),
                "max" => events.max = Some(count),
                _ => {}
            }
        }
        events.oom_kills = self.oom_kills(group, "memory.events.local");
        events
    }

    fn oom_kills(&mut self, group: &str, file: &str) -> Option<u64> {
        let text = self.text(Controller::Memory, group, file)?;
        pairs(text).find(|(key, _)| *key == "oom_kill").map(|(_, count)| count)
    }
}

/// The fields named `total_…` include the groups below. Where a hierarchy is switched off, which no
/// current kernel can, they equal the others; so there is no need to ask.
fn stat_of_v1(stat: &str) -> MemoryUsage {
    let mut memory = MemoryUsage::default();
    let mut least = LeastLimits::default();
    for (key, value) in pairs(stat) {
        match key {
            "hierarchical_memory_limit" => least.memory_bytes = limited(value),
            "hierarchical_memsw_limit" => least.memory_and_swap_bytes = limited(value),
            "total_cache" => memory.cache_bytes = value,
            "total_rss" => memory.rss_bytes = value,
            "total_swap" => memory.swap_bytes = value,
            "total_mapped_file" => memory.mapped_file_bytes = value,
            "total_active_file" => memory.active_file_bytes = value,
            "total_inactive_file" => memory.inactive_file_bytes = value,
            "pgfault" => memory.page_faults = value,
            "pgmajfault" => memory.major_page_faults = value,
            "workingset_refault_file" => memory.refaulted_file_pages = Some(value),
            "workingset_refault_anon" => memory.refaulted_anon_pages = Some(value),
            _ => {}
        }
    }
    memory.least_limits = Some(least);
    memory
}

fn stat_of_v2(stat: &str) -> MemoryUsage {
    let mut memory = MemoryUsage::default();
    for (key, value) in pairs(stat) {
        match key {
            "file" => memory.cache_bytes = value,
            "anon" => memory.rss_bytes = value,
            "file_mapped" => memory.mapped_file_bytes = value,
            "active_file" => memory.active_file_bytes = value,
            "inactive_file" => memory.inactive_file_bytes = value,
            "file_dirty" => memory.file_dirty_bytes = Some(value),
            "file_writeback" => memory.file_writeback_bytes = Some(value),
            "pgfault" => memory.page_faults = value,
            "pgmajfault" => memory.major_page_faults = value,
            "pgscan" => memory.pages_scanned = Some(value),
            "pgsteal" => memory.pages_stolen = Some(value),
            "workingset_refault_file" => memory.refaulted_file_pages = Some(value),
            "workingset_refault_anon" => memory.refaulted_anon_pages = Some(value),
            _ => {}
        }
    }
    memory
}

fn swap_of_machine(proc: &Path) -> Option<u64> {
    let meminfo = text::read(proc.join("meminfo")).ok()?;
    let kib = |key| keyed_number(&meminfo, key);
    Some(kib("SwapTotal")?.saturating_sub(kib("SwapFree")?).saturating_mul(1024))
}
