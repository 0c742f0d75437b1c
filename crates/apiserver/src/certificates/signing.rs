//! The API's side of a certificate request: create it, or take up the one that is there, and wait
//! until it is approved and signed.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{GetParams, PostParams};
use kube::core::Request;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

use super::key::RequestKey;
use super::request::{self, Template};
use crate::call::{Purpose, RequestError, call};
use crate::watch::{Change, Freshness, Watch};

/// Where requests live.
const PATH: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// A request that does not lead to a certificate.
#[derive(Debug, Error)]
pub enum SigningError {
    /// The document could not be made.
    #[error("make the certificate request")]
    Make(#[source] request::RequestError),
    /// The API server did not take it.
    #[error("submit the certificate request")]
    Submit(#[source] RequestError),
    /// A request of that name exists and asks for something else.
    #[error("certificate request {name} exists and {difference}; delete it")]
    Incompatible {
        /// Its name.
        name: String,
        /// What is different.
        difference: &'static str,
    },
    /// An approver said no.
    #[error("certificate request {name} is denied: {reason}: {message}")]
    Denied {
        /// Its name.
        name: String,
        /// The approver's reason.
        reason: String,
        /// The approver's message.
        message: String,
    },
    /// The signer cannot sign it.
    #[error("certificate request {name} failed: {reason}: {message}")]
    Failed {
        /// Its name.
        name: String,
        /// The signer's reason.
        reason: String,
        /// The signer's message.
        message: String,
    },
    /// Somebody removed it, or put another one in its place.
    #[error("certificate request {name} was deleted before it was signed")]
    Deleted {
        /// Its name.
        name: String,
    },
}

/// A request the API server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) name: String,
    uid: String,
}

/// What is asked for, and of whom.
pub(crate) struct Question<'a> {
    pub(crate) template: &'a Template,
    pub(crate) key: &'a RequestKey,
    pub(crate) signer: &'static str,
    pub(crate) usages: Vec<&'static str>,
    /// The name, where the same question is to be asked only once; the server makes one up else.
    pub(crate) name: Option<String>,
}

/// Creates a request. One that is there already under the question's name is taken up, if it asks
/// for the same.
pub(crate) async fn ask(client: &Client, question: Question<'_>) -> Result<Asked, SigningError> {
    let pem = question.template.request_pem(question.key).map_err(SigningError::Make)?;
    let object = CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: question.name.is_none().then(|| "csr-".to_owned()),
            name: question.name.clone(),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: question.signer.to_owned(),
            usages: Some(question.usages.iter().map(|&usage| usage.to_owned()).collect()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let label = question.name.clone().unwrap_or_else(|| question.signer.to_owned());
    let purpose = Purpose::new("create certificatesigningrequest", label);
    let body = serde_json::to_vec(&object).map_err(|error| SigningError::Submit(purpose.build(error)))?;
    let request = Request::new(PATH).create(&PostParams::default(), body);
    let created: Result<CertificateSigningRequest, _> = call(client, &purpose, request).await;
    match (created, &question.name) {
        (Ok(created), _) => Ok(asked(&created)),
        (Err(error), Some(name)) if error.is_already_exists() => {
            let purpose = Purpose::new("get certificatesigningrequest", name.clone());
            let request = Request::new(PATH).get(name, &GetParams::default());
            let found = call(client, &purpose, request).await.map_err(SigningError::Submit)?;
            take_up(&found, &question)
        }
        (Err(error), _) => Err(SigningError::Submit(error)),
    }
}

fn asked(object: &CertificateSigningRequest) -> Asked {
    Asked {
        name: object.metadata.name.clone().unwrap_or_default(),
        uid: object.metadata.uid.clone().unwrap_or_default(),
    }
}

/// Whether a request that was there before can stand for this one.
fn take_up(found: &CertificateSigningRequest, question: &Question<'_>) -> Result<Asked, SigningError> {
    let asked = asked(found);
    let differs = |difference| SigningError::Incompatible { name: asked.name.clone(), difference };
    let der = CertificateSigningRequestDer::from_pem_slice(&found.spec.request.0);
    let der = der.map_err(|_| differs("holds no certificate request"))?;
    let (_, parsed) =
        X509CertificationRequest::from_der(&der).map_err(|_| differs("holds no certificate request"))?;
    let info = &parsed.certification_request_info;
    if info.subject_pki.raw != question.key.public_info() {
        return Err(differs("is for another key"));
    }
    let names = |attributes: Vec<&x509_parser::x509::AttributeTypeAndValue<'_>>| -> Vec<String> {
        attributes.iter().map(|one| one.as_str().unwrap_or_default().to_owned()).collect()
    };
    let is_same_subject = names(info.subject.iter_common_name().collect())
        == [question.template.common_name.as_str()]
        && names(info.subject.iter_organization().collect()) == question.template.organizations;
    if !is_same_subject {
        return Err(differs("is for another subject"));
    }
    if found.spec.signer_name != question.signer {
        return Err(differs("is for another signer"));
    }
    let signed = found.status.as_ref().and_then(|status| status.certificate.as_ref());
    if signed.is_some_and(|certificate| has_expired(&certificate.0, Timestamp::now())) {
        return Err(differs("was signed so long ago that its certificate has expired"));
    }
    tracing::info!(name = asked.name, "Using the existing certificate signing request");
    Ok(asked)
}

