//! What a program answered, for as long as that holds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::super::keyring::Credentials;

/// Credentials by the pattern of images they are for.
pub(super) type Kept = Arc<BTreeMap<String, Credentials>>;

/// How far an answer reaches (`cacheKeyType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The one repository.
    Image,
    /// All repositories of its registry.
    Registry,
    /// All images the program is asked for.
    Global,
}

impl Scope {
    /// `cacheKeyType`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "Image" => Some(Self::Image),
            "Registry" => Some(Self::Registry),
            "Global" => Some(Self::Global),
            _ => None,
        }
    }

    /// What an answer about a repository is kept under.
    pub(super) fn of(self, repository: &str) -> String {
        match self {
            Self::Image => repository.to_owned(),
            Self::Registry => repository.split('/').next().unwrap_or_default().to_owned(),
            // No registry is called that.
            Self::Global => "<global>".to_owned(),
        }
    }
}

/// What an answer is kept under.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) scope: String,
    /// The service account it was given for; empty for nobody.
    pub(super) account: String,
}

/// The answers of one program. Old ones go when new ones come.
#[derive(Debug, Default)]
pub(super) struct Answers(HashMap<Key, (Instant, Kept)>);

impl Answers {
    pub(super) fn keep(&mut self, key: Key, answer: Kept, until: Instant) {
        let now = Instant::now();
        self.0.retain(|_, (until, _)| *until >= now);
        self.0.insert(key, (until, answer));
    }

    /// The answer with the narrowest scope.
    pub(super) fn find(&self, repository: &str, account: &str, now: Instant) -> Option<Kept> {
        [Scope::Image, Scope::Registry, Scope::Global].into_iter().find_map(|scope| {
            let key = Key { scope: scope.of(repository), account: account.to_owned() };
            self.0.get(&key).filter(|(until, _)| *until >= now).map(|(_, kept)| kept.clone())
        })
    }
}
