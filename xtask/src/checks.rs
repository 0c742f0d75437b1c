//! `cargo xtask test`.
use std::process::ExitCode;
use anyhow::Result;
pub(crate) fn outer(_kubelet: Option<&str>, _filter: Vec<String>, _e2e_only: bool) -> Result<ExitCode> { Ok(ExitCode::SUCCESS) }
