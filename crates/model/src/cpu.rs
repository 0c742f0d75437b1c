//! CPU requests as the kernel has them: shares on the scale of cgroup version 1, and the weight that the kubelet's own groups
//! have on version 2
//! (<https://github.com/kubernetes/enhancements/tree/master/keps/sig-node/2254-cgroup-v2>). Weights are coarser, so that what
//! is read back is seldom what was asked for.

/// The smallest `cpu.shares`: what a pod without a request gets.
pub const MIN_CPU_SHARES: u64 = 2;
/// The largest `cpu.shares` the kernel takes.
pub const MAX_CPU_SHARES: u64 = 262_144;

const SHARES_PER_CPU: u64 = 1024;
const MAX_WEIGHT: u64 = 10_000;

/// `cpu.shares` for a request in thousandths of a core.
pub fn cpu_shares(millis: u64) -> u64 {
    (millis.saturating_mul(SHARES_PER_CPU) / 1000).clamp(MIN_CPU_SHARES, MAX_CPU_SHARES)
}

/// `cpu.weight` (version 2) for `cpu.shares`, on the straight line the kubelet draws for its own
/// groups. Runtimes draw a curve for containers; that is theirs.
pub fn cpu_weight(shares: u64) -> u64 {
    let shares = shares.clamp(MIN_CPU_SHARES, MAX_CPU_SHARES);
    1 + (shares - MIN_CPU_SHARES) * (MAX_WEIGHT - 1) / (MAX_CPU_SHARES - MIN_CPU_SHARES)
}

/// The `cpu.shares` that a `cpu.weight` stands for on that line; `None` for what is no weight.
pub fn shares_of_weight(weight: u64) -> Option<u64> {
    (1..=MAX_WEIGHT)
        .contains(&weight)
        .then(|| MIN_CPU_SHARES + (weight - 1) * (MAX_CPU_SHARES - MIN_CPU_SHARES) / (MAX_WEIGHT - 1))
}

/// The request in thousandths of a core that `cpu.shares` stand for, rounded up; `None` below the least.
pub fn millis_of_shares(shares: u64) -> Option<u64> {
    (shares >= MIN_CPU_SHARES).then(|| shares.saturating_mul(1000).div_ceil(SHARES_PER_CPU))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Upstream's `TestSharesToMilliCPU` and `TestCPUSharesEqualAfterV2RoundTrip`, as far as values go.
    #[test]
    fn what_is_asked_for_and_read_back() {
        for (millis, shares, weight, back) in [
            (0, 2, 1, Some(2)),
            (1, 2, 1, Some(2)),
            (100, 102, 4, Some(79)),
            (210, 215, 9, Some(207)),
            (250, 256, 10, Some(232)),
            (1000, 1024, 39, Some(975)),
            (1_000_000, 262_144, 10_000, Some(256_000)),
        ] {
            let found = cpu_shares(millis);
            assert_eq!((found, cpu_weight(found)), (shares, weight), "{millis}");
            let read = shares_of_weight(weight).and_then(millis_of_shares);
            assert_eq!(read, back, "{millis}");
            assert_eq!(millis_of_shares(shares).map(cpu_shares), Some(shares), "{millis}");
        }
        assert_eq!([0, 10_001].map(shares_of_weight), [None, None]);
        assert_eq!([0, 1].map(millis_of_shares), [None, None]);
    }
}
