//! Manifests that are accepted, completed and refused, as tables.
