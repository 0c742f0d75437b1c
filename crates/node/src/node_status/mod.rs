//! stub
use model::*; use std::time::Duration; use std::collections::BTreeMap;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeFacts { pub runtime_name: String, pub labels: BTreeMap<String,String> }
pub struct NodeHealth<'a> { pub runtime_errors: &'a [String], pub network_error: Option<&'a str>, pub runtime: Option<&'a model::RuntimeHealth>, pub is_shutting_down: bool }
pub fn initial_node(_f: &NodeFacts) -> Node { Node::default() }
pub fn status(_f: &NodeFacts, _h: &NodeHealth<'_>, p: &NodeStatus, _n: model::Now) -> NodeStatus { p.clone() }
pub fn needs_write(a: &NodeStatus, b: &NodeStatus, _s: Duration, _r: Duration) -> bool { a != b }
pub fn transition_events(_o: &NodeStatus, _n: &NodeStatus, _name: &str) -> Vec<(&'static str, String)> { vec![] }
