//! Programs that know credentials for registries (`--image-credential-provider-config`,
//! <https://kubernetes.io/docs/tasks/administer-cluster/kubelet-credential-provider/>).
//!
//! A program is asked when an image that matches its patterns is to be pulled: a
//! `CredentialProviderRequest` on its standard input, a `CredentialProviderResponse` on its standard
//! output. Answers are kept for as long as they say, for the image, its registry or everything; those
//! that were given for a service account, for that account only. A program that fails costs the pull
//! its credentials and nothing else.

mod answers;
mod request;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use config::{CredentialProvider, ServiceAccountTokenAttributes};
use golang::hex;
use model::{Pod, pod};
use sha2::{Digest as _, Sha256};
use telemetry::metrics::Metrics;
use tokio::time::Instant;
use tracing::{debug, error};

use self::answers::{Answers, Kept, Key};
use self::request::{Program, ProgramError};
use super::keyring::{Coordinates, Credentials, Keyring, Origin, matches};
use super::name::repository;

/// What the API server knows of service accounts. Errors are texts for the log.
pub trait ServiceAccounts: Sync {
    /// The account as it is now.
    fn account(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<ServiceAccountFacts, String>> + Send;

    /// A token of the account for an audience, bound to the pod.
    fn token(
        &self,
        pod: &Pod,
        account: &str,
        audience: &str,
    ) -> impl Future<Output = Result<String, String>> + Send;
}

/// A service account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAccountFacts {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
}

/// All programs of a node, in the order in which they are asked.
#[derive(Debug, Default)]
pub struct CredentialProviders(Vec<Asked>);

/// A program and what it said.
#[derive(Debug)]
struct Asked {
    program: Program,
    settings: CredentialProvider,
    answers: Mutex<Answers>,
    /// Who is being asked for an image; others wait for that answer.
    under_way: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

/// On whose behalf a program is asked.
#[derive(Default)]
struct Identity {
    /// Tells the answers for one account from those for others; empty for nobody.
    key: String,
    account: Option<Coordinates>,
    token: String,
    annotations: BTreeMap<String, String>,
}

/// What a program said, and whose that is.
type Provided = (Kept, Origin);

impl CredentialProviders {
    /// The programs, whose executables are in a folder.
    pub fn new(providers: &[CredentialProvider], folder: &Path, metrics: &Arc<Metrics>) -> Self {
        let asked = |settings: &CredentialProvider| Asked {
            program: Program::new(settings, folder, metrics.clone()),
            settings: settings.clone(),
            answers: Mutex::default(),
            under_way: Mutex::default(),
        };
        Self(providers.iter().map(asked).collect())
    }

    /// Credentials that may open the repository of an image (its full name, of which tag and digest do not
    /// count), the most specific first.
    pub async fn lookup(&self, image: &str, pod: &Pod, accounts: &impl ServiceAccounts) -> Vec<Credentials> {
        let repository = repository(image);
        let mut keyring = Keyring::default();
        for asked in self.0.iter().filter(|asked| asked.is_for(repository)) {
            match asked.provide(repository, pod, accounts).await {
                Ok((found, origin)) => found.iter().for_each(|(registry, known)| {
                    keyring.add_for(registry, Credentials { origin: origin.clone(), ..known.clone() });
                }),
                Err(error) => error!(
                    provider = asked.settings.name,
                    image = repository,
                    pod = %pod::key(pod),
                    err = &error as &dyn std::error::Error,
                    "Failed to provide credentials for image"
                ),
            }
        }
        keyring.lookup(repository)
    }
}

impl Asked {
    fn is_for(&self, repository: &str) -> bool {
        self.settings.match_images.items().iter().any(|pattern| matches(pattern, repository))
    }

    async fn provide(
        &self,
        repository: &str,
        pod: &Pod,
        accounts: &impl ServiceAccounts,
    ) -> Result<Provided, ProgramError> {
        let Some(identity) = self.identity(pod, accounts).await? else { return Ok(Provided::default()) };
        let origin = identity.account.clone().map_or(Origin::Node, Origin::ServiceAccount);
        Ok((self.found(repository, identity).await?, origin))
    }

