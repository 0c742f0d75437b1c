//! The protocols against upstream's facts.

#![allow(clippy::unwrap_used)]

mod facts;
