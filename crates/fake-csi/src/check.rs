//! Arguments of calls: what CSI requires to be there, with the code it requires when it is not.

use plugins::wire::csi::volume_capability::access_mode::Mode;
use plugins::wire::csi::volume_capability::{AccessMode, AccessType};
use plugins::wire::csi::{CapacityRange, VolumeCapability};
use tonic::Status;

/// All that there is room for, bytes.
pub(crate) const TOTAL_BYTES: i64 = 1 << 40;
/// How large a volume is when nobody says, bytes.
const USUAL_BYTES: i64 = 1 << 20;

/// Fails when a text is missing.
pub(crate) fn required(field: &str, value: &str) -> Result<(), Status> {
    if value.is_empty() { Err(Status::invalid_argument(format!("{field} is missing"))) } else { Ok(()) }
}

/// Fails when it is not said how a volume is to be used, or not in full.
pub(crate) fn required_use(capability: Option<&VolumeCapability>) -> Result<&VolumeCapability, Status> {
    let capability =
        capability.ok_or_else(|| Status::invalid_argument("the volume capability is missing"))?;
    if capability.access_type.is_none() || mode(capability) == Mode::Unknown {
        return Err(Status::invalid_argument("the volume capability has no access type or no access mode"));
    }
    Ok(capability)
}

/// Fails when it is not said how a volume is to be used, or not in full; there may be several ways.
pub(crate) fn required_uses(capabilities: &[VolumeCapability]) -> Result<(), Status> {
    if capabilities.is_empty() {
        return Err(Status::invalid_argument("the volume capabilities are missing"));
    }
    capabilities.iter().try_for_each(|capability| required_use(Some(capability)).map(drop))
}

/// By whom a volume is to be used.
pub(crate) fn mode(capability: &VolumeCapability) -> Mode {
    capability.access_mode.as_ref().map_or(Mode::Unknown, AccessMode::mode)
}

/// Whether this driver's volumes can be used so.
pub(crate) fn is_supported(capability: &VolumeCapability) -> bool {
    matches!(capability.access_type, Some(AccessType::Mount(_)))
}

/// The least size in a range, bytes.
pub(crate) fn size(range: Option<&CapacityRange>) -> Result<i64, Status> {
    let CapacityRange { required_bytes, limit_bytes } = range.copied().unwrap_or_default();
    if required_bytes < 0 || limit_bytes < 0 || (limit_bytes > 0 && required_bytes > limit_bytes) {
        let range = format!("at least {required_bytes} and at most {limit_bytes} bytes");
        return Err(Status::invalid_argument(format!("{range} is no range")));
    }
    if required_bytes > TOTAL_BYTES {
        return Err(Status::out_of_range(format!("there is room for {TOTAL_BYTES} bytes")));
    }
    Ok(match (required_bytes, limit_bytes) {
        (0, 0) => USUAL_BYTES,
        (0, limit) => limit.min(USUAL_BYTES),
        (required, _) => required,
    })
}

/// Whether a size is within a range.
pub(crate) fn is_within(bytes: i64, range: Option<&CapacityRange>) -> bool {
    let CapacityRange { required_bytes, limit_bytes } = range.copied().unwrap_or_default();
    bytes >= required_bytes && (limit_bytes == 0 || bytes <= limit_bytes)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn sizes() {
        for (required_bytes, limit_bytes, expected) in [
            (0, 0, Ok(USUAL_BYTES)),
            (5, 0, Ok(5)),
            (5, 5, Ok(5)),
            (0, 7, Ok(7)),
            (0, TOTAL_BYTES, Ok(USUAL_BYTES)),
            (6, 5, Err(Code::InvalidArgument)),
            (-1, 0, Err(Code::InvalidArgument)),
            (TOTAL_BYTES + 1, 0, Err(Code::OutOfRange)),
        ] {
            let range = CapacityRange { required_bytes, limit_bytes };
            let found = size(Some(&range)).map_err(|status| status.code());
            assert_eq!(found, expected, "{required_bytes} to {limit_bytes}");
        }
        assert_eq!(size(None).unwrap(), USUAL_BYTES);
    }
}
