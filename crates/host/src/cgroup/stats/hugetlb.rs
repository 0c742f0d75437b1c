//! Huge pages of a group.

use super::{Controller, GroupReader, pairs};
use crate::cgroup::huge_page_name;

/// Use of the huge pages of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HugePageUsage {
    /// The size of a page, bytes.
    pub page_bytes: u64,
    /// In use; on version 2 what is reserved, where the kernel tells. Bytes.
    pub usage_bytes: u64,
    /// The most that was ever in use, bytes. Version 1 only.
    pub max_usage_bytes: Option<u64>,
    /// How often the limit was met.
    pub limit_hits: Option<u64>,
}

impl GroupReader {
    /// Huge pages in use by the group, for those of the sizes that it accounts for.
    pub fn huge_pages(&mut self, group: &str, page_sizes: &[u64]) -> Vec<HugePageUsage> {
        page_sizes.iter().filter_map(|size| self.huge_pages_of(group, *size)).collect()
    }

    fn huge_pages_of(&mut self, group: &str, page_bytes: u64) -> Option<HugePageUsage> {
        let prefix = format!("hugetlb.{}", huge_page_name(page_bytes));
        let mut of = |file: &str| self.number(Controller::HugeTlb, group, &format!("{prefix}.{file}"));
        if of("usage_in_bytes").is_some() {
            let usage_bytes = of("rsvd.usage_in_bytes").or_else(|| of("usage_in_bytes"))?;
            let max_usage_bytes = of("rsvd.max_usage_in_bytes").or_else(|| of("max_usage_in_bytes"));
            let limit_hits = of("rsvd.failcnt").or_else(|| of("failcnt"));
            return Some(HugePageUsage { page_bytes, usage_bytes, max_usage_bytes, limit_hits });
        }
        let usage_bytes = of("rsvd.current").or_else(|| of("current"))?;
        let events = self.text(Controller::HugeTlb, group, &format!("{prefix}.events"));
        let limit_hits = events.and_then(|text| pairs(text).find(|(key, _)| *key == "max")).map(|(_, n)| n);
        Some(HugePageUsage { page_bytes, usage_bytes, max_usage_bytes: None, limit_hits })
    }
}
