//! Input and output of every group by device, and the file systems that the root group shows.

use host::cgroup::stats::{DeviceIo, IoCost};

use super::{Family, Samples, counter, gauge, labelled, micros, millis, number};
use crate::cadvisor::disks::FileSystem;
use crate::cadvisor::group::{Device, Group};

/// A family with a sample for each device.
const fn by_device(family: Family) -> Family {
    labelled(family, &["device"])
}

pub(super) const FAMILIES: &[Family] = &[
    labelled(
        counter("container_blkio_device_usage_total", "Bytes read and written, by kind.", |g, out| {
            for device in &g.devices {
                let (major, minor) = (device.io.major.to_string(), device.io.minor.to_string());
                for (operation, bytes) in device.io.bytes.by_name() {
                    out.of(g, [&device.name, &major, &minor, operation], number(bytes));
                }
            }
            Some(())
        }),
        &["device", "major", "minor", "operation"],
    ),
    by_device(gauge("container_fs_inodes_free", "Free inodes of the file system.", |g, out| {
        each(g, out, |fs| number(fs.usage.inodes_free))
    })),
    by_device(gauge("container_fs_inodes_total", "Inodes of the file system.", |g, out| {
        each(g, out, |fs| number(fs.usage.inodes))
    })),
    by_device(counter(
        "container_fs_io_cost_indebt_seconds_total",
        "Device time taken in advance.",
        |g, out| costs(g, out, |cost| cost.indebt_micros),
    )),
    by_device(counter(
        "container_fs_io_cost_indelay_seconds_total",
        "Time slept off for such a debt.",
        |g, out| costs(g, out, |cost| cost.indelay_micros),
    )),
    by_device(counter(
        "container_fs_io_cost_usage_seconds_total",
        "Device time by the cost model.",
        |g, out| costs(g, out, |cost| cost.usage_micros),
    )),
    by_device(counter(
        "container_fs_io_cost_wait_seconds_total",
        "Time waited for device time.",
        |g, out| costs(g, out, |cost| cost.wait_micros),
    )),
    by_device(gauge("container_fs_io_current", "Requests under way.", |g, out| {
        each(g, out, |fs| number(fs.counters.in_progress))
    })),
    by_device(counter("container_fs_io_time_seconds_total", "Time with requests under way.", |g, out| {
        each(g, out, |fs| millis(fs.counters.busy_millis))
    })),
    by_device(counter(
        "container_fs_io_time_weighted_seconds_total",
        "Time with requests under way, multiplied by their number.",
        |g, out| each(g, out, |fs| millis(fs.counters.weighted_millis)),
    )),
    by_device(gauge("container_fs_limit_bytes", "Size of the file system, in bytes.", |g, out| {
        each(g, out, |fs| number(fs.usage.capacity))
    })),
    by_device(counter("container_fs_read_seconds_total", "Time that reads took.", |g, out| {
        each(g, out, |fs| millis(fs.counters.read_millis))
    })),
    by_device(counter("container_fs_reads_bytes_total", "Bytes read.", |g, out| {
        devices(g, out, |io| io.bytes.read);
        Some(())
    })),
    by_device(counter("container_fs_reads_merged_total", "Reads merged into others.", |g, out| {
        each(g, out, |fs| number(fs.counters.reads_merged))
    })),
    by_device(counter("container_fs_reads_total", "Reads.", |g, out| {
        devices(g, out, |io| io.operations.read);
        others(g, out, |fs| fs.counters.reads)
    })),
    by_device(counter("container_fs_sector_reads_total", "Sectors read.", |g, out| {
        each(g, out, |fs| number(fs.counters.sectors_read))
    })),
    by_device(counter("container_fs_sector_writes_total", "Sectors written.", |g, out| {
        each(g, out, |fs| number(fs.counters.sectors_written))
    })),
    by_device(gauge("container_fs_usage_bytes", "Bytes in use on the file system.", |g, out| {
        each(g, out, |fs| number(fs.usage.used))
    })),
    by_device(counter("container_fs_write_seconds_total", "Time that writes took.", |g, out| {
        each(g, out, |fs| millis(fs.counters.write_millis))
    })),
    by_device(counter("container_fs_writes_bytes_total", "Bytes written.", |g, out| {
        devices(g, out, |io| io.bytes.write);
        Some(())
    })),
    by_device(counter("container_fs_writes_merged_total", "Writes merged into others.", |g, out| {
        each(g, out, |fs| number(fs.counters.writes_merged))
    })),
    by_device(counter("container_fs_writes_total", "Writes.", |g, out| {
        devices(g, out, |io| io.operations.write);
        others(g, out, |fs| fs.counters.writes)
    })),
];

/// A sample for each file system.
fn each(group: &Group, out: &mut Samples<'_>, value: fn(&FileSystem) -> f64) -> Option<()> {
    for fs in &group.file_systems {
        out.of(group, [&fs.device], value(fs));
    }
    Some(())
}

/// A sample for each device.
fn devices(group: &Group, out: &mut Samples<'_>, count: fn(&DeviceIo) -> Option<u64>) {
    for device in named(group) {
        out.of(group, [&device.name], number(count(&device.io).unwrap_or(0)));
    }
}

/// The devices with different names. Two without one would have the same labels, which scrapers refuse:
/// the first stands for them.
fn named(group: &Group) -> impl Iterator<Item = &Device> {
    group.devices.iter().enumerate().filter_map(|(index, device)| {
        let earlier = group.devices.get(..index).unwrap_or_default();
        earlier.iter().all(|e| e.name != device.name).then_some(device)
    })
}

/// A sample for each file system whose device has none by [`devices`].
fn others(group: &Group, out: &mut Samples<'_>, count: fn(&FileSystem) -> u64) -> Option<()> {
    for fs in &group.file_systems {
        if group.devices.iter().all(|device| device.name != fs.device) {
            out.of(group, [&fs.device], number(count(fs)));
        }
    }
    Some(())
}

fn costs(group: &Group, out: &mut Samples<'_>, cost: fn(&IoCost) -> u64) -> Option<()> {
    for device in named(group) {
        if let Some(costs) = &device.io.cost {
            out.of(group, [&device.name], micros(cost(costs)));
        }
    }
    Some(())
}