fn has_expired(pem: &[u8], now: Timestamp) -> bool {
    CertificateDer::pem_slice_iter(pem).flatten().any(|der| {
        X509Certificate::from_der(&der)
            .is_ok_and(|(_, parsed)| parsed.validity().not_after.timestamp() < now.as_second())
    })
}

/// Waits for the certificate, however long it takes; watch failures are waited out. The caller sets
/// the limit. Returns the chain in PEM. Cancel-safe: nothing is changed.
pub(crate) async fn certificate_of(client: &Client, asked: &Asked) -> Result<Vec<u8>, SigningError> {
    let deleted = || SigningError::Deleted { name: asked.name.clone() };
    let fields = format!("metadata.name={}", asked.name);
    let purpose = Purpose::new("watch certificatesigningrequest", asked.name.clone());
    let mut watch = Watch::new(client.clone(), PATH, Some(fields), Freshness::Latest, purpose);
    loop {
        let current: CertificateSigningRequest = match watch.next().await {
            Change::Listed(found) => found.into_iter().next().ok_or_else(deleted)?,
            Change::Applied(found) => found,
            Change::Deleted(_) => return Err(deleted()),
        };
        if current.metadata.uid.as_deref() != Some(&asked.uid) {
            return Err(deleted());
        }
        if let Some(certificate) = outcome(&asked.name, current)? {
            return Ok(certificate);
        }
    }
}

