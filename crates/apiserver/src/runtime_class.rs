//! RuntimeClasses: which runtime handler a pod asks for
//! (<https://kubernetes.io/docs/concepts/containers/runtime-class/>).

use std::collections::BTreeMap;

use futures::Stream;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Client;

use crate::call::Purpose;
use crate::keyed::follow;
use crate::watch::{Freshness, Watch};

/// The handlers that RuntimeClasses name, by the names of the classes: all of them whenever there are others than before. A
/// cluster has few. Never ends.
pub fn watch_runtime_classes(client: Client) -> impl Stream<Item = BTreeMap<String, String>> + Send {
    let purpose = Purpose::new("watch runtime classes in", "the cluster");
    let path = "/apis/node.k8s.io/v1/runtimeclasses";
    let watch = Watch::<RuntimeClass>::new(client, path, None, Freshness::Cached, purpose);
    follow(watch, |class| (class.metadata.name.unwrap_or_default(), class.handler))
}
