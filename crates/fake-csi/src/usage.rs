//! What volumes take: the files in their folders, out of a size that is the same for all.

use host::disk_usage;
use plugins::wire::csi::VolumeUsage;
use plugins::wire::csi::volume_usage::Unit;
use tonic::Status;

use crate::check::required;
use crate::volumes::Volumes;

/// Bytes that each volume has room for.
const BYTES: u64 = 1 << 30;
/// Files and folders that each has room for.
const INODES: u64 = 1000;

impl Volumes {
    /// What a volume takes that is staged or published at a path.
    pub(crate) fn usage(&self, volume: &str, path: &str) -> Result<Vec<VolumeUsage>, Status> {
        required("volume_id", volume)?;
        required("volume_path", path)?;
        if !self.is_at(volume, path) {
            return Err(Status::not_found(format!("{volume} is not at {path}")));
        }
        let used = disk_usage::disk_usage(&self.content(volume), INODES);
        let used = used.map_err(|error| Status::internal(error.to_string()))?;
        Ok(vec![amounts(Unit::Bytes, BYTES, used.bytes), amounts(Unit::Inodes, INODES, used.inodes)])
    }
}

fn amounts(unit: Unit, total: u64, used: u64) -> VolumeUsage {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    VolumeUsage {
        available: number(total.saturating_sub(used)),
        total: number(total),
        used: number(used),
        unit: unit.into(),
    }
}
