//! Container logs on disk.
