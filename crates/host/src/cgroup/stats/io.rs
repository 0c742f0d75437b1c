//! Input and output of a group, by device.

use super::{Controller, GroupReader};

/// What a group read from and wrote to one device since the group was made, groups below included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceIo {
    /// The device's major number.
    pub major: u32,
    /// The device's minor number.
    pub minor: u32,
    /// Bytes.
    pub bytes: IoCounts,
    /// Requests.
    pub operations: IoCounts,
    /// What the kernel's cost model charged. Version 2 only, where it is switched on.
    pub cost: Option<IoCost>,
}

/// A count for each kind of request. Those that the kernel does not tell are absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoCounts {
    /// Reads.
    pub read: Option<u64>,
    /// Writes.
    pub write: Option<u64>,
    /// Requests somebody waits for. Version 1 only.
    pub sync: Option<u64>,
    /// The others. Version 1 only.
    pub async_: Option<u64>,
    /// Discards. Version 1 only.
    pub discard: Option<u64>,
    /// All together. Version 1 only.
    pub total: Option<u64>,
}

/// Device time by the kernel's cost model, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoCost {
    /// Used.
    pub usage_micros: u64,
    /// Waited for.
    pub wait_micros: u64,
    /// Taken in advance.
    pub indebt_micros: u64,
    /// Slept off for that.
    pub indelay_micros: u64,
}

impl IoCounts {
    /// Each count that there is, by the name that upstream's metrics have for it, in alphabetical
    /// order.
    pub fn by_name(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = [
            ("Async", self.async_),
            ("Discard", self.discard),
            ("Read", self.read),
            ("Sync", self.sync),
            ("Total", self.total),
            ("Write", self.write),
        ];
        all.into_iter().filter_map(|(name, count)| Some((name, count?)))
    }

    fn set(&mut self, operation: &str, count: u64) {
        let field = match operation {
            "Read" => &mut self.read,
            "Write" => &mut self.write,
            "Sync" => &mut self.sync,
            "Async" => &mut self.async_,
            "Discard" => &mut self.discard,
            "Total" => &mut self.total,
            _ => return,
        };
        *field = Some(count);
    }
}

/// The files that version 1 may have, requests and bytes: of the BFQ scheduler, of the former CFQ
/// scheduler, and of throttling, which counts independently of schedulers. The first that knows a
/// device counts.
const V1_FILES: [(&str, &str); 4] = [
    ("blkio.bfq.io_serviced_recursive", "blkio.bfq.io_service_bytes_recursive"),
    ("blkio.io_serviced_recursive", "blkio.io_service_bytes_recursive"),
    ("blkio.throttle.io_serviced_recursive", "blkio.throttle.io_service_bytes_recursive"),
    ("blkio.throttle.io_serviced", "blkio.throttle.io_service_bytes"),
];

impl GroupReader {
    /// Input and output of the group by device; empty if there was none.
    pub fn io(&mut self, group: &str) -> Option<Vec<DeviceIo>> {
        if self.is_v1() {
            return self.io_of_v1(group);
        }
        let text = self.text(Controller::Io, group, "io.stat")?;
        Some(text.lines().filter_map(device_of_v2).collect())
    }

    fn io_of_v1(&mut self, group: &str) -> Option<Vec<DeviceIo>> {
        let mut is_counted = false;
        for (operations, bytes) in V1_FILES {
            let Some(text) = self.text(Controller::Io, group, operations) else { continue };
            is_counted = true;
            let mut devices = Vec::new();
            read_v1(text, &mut devices, |device| &mut device.operations);
            if devices.is_empty() {
                continue;
            }
            let text = self.text(Controller::Io, group, bytes).unwrap_or("");
            read_v1(text, &mut devices, |device| &mut device.bytes);
            return Some(devices);
        }
        is_counted.then(Vec::new)
    }
}

/// Lines such as `8:0 Read 4096`, and a last one `Total 4096` that names no device.
fn read_v1(text: &str, devices: &mut Vec<DeviceIo>, counts: fn(&mut DeviceIo) -> &mut IoCounts) {
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(device), Some(operation), Some(count)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (Some((major, minor)), Ok(count)) = (numbers(device), count.parse()) else { continue };
        let known = devices.iter().position(|d| d.major == major && d.minor == minor);
        let index = known.unwrap_or_else(|| {
            devices.push(DeviceIo { major, minor, ..DeviceIo::default() });
            devices.len() - 1
        });
        if let Some(device) = devices.get_mut(index) {
            counts(device).set(operation, count);
        }
    }
}

/// A line such as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0 cost.usage=7`. Devices that
/// were never used may be listed with their numbers alone.
fn device_of_v2(line: &str) -> Option<DeviceIo> {
    let mut fields = line.split_ascii_whitespace();
    let (major, minor) = numbers(fields.next()?)?;
    let mut device = DeviceIo { major, minor, ..DeviceIo::default() };
    for (key, value) in fields.filter_map(|f| f.split_once('=')) {
        let Ok(value) = value.parse::<u64>() else { continue };
        match key {
            "rbytes" => device.bytes.read = Some(value),
            "wbytes" => device.bytes.write = Some(value),
            "rios" => device.operations.read = Some(value),
            "wios" => device.operations.write = Some(value),
            "cost.usage" => device.cost.get_or_insert_default().usage_micros = value,
            "cost.wait" => device.cost.get_or_insert_default().wait_micros = value,
            "cost.indebt" => device.cost.get_or_insert_default().indebt_micros = value,
            "cost.indelay" => device.cost.get_or_insert_default().indelay_micros = value,
            _ => {}
        }
    }
    (device.bytes.read.is_some() || device.cost.is_some()).then_some(device)
}

fn numbers(device: &str) -> Option<(u32, u32)> {
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
