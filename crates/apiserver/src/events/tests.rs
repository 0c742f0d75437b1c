//! Events against a small API server: counted, combined, limited, dropped.
