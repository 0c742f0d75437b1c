//! Plugins that are real programs: shell scripts.

use std::sync::Mutex as Locked;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert as _;

use super::*;
use crate::certificates::testing::Authority;

const ALL: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];

struct Setup {
    folder: tempfile::TempDir,
    identity: Arc<ShownIdentity>,
    renewals: Renewals,
    events: Arc<Locked<Vec<String>>>,
}

impl Setup {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            identity: ShownIdentity::empty(),
            renewals: Renewals::new(),
            events: Arc::default(),
        }
    }

    /// Run by a shell: a file that was just written cannot be executed itself while another test
    /// forks.
    fn plugin(&self, script: &str) -> ExecPlugin {
        self.configured(&self.script(script, &[])).unwrap()
    }

    fn script(&self, script: &str, args: &[&str]) -> ExecConfig {
        let path = self.folder.path().join("plugin");
        std::fs::write(&path, script).unwrap();
        let args = [path.to_str().unwrap()].iter().chain(args).map(|&arg| arg.to_owned()).collect();
        ExecConfig { args: Some(args), ..config("/bin/sh") }
    }

    fn configured(&self, config: &ExecConfig) -> Result<ExecPlugin, ExecError> {
        let events = self.events.clone();
        let observer = Observer::new(move |one| {
            if let CredentialEvent::Plugin(ExecPluginEvent::Called { code, status }) = one {
                events.lock().unwrap().push(format!("{code} {status}"));
            }
        });
        ExecPlugin::new(config, self.identity.clone(), self.renewals.clone(), observer)
    }

    /// A file the plugin prints.
    fn answer(&self, status: &serde_json::Value) -> String {
        let path = self.folder.path().join("answer");
        let answer = json!({"kind": "ExecCredential", "apiVersion": VERSIONS[0], "status": status});
        std::fs::write(&path, answer.to_string()).unwrap();
        format!("cat {}", path.display())
    }
}

fn config(command: &str) -> ExecConfig {
    ExecConfig {
        api_version: Some(VERSIONS[0].to_owned()),
        command: Some(command.to_owned()),
        interactive_mode: Some(ExecInteractiveMode::Never),
        ..ExecConfig::default()
    }
}

#[tokio::test]
async fn a_token_is_kept_until_it_expires_or_is_refused() {
    let setup = Setup::new();
    let count = setup.folder.path().join("count");
    let script = |expiry: &str| {
        format!(
            "echo x >> {count}\nn=$(wc -l < {count})\necho \"{{\\\"kind\\\": \\\"ExecCredential\\\", \\\"apiVersion\\\": \\\"{version}\\\", \\\"status\\\": {{\\\"token\\\": \\\"t$n\\\", \\\"expirationTimestamp\\\": \\\"{expiry}\\\"}}}}\"",
            count = count.display(),
            version = VERSIONS[0],
        )
    };
    let plugin = setup.plugin(&script("2999-01-01T00:00:00Z"));
    let (header, generation) = plugin.header().await.unwrap();
    assert_eq!(header.unwrap(), "Bearer t1");
    assert_eq!(plugin.header().await.unwrap().0.unwrap(), "Bearer t1");
    plugin.refused(generation).await;
    let (header, newer) = plugin.header().await.unwrap();
    assert_eq!(header.unwrap(), "Bearer t2");
    plugin.refused(generation).await;
    assert_eq!(plugin.header().await.unwrap().1, newer, "the refused one was replaced already");
    assert_eq!(*setup.events.lock().unwrap(), ["0 no_error", "0 no_error"]);
    let plugin = setup.plugin(&script("2000-01-01T00:00:00Z"));
    assert_eq!(plugin.header().await.unwrap().0.unwrap(), "Bearer t3");
    assert_eq!(plugin.header().await.unwrap().0.unwrap(), "Bearer t4", "it has expired already");
}

#[tokio::test]
async fn a_certificate_is_shown_and_connections_are_renewed_when_it_is_another() {
    let setup = Setup::new();
    let authority = Authority::new();
    let status = || {
        let (chain, key) = authority.pair("n1", -10, 900);
        json!({"clientCertificateData": chain, "clientKeyData": key})
    };
    let renewed = setup.renewals.subscribe();
    let plugin = setup.plugin(&setup.answer(&status()));
    assert!(setup.identity.resolve(&[], ALL).is_none());
    let (header, generation) = plugin.header().await.unwrap();
    assert!(header.is_none());
    let first = setup.identity.resolve(&[], ALL).unwrap();
    assert_eq!(*renewed.borrow(), 1);
    plugin.refused(generation).await;
    let (_, generation) = plugin.header().await.unwrap();
    assert_eq!(*renewed.borrow(), 1, "the same certificate");
    setup.answer(&status());
    plugin.refused(generation).await;
    plugin.header().await.unwrap();
    assert_eq!(*renewed.borrow(), 2);
    assert_ne!(setup.identity.resolve(&[], ALL).unwrap().cert, first.cert);
}

