//! Metrics, as Prometheus scrapes them: the same names, labels and buckets as upstream's.
//!
//! [`Metrics`] has one field a metric. A metric costs its own few words of memory, one with labels
//! also a node of a tree for each combination seen so far; nothing is computed until a scrape.
//! What is known at a scrape only (usage of pods, of the machine) is written straight into an
//! [`Exposition`] by whoever knows it, so that it needs no memory in between.

mod exposition;
mod items;
mod process;
mod value;

pub use exposition::{Exposition, Kind, LabelSet};
pub use items::{Endpoint, Metrics};
pub use process::{ProcessReadError, process_start_seconds};
pub use value::{Counter, Gauge, Histogram, Labelled};

#[cfg(test)]
mod tests;
