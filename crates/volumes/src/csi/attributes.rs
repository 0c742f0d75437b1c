//! What a driver is told of the pod that a volume is for: the pod's names, and tokens of its service account
//! (<https://kubernetes-csi.github.io/docs/pod-info.html>, <https://kubernetes-csi.github.io/docs/token-requests.html>).

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::storage::CsiDriver;
use model::{Pod, pod as pods};
use serde_json::json;

use super::{CsiError, CsiVolumes};
use crate::objects::{Objects, TokenSpec};
use crate::tokens::DEFAULT_EXPIRATION_SECONDS;

const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

fn service_account(pod: &Pod) -> String {
    pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone()).unwrap_or_default()
}

/// `podInfoOnMount`.
pub(super) fn pod_info(pod: &Pod, is_ephemeral: bool) -> [(String, String); 5] {
    let key = pods::key(pod);
    [
        ("pod.name", key.name.to_string()),
        ("pod.namespace", key.namespace.to_string()),
        ("pod.uid", pods::uid(pod).to_string()),
        ("serviceAccount.name", service_account(pod)),
        ("ephemeral", is_ephemeral.to_string()),
    ]
    .map(|(name, value)| (format!("csi.storage.k8s.io/{name}"), value))
}

impl<O: Objects> CsiVolumes<O> {
    /// `tokenRequests`: an attribute that is a secret.
    pub(super) async fn token_attribute(
        &self,
        pod: &Pod,
        driver: &CsiDriver,
    ) -> Result<Option<(String, String)>, CsiError> {
        if driver.object.token_requests.is_empty() {
            return Ok(None);
        }
        let (key, now) = (pods::key(pod), Timestamp::now());
        let mut tokens = BTreeMap::new();
        for request in &driver.object.token_requests {
            let seconds = request.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
            let spec = TokenSpec {
                pod_uid: pods::uid(pod),
                pod_name: key.name.to_string(),
                namespace: key.namespace.to_string(),
                service_account: service_account(pod),
                audience: Some(request.audience.clone()).filter(|audience| !audience.is_empty()),
                expiration_seconds: seconds.unwrap_or(DEFAULT_EXPIRATION_SECONDS),
            };
            let issued = self.tokens.get(&self.objects, &spec, now).await.map_err(CsiError::Token)?;
            let expires = issued.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let token = json!({ "token": issued.token, "expirationTimestamp": expires });
            tokens.insert(request.audience.clone(), token);
        }
        // Texts as keys cannot fail.
        let text = golang::json::to_string(&tokens).unwrap_or_default();
        Ok(Some((TOKENS.to_owned(), text)))
    }
}
