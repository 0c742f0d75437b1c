//! Cuts from what is written down what may be a secret and is nothing the core reads: values in environments, arguments,
//! headers of probes and hooks, and annotations.
//!
//! What is cut leaves a mark, equal for equal texts, since it matters to the core whether something has changed. The
//! mark is made with a key that nobody keeps, so that a text cannot be guessed by its mark.

use ring::hmac::{HMAC_SHA256, Key, sign};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Map, Value};

use crate::digest::hex;

/// Replaces texts by marks.
#[derive(Clone, Debug)]
pub struct Cutter {
    key: Key,
}

impl Cutter {
    /// One with a key of its own. `None` when the system gives no random numbers.
    pub fn new() -> Option<Self> {
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).ok()?;
        Some(Self::with_key(&key))
    }

    /// One whose marks follow from this key.
    pub fn with_key(key: &[u8]) -> Self {
        Self { key: Key::new(HMAC_SHA256, key) }
    }

    /// Cuts everything in a document, whatever it is: pods are in many places.
    pub(crate) fn cut(&self, document: &mut Value) {
        match document {
            Value::Object(fields) => self.cut_fields(fields),
            Value::Array(items) => items.iter_mut().for_each(|item| self.cut(item)),
            _ => {}
        }
    }

    fn cut_fields(&self, fields: &mut Map<String, Value>) {
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("annotations", Value::Object(annotations)) => {
                    let unread = annotations.iter_mut().filter(|(name, _)| !node::reads_annotation(name));
                    unread.for_each(|(_, value)| self.mark(value));
                }
                ("args" | "command", Value::Array(words)) => {
                    words.iter_mut().for_each(|word| self.mark(word))
                }
                ("env" | "httpHeaders", Value::Array(items)) => {
                    items.iter_mut().filter_map(|item| item.get_mut("value")).for_each(|v| self.mark(v));
                }
                (_, value) => self.cut(value),
            }
        }
    }

    fn mark(&self, text: &mut Value) {
        if let Value::String(text) = text
            && !text.is_empty()
        {
            *text = format!("cut:{}", hex(sign(&self.key, text.as_bytes()).as_ref()));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_may_be_secret_is_marked_and_the_rest_stays() {
        let mut document = json!({ "pods": [{
            "metadata": {
                "labels": { "env": "prod" },
                "annotations": { "kubernetes.io/config.source": "file", "token": "s3cret", "empty": "" },
            },
            "spec": { "containers": [{
                "name": "web",
                "args": ["--password=s3cret"],
                "command": ["s3cret", "s3cret", "other"],
                "env": [{ "name": "A", "value": "s3cret" }, { "name": "B", "valueFrom": { "fieldRef": {} } }],
                "livenessProbe": { "httpGet": { "path": "/", "httpHeaders": [{ "name": "X", "value": "s3cret" }] } },
            }] },
        }] });
        let cutter = Cutter::new().unwrap();
        cutter.cut(&mut document);
        let text = document.to_string();
        assert!(!text.contains("s3cret"), "{text}");
        let pod = &document["pods"][0];
        assert_eq!(pod["metadata"]["labels"]["env"], "prod");
        assert_eq!(pod["metadata"]["annotations"]["kubernetes.io/config.source"], "file");
        assert_eq!(pod["metadata"]["annotations"]["empty"], "");
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["name"], "web");
        assert_eq!(container["command"][0], container["command"][1], "equal texts have equal marks");
        assert_ne!(container["command"][0], container["command"][2]);
        assert_eq!(container["env"][0]["name"], "A");
        let mut again = json!({ "args": ["s3cret"] });
        Cutter::new().unwrap().cut(&mut again);
        assert_ne!(again["args"][0], container["command"][0], "each has a key of its own");
    }
}
