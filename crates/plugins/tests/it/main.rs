//! The protocols against upstream's facts.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod facts;
