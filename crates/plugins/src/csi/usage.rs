//! What a driver says of the room in a volume.

use model::storage::{Amounts, VolumeUsage};

use super::call;
use crate::call::CallError;
use crate::wire::csi::node_client::NodeClient;
use crate::wire::csi::volume_usage::Unit;
use crate::wire::csi::{NodeGetVolumeStatsRequest, VolumeUsage as Usage};

/// How much of a volume is used, which is published at `path`. A unit that the driver leaves out counts as zero, as upstream
/// has it; `None` when the driver says nothing at all.
///
/// # Errors
/// The driver cannot be reached, does not answer, or refuses.
pub async fn node_get_volume_stats(
    endpoint: &str,
    handle: &str,
    path: &str,
) -> Result<Option<VolumeUsage>, CallError> {
    let request = NodeGetVolumeStatsRequest {
        volume_id: handle.to_owned(),
        volume_path: path.to_owned(),
        ..NodeGetVolumeStatsRequest::default()
    };
    let ask = |channel| async move { NodeClient::new(channel).node_get_volume_stats(request).await };
    let answer = call("NodeGetVolumeStats", endpoint).ask(ask).await?;
    Ok(usage(&answer.usage))
}

fn usage(told: &[Usage]) -> Option<VolumeUsage> {
    let mut usage = VolumeUsage::default();
    for of_unit in told {
        match of_unit.unit() {
            Unit::Bytes => usage.bytes = amounts(of_unit),
            Unit::Inodes => usage.inodes = amounts(of_unit),
            Unit::Unknown => {}
        }
    }
    (!told.is_empty()).then_some(usage)
}

/// Nobody has less than nothing.
fn amounts(told: &Usage) -> Amounts {
    let number = |number: i64| u64::try_from(number).unwrap_or_default();
    Amounts { total: number(told.total), used: number(told.used), available: number(told.available) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        let told = |unit: Unit, total| Usage { total, used: 2, available: -1, unit: unit.into() };
        let amounts = |total| Amounts { total, used: 2, available: 0 };
        assert_eq!(usage(&[]), None);
        assert_eq!(
            usage(&[told(Unit::Unknown, 9), told(Unit::Bytes, 5), told(Unit::Bytes, 7)]),
            Some(VolumeUsage { bytes: amounts(7), inodes: Amounts::default() })
        );
        let both = usage(&[told(Unit::Inodes, 3), told(Unit::Bytes, 5)]);
        assert_eq!(both, Some(VolumeUsage { bytes: amounts(5), inodes: amounts(3) }));
    }
}
