//! RuntimeClasses: which runtime handler a pod asks for
//! (<https://kubernetes.io/docs/concepts/containers/runtime-class/>).

use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Client;
use kube::api::GetParams;
use kube::core::Request;

use crate::call::{Purpose, RequestError, call};

/// The handler a class names; `None` when there is no such class. Few pods name one, so it is
/// asked for when needed.
///
/// # Errors
/// The request failed.
pub async fn runtime_handler(client: &Client, class: &str) -> Result<Option<String>, RequestError> {
    let purpose = Purpose::new("get runtime class", class);
    let request = Request::new("/apis/node.k8s.io/v1/runtimeclasses").get(class, &GetParams::default());
    match call::<RuntimeClass>(client, &purpose, request).await {
        Ok(found) => Ok(Some(found.handler)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
