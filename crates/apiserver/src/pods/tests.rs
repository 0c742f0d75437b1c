//! The watch of pods, deletions and mirror pods.
