//! What a line is made of, whatever its form.

use std::error::Error;
use std::fmt::{self, Write as _};

use jiff::Timestamp;
use tracing::Level;
use tracing::field::{Field, Visit};

/// What is known of an event besides its fields.
pub(super) struct Line<'a> {
    pub(super) level: Level,
    pub(super) verbosity: u32,
    pub(super) file: &'a str,
    pub(super) line: u32,
    pub(super) time: Timestamp,
}

/// The value of a field.
#[derive(Debug, PartialEq)]
pub(super) enum Value {
    Int(i128),
    Float(f64),
    Bool(bool),
    Text(String),
}

/// The fields of an event, in the order in which they were given.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) message: String,
    pub(super) pairs: Vec<(&'static str, Value)>,
    /// The level the event gives itself in a field `v`.
    pub(super) level: Option<u32>,
}

impl Fields {
    fn text(&mut self, field: &Field, text: String) {
        if field.name() == "message" {
            self.message = text;
        } else {
            // klog and everything that reads its lines know errors by this name.
            let name = if field.name() == "error" { "err" } else { field.name() };
            self.pairs.push((name, Value::Text(text)));
        }
    }

    fn number(&mut self, field: &Field, number: i128) {
        if field.name() == "v" {
            self.level = Some(u32::try_from(number).unwrap_or(0));
        } else {
            self.pairs.push((field.name(), Value::Int(number)));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a string fails only if the value's own formatting does.
        if write!(text, "{value:?}").is_err() {
            text.push_str("<cannot be shown>");
        }
        self.text(field, text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.pairs.push((field.name(), Value::Bool(value)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.pairs.push((field.name(), Value::Float(value)));
    }

    /// The whole chain, since no error repeats its source.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(error) = source {
            let _ = write!(text, ": {error}");
            source = error.source();
        }
        self.text(field, text);
    }
}
