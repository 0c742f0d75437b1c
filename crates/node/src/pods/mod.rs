//! The life of each pod: where it is found ([`registry`]), what is wanted of it ([`record`]), what it was seen to be
//! ([`seen`]), what is remembered of its containers ([`container`]), what an earlier process left of it ([`adopt`]), what to
//! do about it ([`plan`]),
//! doing it ([`running`], [`ending`], [`removal`], [`images`], [`probes`]), taking in how it went
//! ([`results`]), and telling the API server ([`report`]).

mod adopt;
pub(crate) mod backoff;
mod container;
mod drive;
mod ending;
pub(crate) mod grant;
mod images;
pub(crate) mod missing_volumes;
mod news;
pub(crate) mod plan;
mod probe_memory;
pub(crate) mod probes;
pub(crate) mod record;
pub(crate) mod registry;
mod removal;
mod report;
mod restart_all;
pub(crate) mod results;
pub(crate) mod rules;
mod running;
pub(crate) mod seen;
#[cfg(test)]
mod tests;
