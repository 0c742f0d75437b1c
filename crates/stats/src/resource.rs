//! The page `/metrics/resource`, which `kubectl top` lives on: CPU time, memory and swap of node, pods and
//! containers, each with the time at which it was measured.

use telemetry::metrics::{Exposition, Kind};

use crate::document::{ContainerStats, CpuStats, MemoryStats, PodStats, Summary, SwapStats, Time};

const NANOS_IN_SECOND: f64 = 1e9;

/// A value and when it was measured.
type Sample = Option<(f64, Option<Time>)>;

/// A family with a sample for each container.
struct OfContainer {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    sample: fn(&ContainerStats) -> Sample,
}

/// A family with a sample for each pod.
struct OfPod {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    sample: fn(&PodStats) -> Sample,
}

const OF_CONTAINERS: [OfContainer; 5] = [
    OfContainer {
        name: "container_cpu_usage_seconds_total",
        help: "[STABLE] CPU time a container has used, in seconds of one core.",
        kind: Kind::Counter,
        sample: |c| cpu(c.cpu.as_ref()),
    },
    OfContainer {
        name: "container_memory_working_set_bytes",
        help: "[STABLE] Working set of a container in bytes.",
        kind: Kind::Gauge,
        sample: |c| memory(c.memory.as_ref()),
    },
    OfContainer {
        name: "container_start_time_seconds",
        help: "[STABLE] When a container was started, in seconds since 1970.",
        kind: Kind::Gauge,
        sample: |c| {
            let nanos = c.start_time.0.as_nanosecond();
            (nanos > 0).then_some((nanos as f64 / NANOS_IN_SECOND, None))
        },
    },
    OfContainer {
        name: "container_swap_limit_bytes",
        help: "[ALPHA] Swap a container may use, in bytes.",
        kind: Kind::Gauge,
        sample: |c| {
            let swap = c.swap?;
            let limit = swap.swap_available_bytes? as f64 + swap.swap_usage_bytes.unwrap_or(0) as f64;
            Some((limit, Some(swap.time)))
        },
    },
    OfContainer {
        name: "container_swap_usage_bytes",
        help: "[ALPHA] Swap a container uses, in bytes.",
        kind: Kind::Gauge,
        sample: |c| swap(c.swap.as_ref()),
    },
];

const OF_PODS: [OfPod; 3] = [
    OfPod {
        name: "pod_cpu_usage_seconds_total",
        help: "[STABLE] CPU time a pod has used, in seconds of one core.",
        kind: Kind::Counter,
        sample: |p| cpu(p.cpu.as_ref()),
    },
    OfPod {
        name: "pod_memory_working_set_bytes",
        help: "[STABLE] Working set of a pod in bytes.",
        kind: Kind::Gauge,
        sample: |p| memory(p.memory.as_ref()),
    },
    OfPod {
        name: "pod_swap_usage_bytes",
        help: "[ALPHA] Swap a pod uses, in bytes.",
        kind: Kind::Gauge,
        sample: |p| swap(p.swap.as_ref()),
    },
];

/// Writes the page. Without a summary it says so and nothing else, as upstream's does.
pub(crate) fn write(summary: Option<&Summary>, page: &mut Exposition) {
    if let Some(summary) = summary {
        for family in &OF_CONTAINERS {
            let all = summary.pods.iter().flat_map(|pod| pod.containers.iter().map(move |c| (pod, c)));
            let samples = all.filter_map(|(pod, container)| {
                let labels = [
                    ("container", container.name.as_str()),
                    ("namespace", pod.pod_ref.namespace.as_str()),
                    ("pod", pod.pod_ref.name.as_str()),
                ];
                Some((labels, (family.sample)(container)?))
            });
            write_family(page, family.name, family.help, family.kind, samples);
        }
        write_node(summary, page);
        for family in &OF_PODS {
            let samples = summary.pods.iter().filter_map(|pod| {
                let labels =
                    [("namespace", pod.pod_ref.namespace.as_str()), ("pod", pod.pod_ref.name.as_str())];
                Some((labels, (family.sample)(pod)?))
            });
            write_family(page, family.name, family.help, family.kind, samples);
        }
    }
    page.family("resource_scrape_error", "[STABLE] 1 if usage could not be collected, else 0.", Kind::Gauge);
    page.sample("resource_scrape_error", &[], f64::from(u8::from(summary.is_none())));
}

