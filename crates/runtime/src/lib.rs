//! The container runtime, through CRI v1.

pub mod logs;
