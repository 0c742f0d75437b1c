//! JSON trees of Kubernetes objects.

use serde::Serialize;
use serde_json::Value;

/// The JSON tree of an object, by way of its text.
///
/// `serde_json::to_value` is another serializer than the one that writes text, so each type that is given to both is
/// compiled twice. For a pod and all it is made of that is some hundred kilobytes of code, while the detour costs
/// microseconds.
///
/// # Errors
/// The object has no JSON.
pub fn to_tree<T: Serialize + ?Sized>(object: &T) -> serde_json::Result<Value> {
    serde_json::from_slice(&serde_json::to_vec(object)?)
}
