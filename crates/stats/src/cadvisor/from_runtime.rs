//! The page made of the runtime's own metrics.

use std::collections::BTreeMap;

use runtime::{MetricDescriptor, MetricSample};
use telemetry::metrics::{Exposition, Kind};

const NANOS_PER_MILLI: i64 = 1_000_000;

/// Writes the samples under their families. Those whose family the runtime does not describe, or whose
/// labels do not match it, are left out, as upstream leaves them out.
pub(super) fn write(descriptors: &[MetricDescriptor], samples: &[MetricSample], page: &mut Exposition) {
    let mut families: BTreeMap<&str, Vec<&MetricSample>> = BTreeMap::new();
    for sample in samples {
        families.entry(&sample.name).or_default().push(sample);
    }
    for (name, samples) in families {
        let Some(family) = descriptors.iter().find(|d| d.name == name) else { continue };
        let mut is_begun = false;
        for sample in samples.into_iter().filter(|s| s.label_values.len() == family.labels.len()) {
            if !is_begun {
                let kind = if sample.is_counter { Kind::Counter } else { Kind::Gauge };
                page.family(name, &family.help, kind);
                is_begun = true;
            }
            let names = family.labels.iter().map(String::as_str);
            let labels: Vec<_> = names.zip(sample.label_values.iter().map(String::as_str)).collect();
            match sample.at_nanos {
                Some(nanos) => {
                    page.sample_at(name, &labels, sample.value as f64, nanos / NANOS_PER_MILLI);
                }
                None => page.sample(name, &labels, sample.value as f64),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_gathered_by_family() {
        let labels = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
        let described = |name: &str| MetricDescriptor {
            name: name.to_owned(),
            help: "h".to_owned(),
            labels: labels(&["id", "name"]),
        };
        let sample = |name: &str, values: &[&str], value, at_nanos| MetricSample {
            name: name.to_owned(),
            is_counter: name.ends_with("total"),
            label_values: labels(values),
            value,
            at_nanos,
        };
        let samples = [
            sample("b_total", &["1", "x"], 7, Some(1_500_000_000)),
            sample("a", &["1", "x"], 8, None),
            sample("b_total", &["2", "y"], 9, None),
            sample("b_total", &["2"], 9, None),
            sample("unknown", &["1", "x"], 1, None),
        ];
        let mut page = Exposition::new();
        write(&[described("a"), described("b_total"), described("idle")], &samples, &mut page);
        assert_eq!(
            page.into_text(),
            "# HELP a h\n# TYPE a gauge\na{id=\"1\",name=\"x\"} 8\n\
             # HELP b_total h\n# TYPE b_total counter\nb_total{id=\"1\",name=\"x\"} 7 1500\n\
             b_total{id=\"2\",name=\"y\"} 9\n"
        );
    }
}
