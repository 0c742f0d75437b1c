//! Everything the node says to the API server and hears from it.
//!
//! | part | does | gives |
//! |---|---|---|
//! | [`connect_node`] | finds or asks for the node's client certificate | [`Connection`], [`RotationTask`] |
//! | [`connect`](connect()) | reads the kubeconfig, sets up connections that notice a dead peer | [`Connection`] |
//! | [`RotationTask`] | replaces a certificate before it expires; connections are made anew | [`RotationEvent`] |
//! | [`watch_pods`], [`watch_node`] | follow the node's pods and the node's own object | streams that never end |
//! | [`ObjectCache`] | one watch a Secret or ConfigMap some pod names | [`ObjectCache::secret`], [`ObjectChanges`] |
//! | [`ServiceIndex`] | follows all Services, keeps what environment variables need | [`ServiceIndex::for_namespace`] |
//! | [`request_token`] | service account tokens | [`Token`] |
//! | [`patch_pod_status`], [`delete_pod`], [`create_mirror`], [`delete_mirror`] | pods written | [`PatchOutcome`] … |
//! | [`register`], [`patch_node_status`] | the Node object written | the Node as the server has it |
//! | [`get_csi_node`], [`write_csi_node`], [`watch_csi_drivers`] | the node's CSI drivers written, the cluster's followed | a stream that never ends |
//! | [`resolve_claim`], [`get_attachment`] | claims with their volumes read, and attachments | what they say |
//! | [`LeaseRenewerTask`] | the heartbeat, on a connection of its own | – |
//! | [`EventRecorder`] | events, counted, combined and limited | – |
//! | [`review_token`], [`review_access`] | questions of the HTTP server about its callers | the server's answers |
//!
//! Nothing here knows a rule about pods: callers decide what is written, this crate how.
//! All request futures can be dropped at any time; the request may or may not have reached the
//! server then, which is why every write here is safe to send twice.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests spawn what ends with them"))]

mod bootstrap;
mod call;
mod certificates;
mod claim_status;
mod claims;
mod connect;
mod credentials;
mod csi;
mod events;
mod identity;
mod keyed;
mod kubeconfig;
mod lease;
mod node;
mod objects;
mod observer;
mod patch;
mod pod_certificates;
mod pods;
mod pool;
mod resolve;
mod reviews;
mod runtime_class;
mod server_trust;
mod services;
mod status;
mod throttle;
mod tokens;
mod trust_bundles;
mod watch;

#[cfg(test)]
mod fake;

pub use bootstrap::{BootstrapError, NodeIdentity, connect_node};
pub use call::{Cause, RequestError};
pub use certificates::{
    CertificatePair, CertificateRequestError, CertificateStore, Leaf, PairError, RotationError,
    RotationEvent, RotationTask, SigningError, StoreError, Template, Use,
};
pub use claim_status::{ResizeReport, report_resize};
pub use claims::{ClaimError, get_attachment, resolve_claim};
pub use connect::{ClientSettings, ConnectError, Connection, Ping, connect};
pub use credentials::{ExecError, ExecPluginEvent, TokenFileError};
pub use csi::{delete_csi_node, get_csi_node, watch_csi_drivers, write_csi_node};
pub use events::{
    EventCounters, EventRecorder, EventSettings, EventTask, EventType, InvolvedObject, NewEvent,
};
pub use identity::IdentityError;
pub use kubeconfig::{ExecFacts, KubeconfigFacts, KubeconfigFinding, examine_kubeconfig};
pub use lease::{LeaseFailure, LeaseRenewerTask, LeaseSettings, LeaseState};
pub use node::{NodeEvent, Registered, get_node, node_status_patch, patch_node_status, register, watch_node};
pub use objects::{Detection, ObjectCache, ObjectChange, ObjectChanges, ObjectError, ObjectKind, ObjectName};
pub use observer::{AnsweredRequest, CredentialEvent, Observer, RequestEvent};
pub use pod_certificates::{
    CertificateSource, CertificateWish, PodCertificateError, PodCertificateNews, PodCertificates,
    PodCredential,
};
pub use pods::{MirrorOutcome, PodEvent, create_mirror, delete_mirror, delete_pod, get_pod, watch_pods};
pub use reviews::{AccessAnswer, AccessQuestion, Caller, TokenAnswer, review_access, review_token};
pub use runtime_class::watch_runtime_classes;
pub use services::{ServiceIndex, ServicePortView, ServiceTask, ServiceView};
pub use status::{PatchOutcome, patch_pod_status, status_patch};
pub use tokens::{BoundPod, Token, TokenError, TokenScope, request_token, service_account};
pub use trust_bundles::{SelectorError, TrustBundles, TrustError};