    async fn found(&self, repository: &str, identity: Identity) -> Result<Kept, ProgramError> {
        if let Some(kept) = self.kept(repository, &identity) {
            return Ok(kept);
        }
        let turn = self.turn(format!("{repository}\n{}", identity.key));
        let _turn = turn.lock().await;
        // Whoever had the turn before may have brought it.
        if let Some(kept) = self.kept(repository, &identity) {
            return Ok(kept);
        }
        let answer = self.program.ask(repository, &identity.token, &identity.annotations).await?;
        let is_echo = |known: &Credentials| !identity.token.is_empty() && known.password == identity.token;
        if !self.caches_by_token() && answer.auth.values().any(is_echo) {
            return Err(self.program.answered("it gave the token back, for which cacheType has to be Token"));
        }
        let lasts = answer.lasts.unwrap_or_else(|| {
            self.settings.default_cache_duration.map(config::GoDuration::to_std).unwrap_or_default()
        });
        let found: Kept = Arc::new(answer.auth);
        if !lasts.is_zero() {
            let key = Key { scope: answer.scope.of(repository), account: identity.key };
            self.answers().keep(key, found.clone(), Instant::now() + lasts);
        }
        Ok(found)
    }

    /// Nothing if this program is not to be asked for this pod.
    async fn identity(
        &self,
        pod: &Pod,
        accounts: &impl ServiceAccounts,
    ) -> Result<Option<Identity>, ProgramError> {
        let Some(attributes) = &self.settings.token_attributes else { return Ok(Some(Identity::default())) };
        let name = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            let is_required = attributes.require_service_account == Some(true);
            return Ok((!is_required).then(Identity::default));
        };
        let namespace = pod::key(pod).namespace;
        let failed = |problem| self.program.no_account(&namespace, name, problem);
        let facts = accounts.account(&namespace, name).await.map_err(failed)?;
        let annotations = match told(attributes, &facts) {
            Ok(annotations) => annotations,
            Err(missing) => {
                // How single workloads opt in: nothing out of the ordinary.
                debug!(provider = self.settings.name, annotation = missing, pod = %pod::key(pod), "Service account lacks a required annotation");
                return Ok(None);
            }
        };
        let audience = &attributes.service_account_token_audience;
        let token = accounts.token(pod, name, audience).await.map_err(failed)?;
        // Unambiguous: none of these can have a line break but values, which come quoted.
        let mut key = format!("{namespace}\n{name}\n{}\n{annotations:?}", facts.uid);
        let account = Coordinates { namespace: namespace.to_string(), name: name.to_owned(), uid: facts.uid };
        if self.caches_by_token() {
            key += "\n";
            key += &hex::encode(&Sha256::digest(&token));
        }
        Ok(Some(Identity { key, account: Some(account), token, annotations }))
    }

    fn caches_by_token(&self) -> bool {
        self.settings.token_attributes.as_ref().is_some_and(|attributes| attributes.cache_type == "Token")
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self, repository: &str, identity: &Identity) -> Option<Kept> {
        self.answers().find(repository, &identity.key, Instant::now())
    }

    fn turn(&self, of: String) -> Arc<tokio::sync::Mutex<()>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = under_way.get(&of).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        under_way.insert(of, Arc::downgrade(&turn));
        turn
    }
}

/// The annotations a program is told, or the one it must be told and cannot be.
fn told<'a>(
    attributes: &'a ServiceAccountTokenAttributes,
    facts: &ServiceAccountFacts,
) -> Result<BTreeMap<String, String>, &'a str> {
    let mut annotations = BTreeMap::new();
    for key in attributes.required_service_account_annotation_keys.items() {
        let value = facts.annotations.get(key).ok_or(key.as_str())?;
        annotations.insert(key.clone(), value.clone());
    }
    for key in attributes.optional_service_account_annotation_keys.items() {
        if let Some(value) = facts.annotations.get(key) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    Ok(annotations)
}

#[cfg(test)]
mod tests;
