//! What a folder of manifests comes to.
