//! The protocols against upstream's facts.

mod facts;
