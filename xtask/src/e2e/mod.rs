//! E2e.
use std::process::ExitCode;
use anyhow::Result;
pub(crate) async fn inside(_paths: crate::cluster::Paths, _filter: &[String]) -> Result<ExitCode> { Ok(ExitCode::SUCCESS) }
