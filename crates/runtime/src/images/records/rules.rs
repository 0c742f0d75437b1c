//! What a record says of a pod, and what a pull adds to a record. Nothing here reads or writes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::document::{AccountCredential, CredentialMapping, Record, SecretCredential};
use crate::images::keyring::{Coordinates, Credentials, Origin};

/// So many secrets of a repository are noted for having the content of one that is known, or the place of one with
/// other content. Beyond that only pulls are noted: namespaces that come and go must not make files grow for ever.
const NOTED_SECRETS: usize = 100;

/// What was shown by a pull, or stands for what was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Every pod of this node can pull it.
    Everybody,
    /// Whoever has this secret can.
    Secret(SecretCredential),
    /// Pods with this service account can.
    Account(AccountCredential),
}

impl Proof {
    /// Of a pull with these credentials, or with none.
    pub(super) fn of(used: Option<&Credentials>) -> Self {
        match used.map(|used| (used, &used.origin)) {
            None | Some((_, Origin::Node)) => Self::Everybody,
            Some((used, Origin::Secret(secret))) => Self::Secret(SecretCredential {
                uid: secret.uid.clone(),
                namespace: secret.namespace.clone(),
                name: secret.name.clone(),
                credential_hash: used.digest(),
            }),
            Some((_, Origin::ServiceAccount(account))) => Self::Account(AccountCredential {
                uid: account.uid.clone(),
                namespace: account.namespace.clone(),
                name: account.name.clone(),
            }),
        }
    }
}

/// What pods need for a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing.
    Nothing,
    /// One of the secrets or service accounts that are known; whether there are any of each.
    Credentials { secrets: bool, accounts: bool },
    /// To pull it: nobody is known to have access.
    Pull,
}

pub(super) fn needs(record: &Record, repository: &str) -> Needs {
    let Some(mapping) = record.credential_mapping.get(repository) else { return Needs::Pull };
    let secrets = !mapping.kubernetes_secrets.is_empty();
    let accounts = !mapping.kubernetes_service_accounts.is_empty();
    if mapping.node_pods_accessible {
        Needs::Nothing
    } else if secrets || accounts {
        Needs::Credentials { secrets, accounts }
    } else {
        Needs::Pull
    }
}

/// How a pod's credentials fit those that are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// They open it.
    Known,
    /// They do, and this is to be noted, so that it is known if what it was compared with goes.
    Noteworthy(Proof),
    /// They may or may not.
    Unknown,
}

/// Compares what a pod has, the first first, with what is known. A secret fits by its content, wherever it is, and by
/// its place, whatever its content: who may change a secret is trusted with what it opened. Of service accounts a pod
/// has one, so only the first is looked at.
pub(super) fn fit(mapping: &CredentialMapping, offered: &[Credentials]) -> Fit {
    let known = &mapping.kubernetes_secrets;
    let is_noted = known.len() < NOTED_SECRETS;
    for credentials in offered {
        let Proof::Secret(secret) = Proof::of(Some(credentials)) else { continue };
        for opener in known {
            let is_content =
                !opener.credential_hash.is_empty() && opener.credential_hash == secret.credential_hash;
            let is_place = place(opener) == place(&secret);
            match (is_content, is_place) {
                (true, true) => return Fit::Known,
                (true, false) if !is_noted => return Fit::Known,
                (true, false) => return Fit::Noteworthy(Proof::Secret(secret)),
                (false, true) if is_noted => return Fit::Noteworthy(Proof::Secret(secret)),
                _ => {}
            }
        }
    }
    let account = offered.iter().find_map(|credentials| match Proof::of(Some(credentials)) {
        Proof::Account(account) => Some(account),
        _ => None,
    });
    match account {
        Some(account) if mapping.kubernetes_service_accounts.contains(&account) => Fit::Known,
        _ => Fit::Unknown,
    }
}

/// The record with a proof added; `None` when it says that already.
pub(super) fn with_proof(record: &Record, repository: &str, proof: &Proof, now: Timestamp) -> Option<Record> {
    let known = record.credential_mapping.get(repository);
    if known.is_some_and(|mapping| mapping.node_pods_accessible) {
        return None;
    }
    let mut mapping = known.cloned().unwrap_or_default();
    match proof {
        // It takes the place of all others.
        Proof::Everybody => {
            mapping = CredentialMapping { node_pods_accessible: true, ..CredentialMapping::default() }
        }
        Proof::Secret(secret) => {
            mapping.kubernetes_secrets = with_secret(&mapping.kubernetes_secrets, secret)?;
        }
        Proof::Account(account) => {
            mapping.kubernetes_service_accounts =
                with_account(&mapping.kubernetes_service_accounts, account)?;
        }
    }
    let mut record = record.clone();
    record.credential_mapping.insert(repository.to_owned(), mapping);
    record.last_updated_time = Some(to_the_second(now));
    Some(record)
}

/// As upstream writes times.
pub(super) fn to_the_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Sorted by place, one of each, the newest content.
fn with_secret(known: &[SecretCredential], secret: &SecretCredential) -> Option<Vec<SecretCredential>> {
    if known.contains(secret) {
        return None;
    }
    let all: BTreeMap<Coordinates, &SecretCredential> =
        known.iter().chain([secret]).map(|secret| (place(secret), secret)).collect();
    Some(all.into_values().cloned().collect())
}

fn with_account(known: &[AccountCredential], account: &AccountCredential) -> Option<Vec<AccountCredential>> {
    if known.contains(account) {
        return None;
    }
    let place =
        |account: &AccountCredential| (account.namespace.clone(), account.name.clone(), account.uid.clone());
    let all: BTreeSet<_> = known.iter().chain([account]).map(place).collect();
    let account = |(namespace, name, uid)| AccountCredential { uid, namespace, name };
    Some(all.into_iter().map(account).collect())
}

fn place(secret: &SecretCredential) -> Coordinates {
    Coordinates { namespace: secret.namespace.clone(), name: secret.name.clone(), uid: secret.uid.clone() }
}
