//! Short scenarios of pods: a node is told what happens, and what it wants done is compared as text.
//! The [`scenario`] plays the runtime, the API server and the clock.

mod addresses;
mod driver_volumes;
mod evicting;
mod grants;
mod image_volumes;
mod life;
mod play;
mod pod_cgroups;
mod probing;
mod refusals;
mod restarting;
mod runtime_class;
mod scenario;
mod startup;
mod state_files;
mod statics;
mod trouble;
mod waits;
mod words;
