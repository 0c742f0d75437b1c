//! Growth of a volume on the node: the driver makes its file system larger, and the status of its claim tells of it.

use apiserver::ResizeReport;
use model::PodUid;
use model::storage::{ClaimName, CsiDriver, CsiVolume, Growth};
use node::{Failure, FailureKind, Outcome};
use tracing::warn;
use volumes::ExpandError;

use super::storage::Storage;

impl Storage {
    /// Has a volume grown, and lets its claim tell of it: before, so that the controller leaves it alone, and afterwards.
    pub(super) async fn grow(&self, growing: &Growing<'_>, claim: &ClaimName, claim_uid: &str) -> Outcome {
        let Growing { volume, driver, uid, growth } = *growing;
        let report = async |report: ResizeReport| self.api.report_resize(claim, claim_uid, &report).await;
        if growth.has_steps
            && !growth.is_told
            && let Err(error) = report(ResizeReport::InProgress).await
        {
            let error = model::chain(&error);
            return failed(FailureKind::NotBegun, format!("mark node expansion in progress: {error}"));
        }
        let error = match self.csi.expand(volume, driver, uid, growth.size).await {
            Ok(()) if growth.is_told => return Outcome::Done,
            Ok(()) => {
                return match report(ResizeReport::Finished(growth.size)).await {
                    Ok(()) => Outcome::Done,
                    // It is repeated as a whole, which the driver takes for done.
                    Err(error) => {
                        let error = model::chain(&error);
                        let message =
                            format!("mountVolume.NodeExpandVolume update pvc status failed: {error}");
                        failed(FailureKind::Uncertain, message)
                    }
                };
            }
            Err(error) => error,
        };
        let (kind, message) = (kind_of(&error), error.to_string());
        // A driver that cannot now, or does not answer, has said nothing of the size.
        let is_final = matches!(kind, FailureKind::Other | FailureKind::InUse);
        if growth.has_steps && is_final {
            let is_infeasible = matches!(error, ExpandError::Infeasible(_)) || growth.is_outdated;
            let said = match is_infeasible {
                true => ResizeReport::Infeasible(message.clone()),
                false => ResizeReport::Failed(message.clone()),
            };
            if let Err(error) = report(said).await {
                let err = model::chain(&error);
                warn!(%claim, err, "Failed to mark node expansion as failed, will retry with the next one");
            }
        }
        failed(kind, message)
    }
}

/// A volume, and what is to be done with it.
#[derive(Clone, Copy)]
pub(super) struct Growing<'a> {
    pub(super) volume: CsiVolume<'a>,
    pub(super) driver: &'a CsiDriver,
    pub(super) uid: &'a PodUid,
    pub(super) growth: &'a Growth,
}

fn failed(kind: FailureKind, message: String) -> Outcome {
    Outcome::Failed(Failure { kind, message })
}

fn kind_of(error: &ExpandError) -> FailureKind {
    match error {
        ExpandError::Prepare(_) => FailureKind::NotBegun,
        ExpandError::InUse(_) => FailureKind::InUse,
        ExpandError::Unsupported(_) | ExpandError::Infeasible(_) => FailureKind::Other,
        ExpandError::Call(cause) => super::storage::kind_of_call(Some(cause.certainty())),
    }
}
