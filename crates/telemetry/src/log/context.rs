//! Spans: fields that every line gets which is logged within.
//!
//! Only our own spans count. A span has the fields of those around it already, so that a line needs to
//! look at one only.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata};
use tracing_core::span::Current;

use super::format::{Fields, Pair, merged};

thread_local! {
    /// The spans this thread is in, innermost last.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

struct Span {
    fields: Arc<[Pair]>,
    metadata: &'static Metadata<'static>,
    handles: usize,
}

/// All spans there are.
#[derive(Default)]
pub(super) struct Spans {
    last_id: AtomicU64,
    // Held for a look-up or an insertion, never while anything is formatted or written.
    open: Mutex<HashMap<u64, Span>>,
}

impl Spans {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Span>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a span inside its parent.
    pub(super) fn make(&self, attributes: &Attributes<'_>) -> Id {
        let mut own = Fields::default();
        attributes.record(&mut own);
        let parent = match attributes.parent() {
            Some(parent) => Some(parent.into_u64()),
            None if attributes.is_contextual() => innermost(),
            None => None,
        };
        let outer = self.fields_of(parent);
        let span =
            Span { fields: merged(&outer, own.pairs).into(), metadata: attributes.metadata(), handles: 1 };
        // From 1: an id is not zero.
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        self.open().insert(id, span);
        Id::from_u64(id)
    }

    /// Sets fields of a span later on.
    pub(super) fn record(&self, id: &Id, values: &Record<'_>) {
        let mut later = Fields::default();
        values.record(&mut later);
        if let Some(span) = self.open().get_mut(&id.into_u64()) {
            span.fields = merged(&span.fields, later.pairs).into();
        }
    }

    pub(super) fn clone_handle(&self, id: &Id) {
        if let Some(span) = self.open().get_mut(&id.into_u64()) {
            span.handles += 1;
        }
    }

    /// Whether that was the last handle.
    pub(super) fn drop_handle(&self, id: &Id) -> bool {
        let mut open = self.open();
        let Some(span) = open.get_mut(&id.into_u64()) else { return false };
        span.handles -= 1;
        let is_last = span.handles == 0;
        if is_last {
            open.remove(&id.into_u64());
        }
        is_last
    }

    /// The fields that surround an event.
    pub(super) fn around(&self, event: &Event<'_>) -> Arc<[Pair]> {
        match event.parent() {
            Some(parent) => self.fields_of(Some(parent.into_u64())),
            None if event.is_contextual() => self.fields_of(innermost()),
            None => self.fields_of(None),
        }
    }

    /// The span this thread is in.
    pub(super) fn current(&self) -> Current {
        let open = self.open();
        match innermost().and_then(|id| Some((id, open.get(&id)?.metadata))) {
            Some((id, metadata)) => Current::new(Id::from_u64(id), metadata),
            None => Current::none(),
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.open().len()
    }

    fn fields_of(&self, id: Option<u64>) -> Arc<[Pair]> {
        let fields = id.and_then(|id| Some(self.open().get(&id)?.fields.clone()));
        fields.unwrap_or_else(|| Arc::from([]))
    }
}

fn innermost() -> Option<u64> {
    ENTERED.with_borrow(|entered| entered.last().copied())
}

pub(super) fn enter(id: &Id) {
    ENTERED.with_borrow_mut(|entered| entered.push(id.into_u64()));
}

/// Spans need not be left in the order in which they were entered.
pub(super) fn exit(id: &Id) {
    ENTERED.with_borrow_mut(|entered| {
        if let Some(at) = entered.iter().rposition(|entered| *entered == id.into_u64()) {
            entered.remove(at);
        }
    });
}
