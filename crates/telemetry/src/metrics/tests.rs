//! Pages as a scraper sees them.

use super::*;
use config::FeatureGates;

fn page(metrics: &Metrics, endpoint: Endpoint) -> String {
    let mut out = Exposition::new();
    metrics.write(endpoint, &mut out).unwrap();
    out.into_text()
}

#[test]
fn a_quiet_kubelet_shows_what_has_no_labels() {
    let metrics = Metrics::default();
    let text = page(&metrics, Endpoint::Main);
    assert!(text.contains("# TYPE kubelet_running_pods gauge\nkubelet_running_pods 0\n"), "{text}");
    assert!(text.contains("kubelet_pod_start_duration_seconds_bucket{le=\"+Inf\"} 0\n"));
    assert!(!text.contains("kubelet_runtime_operations_total"));
}

#[test]
fn counters_gauges_and_histograms_add_up() {
    let metrics = Metrics::default();
    metrics.node_name.with(["n\"1"]).set(1.0);
    metrics.runtime_operations.with(["version"]).increment();
    metrics.runtime_operations.with(["version"]).add(2);
    let duration = metrics.runtime_operations_duration.with(["version"]);
    for seconds in [0.001, 0.005, 0.2, 1000.0] {
        duration.observe(seconds);
    }
    metrics.running_pods.add(3.0);
    metrics.running_pods.add(-1.0);
    metrics.desired_pods.with(["true"]).set(1.0);
    let text = page(&metrics, Endpoint::Main);
    for line in [
        "kubelet_node_name{node=\"n\\\"1\"} 1",
        "kubelet_runtime_operations_total{operation_type=\"version\"} 3",
        "kubelet_runtime_operations_duration_seconds_bucket{operation_type=\"version\",le=\"0.005\"} 2",
        "kubelet_runtime_operations_duration_seconds_bucket{operation_type=\"version\",le=\"0.1953125\"} 2",
        "kubelet_runtime_operations_duration_seconds_bucket{operation_type=\"version\",le=\"0.48828125\"} 3",
        "kubelet_runtime_operations_duration_seconds_bucket{operation_type=\"version\",le=\"+Inf\"} 4",
        "kubelet_runtime_operations_duration_seconds_sum{operation_type=\"version\"} 1000.206",
        "kubelet_runtime_operations_duration_seconds_count{operation_type=\"version\"} 4",
        "kubelet_running_pods 2",
        "kubelet_desired_pods{static=\"true\"} 1",
    ] {
        assert!(text.lines().any(|candidate| candidate == line), "{line} is not in\n{text}");
    }
}

#[test]
fn names_and_labels_are_well_formed_and_unique() {
    let legal = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    for (index, (name, _, labels)) in Metrics::NAMES.iter().enumerate() {
        assert!(legal(name), "{name}");
        assert!(Metrics::NAMES[..index].iter().all(|(other, _, _)| other != name), "{name}");
        // Upstream's pages have labels in the order of their names.
        assert!(labels.windows(2).all(|pair| pair[0] < pair[1]), "{name}: {labels:?}");
    }
}

#[test]
fn versions_and_features_are_shown_once_known() {
    let metrics = Metrics::default();
    metrics.describe(&FeatureGates::default());
    let text = page(&metrics, Endpoint::Main);
    assert!(text.contains("kubernetes_feature_enabled{name=\"EventedPLEG\",stage=\"ALPHA\"} 0\n"));
    assert!(text.contains("kubernetes_feature_enabled{name=\"NodeSwap\",stage=\"\"} 1\n"));
    assert!(text.contains("git_version=\"v1.37.2\""));
}

#[test]
fn a_pod_that_is_gone_leaves_no_series() {
    let metrics = Metrics::default();
    for uid in ["u1", "u2"] {
        metrics.probes.with(["c", "ns", uid, uid, "Liveness", "successful"]).increment();
        metrics.probe_duration.with(["c", "ns", uid, "Liveness"]).observe(0.1);
    }
    metrics.forget_pod("u1");
    let text = page(&metrics, Endpoint::Probes);
    assert!(text.contains("u2") && !text.contains("u1"), "{text}");
    assert!(text.contains("process_start_time_seconds "));
}

#[test]
fn the_number_of_series_is_bounded() {
    let metrics = Metrics::default();
    for number in 0..10_050 {
        metrics.admission_rejections.with([&number.to_string()]).increment();
    }
    assert_eq!(metrics.admission_rejections.len(), 10_001);
    assert_eq!(metrics.admission_rejections.with(["other"]).get(), 50);
}