fn write_node(summary: &Summary, page: &mut Exposition) {
    let node = &summary.node;
    for (name, help, kind, sample) in [
        (
            "node_cpu_usage_seconds_total",
            "[STABLE] CPU time the node has used, in seconds of one core.",
            Kind::Counter,
            cpu(node.cpu.as_ref()),
        ),
        (
            "node_memory_working_set_bytes",
            "[STABLE] Working set of the node in bytes.",
            Kind::Gauge,
            memory(node.memory.as_ref()),
        ),
        (
            "node_swap_usage_bytes",
            "[ALPHA] Swap the node uses, in bytes.",
            Kind::Gauge,
            swap(node.swap.as_ref()),
        ),
    ] {
        write_family(page, name, help, kind, sample.map(|sample| ([], sample)).into_iter());
    }
}

/// A family, unless it has no samples.
fn write_family<'a, const N: usize>(
    page: &mut Exposition,
    name: &str,
    help: &str,
    kind: Kind,
    samples: impl Iterator<Item = ([(&'a str, &'a str); N], (f64, Option<Time>))>,
) {
    let mut samples = samples.peekable();
    if samples.peek().is_some() {
        page.family(name, help, kind);
    }
    for (labels, (value, time)) in samples {
        match time {
            Some(time) => page.sample_at(name, &labels, value, time.0.as_millisecond()),
            None => page.sample(name, &labels, value),
        }
    }
}

// Counters stay exact up to 2^53, which is 104 days of one core's nanoseconds; beyond that, seconds lose
// digits far behind the point. Amounts of memory do not get there.
fn cpu(cpu: Option<&CpuStats>) -> Sample {
    cpu.and_then(|cpu| Some((cpu.usage_core_nano_seconds? as f64 / NANOS_IN_SECOND, Some(cpu.time))))
}

fn memory(memory: Option<&MemoryStats>) -> Sample {
    memory.and_then(|memory| Some((memory.working_set_bytes? as f64, Some(memory.time))))
}

fn swap(swap: Option<&SwapStats>) -> Sample {
    swap.and_then(|swap| Some((swap.swap_usage_bytes? as f64, Some(swap.time))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{NodeStats, PodReference};
    use crate::testing::at;

    #[test]
    fn a_page() {
        let time = Time("1970-01-01T00:00:01.5Z".parse().unwrap());
        let cpu =
            |nanos| Some(CpuStats { time, usage_core_nano_seconds: Some(nanos), ..CpuStats::default() });
        let container = ContainerStats {
            name: "main".to_owned(),
            start_time: Time(at(1)),
            cpu: cpu(2_500_000_000),
            swap: Some(SwapStats { time, swap_available_bytes: Some(5), swap_usage_bytes: Some(2) }),
            ..ContainerStats::default()
        };
        let bare = ContainerStats { name: "bare".to_owned(), ..ContainerStats::default() };
        let pod_ref =
            PodReference { name: "web".to_owned(), namespace: "ns".to_owned(), uid: "u".to_owned() };
        let memory = MemoryStats { time, working_set_bytes: Some(7), ..MemoryStats::default() };
        let pod = PodStats {
            pod_ref,
            containers: vec![container, bare],
            memory: Some(memory),
            ..PodStats::default()
        };
        let summary =
            Summary { node: NodeStats { cpu: cpu(1_000_000_000), ..NodeStats::default() }, pods: vec![pod] };
        let mut page = Exposition::new();
        write(Some(&summary), &mut page);
        let text = page.into_text();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                r#"container_cpu_usage_seconds_total{container="main",namespace="ns",pod="web"} 2.5 1500"#,
                r#"container_start_time_seconds{container="main",namespace="ns",pod="web"} 1"#,
                r#"container_swap_limit_bytes{container="main",namespace="ns",pod="web"} 7 1500"#,
                r#"container_swap_usage_bytes{container="main",namespace="ns",pod="web"} 2 1500"#,
                "node_cpu_usage_seconds_total 1 1500",
                r#"pod_memory_working_set_bytes{namespace="ns",pod="web"} 7 1500"#,
                "resource_scrape_error 0",
            ]
        );
        assert_eq!(text.matches("# TYPE").count(), 7, "no family without samples");
    }

    #[test]
    fn without_a_summary_there_is_an_error_and_nothing_else() {
        let mut page = Exposition::new();
        write(None, &mut page);
        assert!(page.into_text().ends_with("\nresource_scrape_error 1\n"));
    }
}
