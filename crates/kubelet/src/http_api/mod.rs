//! What the HTTP API answers from: the View, the runtime and the machine.

pub(crate) mod cadvisor;
mod orphaned_input;
pub(crate) mod ports;
mod sandbox_images;
