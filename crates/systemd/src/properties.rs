//! Limits in the words of systemd's units.

use host::cgroup::{CgroupLimits, cpu_weight};

/// `CPUQuotaPeriodUSec` exists since this version.
const QUOTA_PERIOD_SINCE: u32 = 242;
/// `AllowedCPUs` exists since this version.
const ALLOWED_CPUS_SINCE: u32 = 244;

/// A property of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Its name, as in `systemctl show`.
    pub name: &'static str,
    /// What it is set to.
    pub value: Value,
}

/// The types of the properties that are used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Yes or no.
    Bool(bool),
    /// A number; `u64::MAX` is infinity.
    Number(u64),
    /// A text.
    Text(String),
    /// Names of units.
    Units(Vec<String>),
    /// A set of small numbers, one bit each, the lowest first.
    Bits(Vec<u8>),
}

/// What a slice is started with: where it belongs, and that everything in it is counted.
pub fn of_new_slice(name: &str, parent: &str, cgroup_version: u8) -> Vec<Property> {
    let input_output = if cgroup_version == 1 { "BlockIOAccounting" } else { "IOAccounting" };
    let mut all = vec![
        // As upstream's library says it, which is what operators know from `systemctl status`.
        property("Description", Value::Text(format!("libcontainer container {name}"))),
        property("Wants", Value::Units(vec![parent.to_owned()])),
    ];
    let accounting = ["MemoryAccounting", "CPUAccounting", input_output, "TasksAccounting"];
    all.extend(accounting.map(|name| property(name, Value::Bool(true))));
    // Pods end before their slices do, by the kubelet and not by the order of a shutdown.
    all.push(property("DefaultDependencies", Value::Bool(false)));
    all
}

/// The limits systemd has a word for. The others are for files alone, which systemd then leaves alone.
pub fn of_limits(limits: &CgroupLimits, cgroup_version: u8, systemd_version: u32) -> Vec<Property> {
    let is_v1 = cgroup_version == 1;
    let number = |name, value: Option<u64>| value.map(|value| property(name, Value::Number(value)));
    let mut all = Vec::new();
    all.extend(number(if is_v1 { "MemoryLimit" } else { "MemoryMax" }, limits.memory_limit_bytes));
    if is_v1 {
        all.extend(number("CPUShares", limits.cpu_shares));
    } else {
        all.extend(number("CPUWeight", limits.cpu_shares.map(cpu_weight)));
        all.extend(number("MemoryMin", limits.memory_min_bytes));
        all.extend(number("MemoryLow", limits.memory_low_bytes));
        all.extend(number("MemoryHigh", limits.memory_high_bytes));
    }
    let period = limits.cpu_period_us.filter(|_| systemd_version >= QUOTA_PERIOD_SINCE);
    all.extend(number("CPUQuotaPeriodUSec", period));
    all.extend(number("CPUQuotaPerSecUSec", limits.cpu_quota_per_sec_us()));
    // systemd does not take zero tasks.
    all.extend(number("TasksMax", limits.pids_max.map(|max| max.max(1))));
    if systemd_version >= ALLOWED_CPUS_SINCE
        && let Some(bits) = limits.cpus.as_deref().and_then(bits)
    {
        all.push(property("AllowedCPUs", Value::Bits(bits)));
    }
    all
}

fn property(name: &'static str, value: Value) -> Property {
    Property { name, value }
}

/// More CPUs than any kernel has; a bound for lists from outside.
const MOST_CPUS: usize = 1 << 16;

/// `0-2,8` as bits; `None` if it is no such list, or empty.
fn bits(list: &str) -> Option<Vec<u8>> {
    let mut bits = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last >= MOST_CPUS || last < first {
            return None;
        }
        bits.resize(bits.len().max(last / 8 + 1), 0);
        for cpu in first..=last {
            if let Some(byte) = bits.get_mut(cpu / 8) {
                *byte |= 1 << (cpu % 8);
            }
        }
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(properties: &[Property]) -> Vec<String> {
        properties.iter().map(|p| format!("{}={:?}", p.name, p.value)).collect()
    }

    #[test]
    fn cpu_lists_become_bits() {
        for (list, expected) in [
            ("0", Some(vec![1])),
            ("0-3", Some(vec![0b1111])),
            ("1,8-9", Some(vec![0b10, 0b11])),
            ("16", Some(vec![0, 0, 1])),
            ("", None),
            ("3-1", None),
            ("x", None),
            ("0-99999999", None),
        ] {
            assert_eq!(bits(list), expected, "{list}");
        }
    }

    #[test]
    fn a_new_slice_belongs_somewhere_and_is_counted() {
        let expected = |input_output: &str| {
            [
                r#"Description=Text("libcontainer container kubepods-pod1.slice")"#.to_owned(),
                r#"Wants=Units(["kubepods.slice"])"#.to_owned(),
                "MemoryAccounting=Bool(true)".to_owned(),
                "CPUAccounting=Bool(true)".to_owned(),
                format!("{input_output}=Bool(true)"),
                "TasksAccounting=Bool(true)".to_owned(),
                "DefaultDependencies=Bool(false)".to_owned(),
            ]
        };
        for (version, input_output) in [(1, "BlockIOAccounting"), (2, "IOAccounting")] {
            let made = of_new_slice("kubepods-pod1.slice", "kubepods.slice", version);
            assert_eq!(text(&made), expected(input_output));
        }
    }

    #[test]
    fn limits_are_said_in_the_words_of_the_version() {
        let limits = CgroupLimits {
            cpu_shares: Some(1024),
            cpu_quota_us: Some(12_300),
            cpu_period_us: Some(100_000),
            memory_limit_bytes: Some(64 << 20),
            memory_min_bytes: Some(0),
            memory_low_bytes: Some(5),
            memory_high_bytes: Some(6),
            cpus: Some("0-1".to_owned()),
            pids_max: Some(0),
            hugetlb: Some(vec![]),
        };
        let v2 = [
            "MemoryMax=Number(67108864)",
            "CPUWeight=Number(39)",
            "MemoryMin=Number(0)",
            "MemoryLow=Number(5)",
            "MemoryHigh=Number(6)",
            "CPUQuotaPeriodUSec=Number(100000)",
            "CPUQuotaPerSecUSec=Number(130000)",
            "TasksMax=Number(1)",
            "AllowedCPUs=Bits([3])",
        ];
        assert_eq!(text(&of_limits(&limits, 2, 252)), v2);
        let v1 = [
            "MemoryLimit=Number(67108864)",
            "CPUShares=Number(1024)",
            "CPUQuotaPerSecUSec=Number(130000)",
            "TasksMax=Number(1)",
        ];
        assert_eq!(text(&of_limits(&limits, 1, 239)), v1);
        assert_eq!(of_limits(&CgroupLimits::default(), 2, 252), []);
        let unlimited = CgroupLimits { cpu_quota_us: Some(-1), ..CgroupLimits::default() };
        assert_eq!(
            text(&of_limits(&unlimited, 2, 252)),
            [format!("CPUQuotaPerSecUSec=Number({})", u64::MAX)]
        );
    }
}