#[tokio::test]
async fn it_is_told_what_it_needs() {
    let setup = Setup::new();
    let seen = setup.folder.path().join("seen");
    let script = format!(
        "echo \"$1 $MINE $KUBERNETES_EXEC_INFO\" > {}\n{}",
        seen.display(),
        setup.answer(&json!({"token": "t"}))
    );
    let mut config = setup.script(&script, &["argument"]);
    config.env =
        Some(vec![[("name".to_owned(), "MINE".to_owned()), ("value".to_owned(), "yes".to_owned())].into()]);
    config.provide_cluster_info = true;
    config.cluster = Some(kube::config::ExecAuthCluster {
        server: Some("https://s".into()),
        certificate_authority_data: Some(b"ca".to_vec()),
        ..kube::config::ExecAuthCluster::default()
    });
    setup.configured(&config).unwrap().header().await.unwrap();
    let seen = std::fs::read_to_string(seen).unwrap();
    let (words, info) = seen.split_at(seen.find('{').unwrap());
    assert_eq!(words, "argument yes ");
    let info: serde_json::Value = serde_json::from_str(info).unwrap();
    assert_eq!(info["apiVersion"], VERSIONS[0]);
    assert_eq!(info["spec"]["interactive"], false);
    assert_eq!(info["spec"]["cluster"]["certificate-authority-data"], "Y2E=");
}

#[tokio::test]
async fn failures_are_told_apart_and_never_show_what_was_printed() {
    let setup = Setup::new();
    let bad = |what: &str| format!("echo '{what}'");
    for (script, want) in [
        ("echo secret; exit 3".to_owned(), "ended with exit status: 3"),
        (bad("secret"), "it is no ExecCredential"),
        (bad(r#"{"apiVersion": "v2", "status": {"token": "secret"}}"#), "its apiVersion is not the one"),
        (bad(r#"{"apiVersion": "client.authentication.k8s.io/v1"}"#), "it has no status"),
        (setup.answer(&json!({"clientKeyData": "secret"})), "a certificate or a key, not both"),
    ] {
        let error = setup.plugin(&script).header().await.unwrap_err();
        let text = model::chain(&error);
        assert!(text.contains(want) && !text.contains("secret"), "{script}: {text}");
    }
    let script = setup.answer(&json!({"clientKeyData": "secret", "clientCertificateData": "secret"}));
    let error = setup.plugin(&script).header().await.unwrap_err();
    assert!(matches!(error, ExecError::Certificate { .. }), "{error}");
    let script = setup.answer(&json!({}));
    let error = setup.plugin(&script).header().await.unwrap_err();
    assert!(error.to_string().contains("neither a token nor a certificate"), "{error}");
    let missing = setup.configured(&config("/no/such/program")).unwrap().header().await.unwrap_err();
    assert!(matches!(missing, ExecError::Start { .. }), "{missing}");
    let events = setup.events.lock().unwrap();
    assert_eq!(events.first().unwrap(), "3 plugin_execution_error");
    assert_eq!(events.last().unwrap(), "1 plugin_not_found_error");
}

#[test]
fn settings_that_cannot_work_are_refused_at_once() {
    let setup = Setup::new();
    let refused = |change: fn(&mut ExecConfig)| {
        let mut config = config("plugin");
        change(&mut config);
        matches!(setup.configured(&config), Err(ExecError::Settings(_)))
    };
    assert!(!refused(|_| {}));
    assert!(refused(|c| c.command = None));
    assert!(refused(|c| c.api_version = Some("client.authentication.k8s.io/v1alpha1".into())));
    assert!(refused(|c| c.interactive_mode = Some(ExecInteractiveMode::Always)));
    assert!(refused(|c| c.interactive_mode = None));
    assert!(!refused(|c| {
        c.interactive_mode = None;
        c.api_version = Some(VERSIONS[1].into());
    }));
}
