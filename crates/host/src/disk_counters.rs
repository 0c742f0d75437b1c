//! What block devices did since boot, `/proc/diskstats` (format: the kernel's
//! `Documentation/admin-guide/iostats.rst`).

use std::path::Path;

use crate::text::{self, FileError};

/// Counters of one block device or partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskCounters {
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// Its name below `/dev`.
    pub name: String,
    /// Reads completed.
    pub reads: u64,
    /// Reads that were merged into others.
    pub reads_merged: u64,
    /// Sectors of 512 bytes read.
    pub sectors_read: u64,
    /// Time that reads took, milliseconds.
    pub read_millis: u64,
    /// Writes completed.
    pub writes: u64,
    /// Writes that were merged into others.
    pub writes_merged: u64,
    /// Sectors of 512 bytes written.
    pub sectors_written: u64,
    /// Time that writes took, milliseconds.
    pub write_millis: u64,
    /// Requests under way.
    pub in_progress: u64,
    /// Time with requests under way, milliseconds.
    pub busy_millis: u64,
    /// That time multiplied by the requests under way, milliseconds.
    pub weighted_millis: u64,
}

/// Reads the counters of all devices.
pub fn disk_counters() -> Result<Vec<DiskCounters>, FileError> {
    Ok(parse(&text::read(Path::new("/proc/diskstats"))?))
}

/// Lines that are too short are skipped; newer kernels append fields.
fn parse(text: &str) -> Vec<DiskCounters> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<DiskCounters> {
    let mut fields = line.split_ascii_whitespace();
    let (major, minor) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let name = fields.next()?.to_owned();
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(DiskCounters {
        major,
        minor,
        name,
        reads: next()?,
        reads_merged: next()?,
        sectors_read: next()?,
        read_millis: next()?,
        writes: next()?,
        writes_merged: next()?,
        sectors_written: next()?,
        write_millis: next()?,
        in_progress: next()?,
        busy_millis: next()?,
        weighted_millis: next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_old_and_new_kernels() {
        let text = " 8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n 253 1 dm-1 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15\n8 1 sda1 1 2\nx\n";
        let sda = DiskCounters {
            major: 8,
            minor: 0,
            name: "sda".to_owned(),
            reads: 1,
            reads_merged: 2,
            sectors_read: 3,
            read_millis: 4,
            writes: 5,
            writes_merged: 6,
            sectors_written: 7,
            write_millis: 8,
            in_progress: 9,
            busy_millis: 10,
            weighted_millis: 11,
        };
        let dm = DiskCounters { major: 253, minor: 1, name: "dm-1".to_owned(), ..sda.clone() };
        assert_eq!(parse(text), [sda, dm]);
        assert!(disk_counters().is_ok());
    }
}
