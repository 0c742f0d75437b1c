//! The lease against a small API server: created, renewed, taken back after a conflict or a deletion.
