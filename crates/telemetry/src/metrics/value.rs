//! The kinds of metrics. All of them are updated without waiting: by atomic operations, or below a
//! lock that is held for the search of one tree.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::exposition::{Exposition, Kind};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        // Metrics publish no other memory, here and below.
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes over a count that is kept elsewhere.
    pub fn raise_to(&self, total: u64) {
        self.0.fetch_max(total, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Adds to it; a negative number takes away.
    pub fn add(&self, change: f64) {
        add(&self.0, change);
    }

    /// What it is.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

fn add(bits: &AtomicU64, change: f64) {
    let sum = |old| Some((f64::from_bits(old) + change).to_bits());
    // The closure never gives up, so that neither does this.
    let _ = bits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
}

/// How often a number lay in which range.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: the last is for what lies above them all.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Notes a number.
    pub fn observe(&self, value: f64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        add(&self.sum, value);
    }

    /// Notes a span of time, in seconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }

    /// How many numbers were noted.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// What a family of metrics is made of.
pub(super) trait Series {
    const KIND: Kind;

    fn write(&self, out: &mut Exposition, name: &str, labels: &[(&str, &str)]);
}

impl Series for Counter {
    const KIND: Kind = Kind::Counter;

    #[allow(clippy::cast_precision_loss)]
    fn write(&self, out: &mut Exposition, name: &str, labels: &[(&str, &str)]) {
        out.sample(name, labels, self.get() as f64);
    }
}

impl Series for Gauge {
    const KIND: Kind = Kind::Gauge;

    fn write(&self, out: &mut Exposition, name: &str, labels: &[(&str, &str)]) {
        out.sample(name, labels, self.get());
    }
}

impl Series for Histogram {
    const KIND: Kind = Kind::Histogram;

    #[allow(clippy::cast_precision_loss)]
    fn write(&self, out: &mut Exposition, name: &str, labels: &[(&str, &str)]) {
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed));
        let mut total = 0;
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        for (bound, count) in bounds.zip(&self.counts) {
            total += count.load(Ordering::Relaxed);
            out.bucket(name, labels, bound, total as f64);
        }
        out.suffixed(name, "_sum", labels, sum);
        out.suffixed(name, "_count", labels, total as f64);
    }
}

/// A metric for each combination of the values of its labels.
///
/// The number of combinations is bounded: what comes after the limit is counted together, with
/// every label set to `other`. The bound is far above what a node produces; it is there so that an
/// unforeseen source of values costs precision instead of memory.
#[derive(Debug)]
pub struct Labelled<M, const N: usize> {
    names: [&'static str; N],
    new: fn() -> M,
    series: Mutex<BTreeMap<[Box<str>; N], Arc<M>>>,
}

/// Combinations of labels a metric can have: 1,000 pods with ten series each.
const MAX_SERIES: usize = 10_000;

impl<M, const N: usize> Labelled<M, N> {
    pub(super) fn new(names: [&'static str; N], new: fn() -> M) -> Self {
        Self { names, new, series: Mutex::default() }
    }

    /// The metric with these values of its labels, in the order of their names. Keep it where it is
    /// used often.
    pub fn with(&self, values: [&str; N]) -> Arc<M> {
        let mut series = self.lock();
        let mut key = values.map(Box::from);
        if let Some(metric) = series.get(&key) {
            return Arc::clone(metric);
        }
        if series.len() >= MAX_SERIES {
            key = [const { "other" }; N].map(Box::from);
        }
        Arc::clone(series.entry(key).or_insert_with(|| Arc::new((self.new)())))
    }

    /// Forgets what `keep` is false for, such as everything about a pod that is gone.
    pub fn retain(&self, mut keep: impl FnMut([&str; N]) -> bool) {
        self.lock().retain(|values, _| keep(values.each_ref().map(AsRef::as_ref)));
    }

    /// How many combinations there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<[Box<str>; N], Arc<M>>> {
        // Nothing below the lock can leave the tree half changed.
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A whole family: one metric, or one for each combination of labels.
pub(super) trait Family {
    fn write_family(&self, out: &mut Exposition, name: &str, help: &str);
}

impl<M: Series> Family for M {
    fn write_family(&self, out: &mut Exposition, name: &str, help: &str) {
        out.family(name, help, M::KIND);
        self.write(out, name, &[]);
    }
}

impl<M: Series, const N: usize> Family for Labelled<M, N> {
    fn write_family(&self, out: &mut Exposition, name: &str, help: &str) {
        // As upstream: a family of which nothing has happened yet is not there.
        let series = self.lock();
        if series.is_empty() {
            return;
        }
        out.family(name, help, M::KIND);
        for (values, metric) in series.iter() {
            let mut labels = [("", ""); N];
            for (label, (name, value)) in labels.iter_mut().zip(self.names.iter().zip(values)) {
                *label = (name, value);
            }
            metric.write(out, name, &labels);
        }
    }
}
