//! Pods that do not come from the API server: manifests in a folder on the node, or on a web server.
//!
//! | step | module |
//! |---|---|
//! | bytes → pod, with the defaults the API server would give | [`parse`] |
//! | what makes it a static pod of this node: name, annotations, and the uid that upstream gives it | [`parse`] |
//! | is it one the node can run: names, mounts, no API objects | [`parse`] |
//! | the folder, followed | [`watch_files`] |
//! | the URL, followed | [`watch_url`] |
//!
//! Parsing is pure; following yields the whole set whenever it changes. Who consumes the set is
//! not known here.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

mod defaults;
mod files;
mod folder;
mod manifest;
mod uid;
mod url;
mod validate;

pub use files::{FileSettings, watch_files};
pub use folder::StaticPodSet;
pub use manifest::{ManifestError, ManifestGates, Origin, Place, parse};
pub use url::{UrlError, UrlSettings, UrlUpdate, watch_url};
pub use validate::FieldError;
