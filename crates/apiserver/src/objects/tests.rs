//! The object cache against a small API server: first reads, changes, registrations.