/// The certificate, once approved and signed; `None` while either is missing.
fn outcome(name: &str, current: CertificateSigningRequest) -> Result<Option<Vec<u8>>, SigningError> {
    let Some(status) = current.status else { return Ok(None) };
    let mut is_approved = false;
    for condition in status.conditions.unwrap_or_default() {
        let (name, reason, message) =
            (name.to_owned(), condition.reason.unwrap_or_default(), condition.message.unwrap_or_default());
        match condition.type_.as_str() {
            "Denied" => return Err(SigningError::Denied { name, reason, message }),
            "Failed" => return Err(SigningError::Failed { name, reason, message }),
            "Approved" => is_approved = true,
            _ => {}
        }
    }
    let certificate = status.certificate.map(|bytes| bytes.0).filter(|bytes| !bytes.is_empty());
    Ok(certificate.filter(|_| is_approved))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::request::{Use, digested_name};
    use super::*;
    use crate::fake::{Fake, Reply, list, refuse};

    fn object(name: &str, uid: &str, spec: &Value, status: &Value) -> Value {
        let metadata = json!({"name": name, "uid": uid, "resourceVersion": "5"});
        json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
               "metadata": metadata, "spec": spec, "status": status})
    }

    fn condition(kind: &str) -> Value {
        json!([{"type": kind, "status": "True", "reason": "why", "message": "because"}])
    }

    fn question<'a>(key: &'a RequestKey, template: &'a Template, name: Option<&str>) -> Question<'a> {
        Question {
            template,
            key,
            signer: Use::Client.signer(),
            usages: Use::Client.usages(false),
            name: name.map(str::to_owned),
        }
    }

    #[tokio::test]
    async fn a_request_is_created_as_upstream_creates_it_and_its_certificate_waited_for() {
        let (key, template) = (RequestKey::generate().unwrap(), Template::for_client("n1"));
        let spec = json!({"request": "", "signerName": "s"});
        let signed = json!({"conditions": condition("Approved"), "certificate": "cGVt"});
        let mut fake = Fake::scripted(vec![
            Reply::Json(201, object("csr-abc", "u1", &spec, &json!({}))),
            list("5", json!([object("csr-abc", "u1", &spec, &json!({}))])),
            Reply::Lines(vec![
                json!({"type": "MODIFIED", "object": object("csr-abc", "u1", &spec, &json!({"conditions": condition("Approved")}))}),
                json!({"type": "MODIFIED", "object": object("csr-abc", "u1", &spec, &signed)}),
            ]),
        ])
        .await;
        let client = fake.connection.api.clone();
        let asked = ask(&client, question(&key, &template, None)).await.unwrap();
        let certificate = certificate_of(&client, &asked).await.unwrap();
        assert_eq!(certificate, b"pem");
        let request = fake.next().await;
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", PATH));
        assert_eq!(request.body["metadata"], json!({"generateName": "csr-"}));
        assert_eq!(request.body["spec"]["signerName"], "kubernetes.io/kube-apiserver-client-kubelet");
        assert_eq!(request.body["spec"]["usages"], json!(["digital signature", "client auth"]));
        assert!(request.body["spec"].get("expirationSeconds").is_none());
        assert!(fake.next().await.query.contains("fieldSelector=metadata.name%3Dcsr-abc"));
    }

    #[tokio::test]
    async fn a_request_made_earlier_is_taken_up_if_it_asks_for_the_same() {
        let (key, template) = (RequestKey::generate().unwrap(), Template::for_client("n1"));
        let usages = Use::Client.usages(false);
        let name = digested_name(&key, &template, &usages);
        let spec = |template: &Template, key: &RequestKey, signer: &str| {
            let pem = template.request_pem(key).unwrap();
            serde_json::to_value(CertificateSigningRequestSpec {
                request: ByteString(pem.into_bytes()),
                signer_name: signer.to_owned(),
                ..CertificateSigningRequestSpec::default()
            })
            .unwrap()
        };
        let (signer, other_key) = (Use::Client.signer(), RequestKey::generate().unwrap());
        let expired = super::super::testing::Authority::new().pair("n1", -20, -10).0;
        let expired = json!({ "certificate": ByteString(expired.into_bytes()) });
        for (spec, status, refusal) in [
            (spec(&template, &key, signer), json!({}), None),
            (spec(&template, &other_key, signer), json!({}), Some("is for another key")),
            (spec(&Template::for_client("n2"), &key, signer), json!({}), Some("is for another subject")),
            (spec(&template, &key, "other"), json!({}), Some("is for another signer")),
            (json!({"request": "", "signerName": signer}), json!({}), Some("holds no certificate request")),
            (
                spec(&template, &key, signer),
                expired,
                Some("was signed so long ago that its certificate has expired"),
            ),
        ] {
            let fake = Fake::scripted(vec![
                refuse(409, "AlreadyExists", "there"),
                Reply::Json(200, object(&name, "u1", &spec, &status)),
            ])
            .await;
            let answer = ask(&fake.connection.api, question(&key, &template, Some(&name))).await;
            match (answer, refusal) {
                (Ok(asked), None) => assert_eq!((asked.name.as_str(), asked.uid.as_str()), (&*name, "u1")),
                (Err(SigningError::Incompatible { difference, .. }), Some(wanted)) => {
                    assert_eq!(difference, wanted);
                }
                (answer, refusal) => panic!("{answer:?}, not {refusal:?}"),
            }
        }
    }

    #[test]
    fn outcomes_of_a_request() {
        let spec = json!({"request": "", "signerName": "s"});
        for (status, want) in [
            (json!(null), "waiting"),
            (json!({"certificate": "cGVt"}), "waiting"),
            (json!({"conditions": condition("Approved")}), "waiting"),
            (json!({"conditions": condition("Approved"), "certificate": "cGVt"}), "signed"),
            (json!({"conditions": condition("Denied")}), "certificate request c is denied: why: because"),
            (json!({"conditions": condition("Failed")}), "certificate request c failed: why: because"),
        ] {
            let object = serde_json::from_value(object("c", "u", &spec, &status)).unwrap();
            let have = match outcome("c", object) {
                Ok(Some(_)) => "signed".to_owned(),
                Ok(None) => "waiting".to_owned(),
                Err(error) => error.to_string(),
            };
            assert_eq!(have, want, "{status}");
        }
    }

    #[tokio::test]
    async fn a_request_that_is_gone_or_replaced_is_an_error() {
        let spec = json!({"request": "", "signerName": "s"});
        let asked = Asked { name: "c".into(), uid: "u1".into() };
        for items in [json!([]), json!([object("c", "u2", &spec, &json!({}))])] {
            let fake = Fake::scripted(vec![list("5", items)]).await;
            let answer = certificate_of(&fake.connection.api, &asked).await;
            assert!(matches!(answer, Err(SigningError::Deleted { .. })), "{answer:?}");
        }
    }
}
