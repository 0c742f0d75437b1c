//! Whether a call that failed may have been carried out all the same.

use tonic::Code;

use crate::call::CallFailure;

/// What a failed call says of the volume
/// (<https://github.com/container-storage-interface/spec/blob/master/spec.md#error-scheme>; gRPC's `statuscodes.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// The call has not been carried out, nor is it being carried out.
    Final,
    /// It may have been carried out, or still be.
    Uncertain,
    /// The driver is at another call for this volume (`ABORTED`): it was not begun, and what came before may still be under
    /// way.
    Busy,
}

impl CallFailure {
    /// What the failure says of the volume that the call was for. The codes are those that upstream takes for not final.
    pub fn certainty(&self) -> Certainty {
        match self {
            // Nothing was sent. What an earlier call does is not known for it, as upstream has it.
            Self::Connect(_) | Self::Silent => Certainty::Uncertain,
            Self::Refused(status) => match status.code() {
                Code::Cancelled | Code::DeadlineExceeded | Code::Unavailable | Code::ResourceExhausted => {
                    Certainty::Uncertain
                }
                Code::Aborted => Certainty::Busy,
                _ => Certainty::Final,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tonic::Status;

    use super::*;

    #[test]
    fn codes() {
        for (code, certainty) in [
            (Code::Cancelled, Certainty::Uncertain),
            (Code::DeadlineExceeded, Certainty::Uncertain),
            (Code::Unavailable, Certainty::Uncertain),
            (Code::ResourceExhausted, Certainty::Uncertain),
            (Code::Aborted, Certainty::Busy),
            (Code::Unknown, Certainty::Final),
            (Code::InvalidArgument, Certainty::Final),
            (Code::NotFound, Certainty::Final),
            (Code::AlreadyExists, Certainty::Final),
            (Code::PermissionDenied, Certainty::Final),
            (Code::FailedPrecondition, Certainty::Final),
            (Code::OutOfRange, Certainty::Final),
            (Code::Unimplemented, Certainty::Final),
            (Code::Internal, Certainty::Final),
            (Code::DataLoss, Certainty::Final),
            (Code::Unauthenticated, Certainty::Final),
        ] {
            assert_eq!(CallFailure::Refused(Status::new(code, "")).certainty(), certainty, "{code:?}");
        }
        assert_eq!(CallFailure::Silent.certainty(), Certainty::Uncertain);
        let nobody = CallFailure::Connect(io::ErrorKind::ConnectionRefused.into());
        assert_eq!(nobody.certainty(), Certainty::Uncertain);
    }
}
