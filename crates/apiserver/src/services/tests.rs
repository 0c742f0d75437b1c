//! Services reduced to what environment variables need.

use serde_json::{Value, json};

use super::*;
use crate::fake::{Fake, Reply, list};

fn service(name: &str, address: &str) -> Value {
    json!({"metadata": {"namespace": "ns", "name": name, "resourceVersion": "3"}, "spec": {"clusterIP": address, "ports": [{"port": 80, "targetPort": 8080}]}})
}

#[tokio::test]
async fn services_with_an_address_are_known_by_namespace() {
    let lines = vec![
        json!({"type": "ADDED", "object": service("b", "10.0.0.2")}),
        json!({"type": "MODIFIED", "object": service("a", "None")}),
        json!({"type": "DELETED", "object": service("gone", "10.0.0.3")}),
        json!({"type": "ADDED", "object": service("last", "10.0.0.4")}),
    ];
    let items = json!([service("a", "10.0.0.1"), service("headless", "None"), service("gone", "10.0.0.3")]);
    let fake = Fake::scripted(vec![list("3", items), Reply::Lines(lines)]).await;
    let (index, task) = ServiceIndex::new(fake.connection.api.clone());
    assert!(!index.is_synced());
    let running = tokio::spawn(task.run());
    index.synced().await;
    let mut view = index.0.clone();
    view.wait_for(|known| known.namespaces.get("ns").is_some_and(|all| all.contains_key("last")))
        .await
        .unwrap();
    let known = index.for_namespace("ns");
    assert_eq!(known.keys().collect::<Vec<_>>(), ["b", "last"]);
    assert_eq!(known["b"].ports, [ServicePortView { name: String::new(), protocol: "TCP".into(), port: 80 }]);
    assert!(index.for_namespace("other").is_empty());
    running.abort();
}
