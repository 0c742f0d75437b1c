//! RuntimeClasses: which runtime handler a pod asks for
//! (<https://kubernetes.io/docs/concepts/containers/runtime-class/>).

use std::collections::BTreeMap;

use futures::Stream;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Client;

use crate::call::Purpose;
use crate::watch::{Change, Freshness, Watch};

/// The handlers that RuntimeClasses name, by the names of the classes: all of them whenever there are others than before. A
/// cluster has few. Never ends.
pub fn watch_runtime_classes(client: Client) -> impl Stream<Item = BTreeMap<String, String>> + Send {
    let purpose = Purpose::new("watch runtime classes in", "the cluster");
    let path = "/apis/node.k8s.io/v1/runtimeclasses";
    let watch = Watch::<RuntimeClass>::new(client, path, None, Freshness::Cached, purpose);
    let state = (watch, None);
    futures::stream::unfold(state, |(mut watch, mut known)| async move {
        loop {
            let mut all: BTreeMap<String, String> = known.clone().unwrap_or_default();
            apply(&mut all, watch.next().await);
            if known.as_ref() != Some(&all) {
                known = Some(all.clone());
                return Some((all, (watch, known)));
            }
        }
    })
}

fn apply(all: &mut BTreeMap<String, String>, change: Change<RuntimeClass>) {
    let entry = |class: RuntimeClass| (class.metadata.name.unwrap_or_default(), class.handler);
    match change {
        Change::Listed(classes) => *all = classes.into_iter().map(entry).collect(),
        Change::Applied(class) => all.extend([entry(class)]),
        Change::Deleted(class) => {
            all.remove(&entry(class).0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, handler: &str) -> RuntimeClass {
        let mut class = RuntimeClass { handler: handler.to_owned(), ..RuntimeClass::default() };
        class.metadata.name = Some(name.to_owned());
        class
    }

    #[test]
    fn the_set_follows_what_happens_to_it() {
        let mut all = BTreeMap::new();
        let mut after = |change| {
            apply(&mut all, change);
            all.iter().map(|(name, handler)| format!("{name}={handler}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(after(Change::Listed(vec![class("a", "x"), class("b", "y")])), "a=x b=y");
        assert_eq!(after(Change::Applied(class("c", "z"))), "a=x b=y c=z");
        assert_eq!(after(Change::Deleted(class("a", "x"))), "b=y c=z");
        assert_eq!(after(Change::Listed(vec![])), "");
    }
}
