//! What the node says in a claim's status of the growth of its volume. Each write is one patch, with the claim's uid as its
//! condition, and says the same when it is repeated.

use jiff::Timestamp;
use k8s_openapi::Resource as _;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Client;
use kube::api::{Patch, PatchParams};
use kube::core::Request;
use model::Quantity;
use model::storage::ClaimName;
use serde_json::{Value, json};

use crate::call::{Purpose, RequestError, call};

/// The conditions that are about growth: they go when it is over.
const CONDITIONS: [&str; 4] =
    ["Resizing", "FileSystemResizePending", "ControllerResizeError", "NodeResizeError"];

/// How far the node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResizeReport {
    /// The driver is about to be asked.
    InProgress,
    /// The volume has grown to so many bytes.
    Finished(u64),
    /// It could not be grown, and may be tried again.
    Failed(String),
    /// It cannot be grown so far: the controller has to decide what now.
    Infeasible(String),
}

/// Writes it.
///
/// # Errors
/// The request failed.
pub async fn report_resize(
    client: &Client,
    claim: &ClaimName,
    uid: &str,
    report: &ResizeReport,
    now: Timestamp,
) -> Result<(), RequestError> {
    let purpose = Purpose::new("patch status of PersistentVolumeClaim", claim.to_string());
    let patch = Patch::Strategic(json!({
        "apiVersion": PersistentVolumeClaim::API_VERSION,
        "kind": PersistentVolumeClaim::KIND,
        "metadata": { "uid": uid },
        "status": status(report, now),
    }));
    let path = format!("/api/v1/namespaces/{}/persistentvolumeclaims", claim.namespace);
    let request =
        Request::new(path).patch_subresource("status", &claim.name, &PatchParams::default(), &patch);
    call::<PersistentVolumeClaim>(client, &purpose, request).await.map(drop)
}

fn status(report: &ResizeReport, now: Timestamp) -> Value {
    let error = |message: &str| {
        let at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let message = format!("failed to expand pvc with {message}");
        json!([{ "type": "NodeResizeError", "status": "True", "lastTransitionTime": at, "message": message }])
    };
    match report {
        ResizeReport::InProgress => {
            json!({ "allocatedResourceStatuses": { "storage": "NodeResizeInProgress" } })
        }
        ResizeReport::Finished(bytes) => {
            let size = Quantity::from_units(i64::try_from(*bytes).unwrap_or(i64::MAX)).to_binary_api();
            let gone = CONDITIONS.map(|condition| json!({ "$patch": "delete", "type": condition }));
            json!({
                "capacity": { "storage": size },
                "allocatedResourceStatuses": { "storage": null },
                "conditions": gone,
            })
        }
        ResizeReport::Failed(message) => json!({ "conditions": error(message) }),
        ResizeReport::Infeasible(message) => json!({
            "allocatedResourceStatuses": { "storage": "NodeResizeInfeasible" },
            "conditions": error(message),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written() {
        let of = |report: ResizeReport| status(&report, Timestamp::UNIX_EPOCH);
        assert_eq!(
            of(ResizeReport::InProgress)["allocatedResourceStatuses"]["storage"],
            "NodeResizeInProgress"
        );
        let finished = of(ResizeReport::Finished(2 << 20));
        assert_eq!(finished["capacity"]["storage"], "2Mi");
        assert_eq!(finished["allocatedResourceStatuses"], json!({ "storage": null }));
        assert_eq!(
            finished["conditions"][1],
            json!({ "$patch": "delete", "type": "FileSystemResizePending" })
        );
        let failed = of(ResizeReport::Failed("no".to_owned()));
        assert!(failed.get("allocatedResourceStatuses").is_none());
        let condition = json!({
            "type": "NodeResizeError", "status": "True", "lastTransitionTime": "1970-01-01T00:00:00Z",
            "message": "failed to expand pvc with no",
        });
        assert_eq!(failed["conditions"], json!([condition]));
        let infeasible = of(ResizeReport::Infeasible("no".to_owned()));
        assert_eq!(infeasible["allocatedResourceStatuses"]["storage"], "NodeResizeInfeasible");
        assert_eq!(infeasible["conditions"], json!([condition]));
    }
}
