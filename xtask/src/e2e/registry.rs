//! Images from a registry that wants to know who asks.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::{Pod, Secret};
use serde_json::{Value, json};

use super::scene::{self, EVENTUALLY, SOON, Scene, is_ready, shell, waiting, with};
use super::web::{self, Answer, Web};
use crate::cluster::{Changes, Kind};
use crate::images::{BUSYBOX, Stored};
use crate::workspace;

const USER: &str = "puller";
const PASSWORD: &str = "correct-horse";
const WRONG_PASSWORD: &str = "battery-staple";

/// Serves busybox, under whatever name, to [`USER`].
struct Registry {
    web: Web,
    /// Requests of those who are known.
    served: Arc<AtomicUsize>,
}

impl Registry {
    async fn start(scene: &Scene) -> Result<Self> {
        let archive = scene.cluster.paths.images.clone();
        let author = scene.namespace.clone();
        let reading = move || Stored::variant(&archive, BUSYBOX, &author);
        let stored = tokio::task::spawn_blocking(reading).await??;
        let wanted = format!("Basic {}", BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}")));
        let served = Arc::new(AtomicUsize::new(0));
        let count = served.clone();
        let web = Web::serve(move |request| {
            if request.headers().get(AUTHORIZATION).is_none_or(|given| given.as_bytes() != wanted.as_bytes())
            {
                let text = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
                let mut answer = web::text(StatusCode::UNAUTHORIZED, text);
                answer
                    .headers_mut()
                    .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"test\""));
                return answer;
            }
            count.fetch_add(1, Ordering::Relaxed);
            serve(&stored, request)
        })
        .await?;
        Ok(Self { web, served })
    }

    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.web.port)
    }

    fn image(&self, name: &str) -> String {
        format!("{}/private/{name}:1", self.host())
    }
}

/// The pull half of the distribution protocol, for those who are known.
fn serve(stored: &Stored, request: &Request<Incoming>) -> Answer {
    let path = request.uri().path();
    if path == "/v2/" {
        return web::text(StatusCode::OK, "{}");
    }
    let mut parts = path.rsplitn(3, '/');
    let (Some(reference), Some(kind)) = (parts.next(), parts.next()) else {
        return web::text(StatusCode::NOT_FOUND, "");
    };
    let digest = if kind == "manifests" && reference == "1" { &stored.digest } else { reference };
    let Some(content) = stored.blobs.get(digest) else { return web::text(StatusCode::NOT_FOUND, "") };
    let body = if request.method() == Method::HEAD { Vec::new() } else { content.clone() };
    let media_type =
        if kind == "manifests" { stored.media_type.as_str() } else { "application/octet-stream" };
    let mut answer = web::text(StatusCode::OK, body);
    let headers = answer.headers_mut();
    for (name, value) in
        [(CONTENT_TYPE, media_type), (HeaderName::from_static("docker-content-digest"), digest)]
    {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(content.len()));
    answer
}

fn spec(image: &str, fields: Value) -> Value {
    let container = with(shell("main", "echo pulled; sleep 100000"), json!({ "image": image }));
    with(json!({ "containers": [container] }), fields)
}

/// A pod that is refused says so, with the image and the reason and without a secret.
async fn refused(scene: &Scene, name: &str, image: &str) -> Result<Pod> {
    let is_refused = |pod: &Pod| matches!(waiting(pod, "main"), "ErrImagePull" | "ImagePullBackOff");
    let pod = scene.until(name, "refused", SOON, is_refused).await?;
    scene.event_naming(name, "Failed", image).await?;
    let events = scene.events(name).await?.join("\n");
    let is_clear = ["401", "authorization failed", "Unauthorized"].iter().any(|word| events.contains(word));
    ensure!(is_clear, "the events say that nobody vouches for it: {events}");
    for secret in [PASSWORD, WRONG_PASSWORD] {
        let encoded = BASE64_STANDARD.encode(format!("{USER}:{secret}"));
        ensure!(
            !events.contains(secret) && !events.contains(&encoded),
            "an event has the password: {events}"
        );
    }
    Ok(pod)
}

fn pull_secret(name: &str, host: &str, password: &str) -> Value {
    let auths = json!({ "auths": { host: { "username": USER, "password": password } } });
    json!({
        "metadata": { "name": name },
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": { ".dockerconfigjson": auths.to_string() },
    })
}

pub(super) async fn pull_secrets_open_it(scene: Scene) -> Result<()> {
    let registry = Registry::start(&scene).await?;
    let image = registry.image("one");
    scene.create::<Secret>(pull_secret("right", &registry.host(), PASSWORD)).await?;
    scene.create::<Secret>(pull_secret("wrong", &registry.host(), WRONG_PASSWORD)).await?;
    scene.pod("stranger", spec(&image, json!({}))).await?;
    let secrets = json!([{ "name": "nowhere" }, { "name": "wrong" }]);
    scene.pod("mistaken", spec(&image, json!({ "imagePullSecrets": secrets }))).await?;
    refused(&scene, "stranger", &image).await?;
    refused(&scene, "mistaken", &image).await?;
    // A secret that does not exist is skipped, as are those that are refused.
    let secrets = json!([{ "name": "nowhere" }, { "name": "wrong" }, { "name": "right" }]);
    scene.ready_pod("known", spec(&image, json!({ "imagePullSecrets": secrets }))).await?;
    ensure!(scene.first_line("known", "main").await? == "pulled", "it runs");
    let missing = scene.event("mistaken", "FailedToRetrieveImagePullSecret", SOON).await?;
    let wanted =
        "Unable to retrieve some image pull secrets (nowhere); attempting to pull the image may not succeed.";
    ensure!(missing == wanted, "it is told what is missing: {missing}");
    let known = scene.until("known", "ready", SOON, is_ready).await?;
    let id = scene::container(&known, "main").map(|status| status.image_id.clone()).unwrap_or_default();
    let repository = image.rsplit_once(':').map_or(&*image, |(repository, _)| repository);
    ensure!(id.starts_with(&format!("{repository}@sha256:")), "its image is known by its manifest: {id:?}");
    Ok(())
}

/// An image that is a volume is opened by what opens the images of containers, and stays closed to others.
pub(super) async fn pull_secrets_open_volumes(scene: Scene) -> Result<()> {
    let registry = Registry::start(&scene).await?;
    let image = registry.image("volume");
    scene.create::<Secret>(pull_secret("right", &registry.host(), PASSWORD)).await?;
    let spec = |fields: Value| {
        let mounts = json!({ "volumeMounts": [{ "name": "data", "mountPath": "/v" }] });
        let container = with(shell("main", "test -x /v/bin/sh && echo mounted; sleep 100000"), mounts);
        let volume = json!({ "name": "data", "image": { "reference": image, "pullPolicy": "IfNotPresent" } });
        with(json!({ "containers": [container], "volumes": [volume] }), fields)
    };
    scene.ready_pod("known", spec(with_secret("right"))).await?;
    ensure!(scene.first_line("known", "main").await? == "mounted", "it is there");
    // Though it is on the node by now.
    scene.pod("stranger", spec(json!({}))).await?;
    refused(&scene, "stranger", &image).await?;
    Ok(())
}

fn with_secret(secret: &str) -> Value {
    json!({ "imagePullSecrets": [{ "name": secret }] })
}

/// A spec that must do with what is on the node.
fn never_pulling(image: &str, fields: Value) -> Value {
    let mut spec = spec(image, fields);
    spec["containers"][0]["imagePullPolicy"] = json!("Never");
    spec
}

/// Pods without the secret get at an image neither by pulling it nor by saying that it is here.
async fn strangers_are_refused(scene: &Scene, image: &str, name: &str) -> Result<()> {
    let [pulls, does_not] = ["pulls", "does-not"].map(|how| format!("{name}-{how}"));
    scene.pod(&pulls, spec(image, json!({}))).await?;
    scene.pod(&does_not, never_pulling(image, json!({}))).await?;
    refused(scene, &pulls, image).await?;
    let is_refused = |pod: &Pod| waiting(pod, "main") == "ErrImageNeverPull";
    scene.until(&does_not, "refused", SOON, is_refused).await?;
    // As if it were not here.
    let message = scene.event(&does_not, "ErrImageNeverPull", SOON).await?;
    let expected = format!("Container image \"{image}\" is not present with pull policy of Never");
    ensure!(message == expected, "the event says {message:?}");
    scene.delete(&pulls).await?;
    scene.delete(&does_not).await
}

/// Pods with the secret, or another with the same content, start without the registry.
async fn friends_start(scene: &Scene, registry: &Registry, image: &str, name: &str) -> Result<()> {
    let before = registry.served.load(Ordering::Relaxed);
    // The copy first, which is known by its content alone.
    for secret in ["copy", "right"] {
        let name = format!("{name}-{secret}");
        scene.ready_pod(&name, never_pulling(image, with_secret(secret))).await?;
        let expected =
            format!("Container image \"{image}\" already present on machine and can be accessed by the pod");
        scene.event_naming(&name, "Pulled", &expected).await?;
        let present = with_secret(secret);
        scene.ready_pod(&format!("{name}-if-not-present"), spec(image, present)).await?;
    }
    let after = registry.served.load(Ordering::Relaxed);
    ensure!(before == after, "the registry is not asked: {before} requests, then {after}");
    Ok(())
}

/// The registry, and the secrets that open it.
async fn with_secrets(scene: &Scene) -> Result<Registry> {
    let registry = Registry::start(scene).await?;
    for name in ["right", "copy"] {
        scene.create::<Secret>(pull_secret(name, &registry.host(), PASSWORD)).await?;
    }
    Ok(registry)
}

/// KEP-2535: an image that a secret opened is not everybody's for lying on the same node.
pub(super) async fn what_a_secret_opened_stays_closed_to_others(scene: Scene) -> Result<()> {
    let registry = with_secrets(&scene).await?;
    let image = registry.image("closed");
    scene.ready_pod("first", spec(&image, with_secret("right"))).await?;
    strangers_are_refused(&scene, &image, "stranger").await?;
    friends_start(&scene, &registry, &image, "friend").await?;
    // Nor for a restart of the kubelet.
    scene.cluster.kubelet.stop().await?;
    scene.cluster.kubelet.start().await?;
    strangers_are_refused(&scene, &image, "late-stranger").await?;
    friends_start(&scene, &registry, &image, "late-friend").await?;
    // It was, before there was the gate.
    scene.cluster.kubelet.stop().await?;
    let fields = json!({ "featureGates": { "KubeletEnsureSecretPulledImages": false } });
    let kubelet = scene.cluster.kubelet_changed("open-images", Changes { fields, ..Changes::default() })?;
    kubelet.start().await?;
    scene.ready_pod("stranger-without-gate", never_pulling(&image, json!({}))).await?;
    kubelet.stop().await
}

/// What one kubelet has noted, the other goes by.
pub(super) async fn kubelets_read_each_others_records(scene: Scene) -> Result<()> {
    let registry = with_secrets(&scene).await?;
    let (ours, theirs) = (registry.image("ours"), registry.image("theirs"));
    scene.ready_pod("ours", spec(&ours, with_secret("right"))).await?;
    scene.cluster.kubelet.stop().await?;
    let binary = scene.cluster.paths.peers.kubernetes("kubelet");
    let go = scene.cluster.other_kubelet("kubelet-go", &binary, Kind::Usual);
    go.start().await?;
    strangers_are_refused(&scene, &ours, "stranger-there").await?;
    friends_start(&scene, &registry, &ours, "friend-there").await?;
    scene.ready_pod("theirs", spec(&theirs, with_secret("right"))).await?;
    go.stop().await?;
    scene.cluster.kubelet.start().await?;
    for (image, name) in [(&ours, "ours"), (&theirs, "theirs")] {
        strangers_are_refused(&scene, image, &format!("stranger-to-{name}")).await?;
        friends_start(&scene, &registry, image, &format!("friend-of-{name}")).await?;
    }
    Ok(())
}

/// A program that says what it is told in a file, and notes what it was asked.
struct CredentialProvider {
    folder: PathBuf,
}

impl CredentialProvider {
    fn new(scene: &Scene, host: &str) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = scene.cluster.paths.file(&scene.namespace);
        workspace::create_dir(&folder.join("programs"))?;
        let this = Self { folder };
        let program = this.folder.join("programs/vouch");
        let script = format!(
            "#!/bin/sh\n{{ cat; echo \" $GREETING $*\"; }} >> {}\ncat {}\n",
            this.asked().display(),
            this.answer().display(),
        );
        workspace::write(&program, script)?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))
            .context("make the program executable")?;
        this.configure(host, json!({}))?;
        Ok(this)
    }

    /// Names the program with these fields beside the usual ones.
    fn configure(&self, host: &str, fields: Value) -> Result<()> {
        let provider = json!({
            "name": "vouch", "matchImages": [host], "defaultCacheDuration": "1h",
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
            "args": ["an-argument"], "env": [{ "name": "GREETING", "value": "hello" }],
        });
        let configuration = json!({
            "apiVersion": "kubelet.config.k8s.io/v1",
            "kind": "CredentialProviderConfig",
            "providers": [with(provider, fields)],
        });
        workspace::write(&self.folder.join("providers.yaml"), configuration.to_string())
    }

    fn asked(&self) -> PathBuf {
        self.folder.join("asked")
    }

    fn answer(&self) -> PathBuf {
        self.folder.join("answer")
    }

    fn says(&self, host: &str, password: &str, kept: &str) -> Result<()> {
        let answer = json!({
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderResponse",
            "cacheKeyType": "Registry", "cacheDuration": kept,
            "auth": { host: { "username": USER, "password": password } },
        });
        let unfinished = self.folder.join("answer.unfinished");
        workspace::write(&unfinished, answer.to_string())?;
        std::fs::rename(&unfinished, self.answer()).context("let the program say something else")
    }

    fn questions(&self) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(self.asked()).context("read what the program was asked")?;
        // The two kubelets end the request differently.
        let text = text.replace("}\n ", "} ");
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn flags(&self) -> Vec<String> {
        vec![
            format!("--image-credential-provider-config={}", self.folder.join("providers.yaml").display()),
            format!("--image-credential-provider-bin-dir={}", self.folder.join("programs").display()),
        ]
    }
}

pub(super) async fn a_program_opens_it(scene: Scene) -> Result<()> {
    let registry = Registry::start(&scene).await?;
    let (host, image) = (registry.host(), registry.image("two"));
    let provider = CredentialProvider::new(&scene, &host)?;
    provider.says(&host, WRONG_PASSWORD, "0s")?;
    scene.cluster.kubelet.stop().await?;
    let changes = Changes { flags: provider.flags(), ..Changes::default() };
    let kubelet = scene.cluster.kubelet_changed("vouched-for", changes)?;
    kubelet.start().await?;

    scene.pod("waits", spec(&image, json!({}))).await?;
    refused(&scene, "waits", &image).await?;
    let asked = provider.questions()?;
    let (request, rest) =
        asked[0].rsplit_once(' ').map_or(("", ""), |(head, _)| head.rsplit_once(' ').unwrap_or((head, "")));
    ensure!(
        rest == "hello" && asked[0].ends_with("an-argument"),
        "environment and arguments: {:?}",
        asked[0]
    );
    let request: Value = serde_json::from_str(request).with_context(|| format!("read {:?}", asked[0]))?;
    ensure!(
        request["kind"] == "CredentialProviderRequest"
            && request["apiVersion"] == "credentialprovider.kubelet.k8s.io/v1"
            // The tag is not part of it.
            && request["image"] == json!(image.trim_end_matches(":1")),
        "it was asked {request}"
    );

    // The program knows better now; what it says is kept and serves another image of the registry too.
    provider.says(&host, PASSWORD, "1h")?;
    scene.until("waits", "ready", EVENTUALLY, is_ready).await?;
    let before = provider.questions()?.len();
    let other = registry.image("three");
    scene.ready_pod("other", spec(&other, json!({ "imagePullPolicy": "Always" }))).await?;
    ensure!(provider.questions()?.len() == before, "it is not asked again: {:?}", provider.questions()?);
    let log = std::fs::read_to_string(kubelet.log()).context("read the kubelet's log")?;
    ensure!(!log.contains(PASSWORD) && !log.contains(WRONG_PASSWORD), "the log has a password");
    kubelet.stop().await
}

/// A program that wants to know for whom it vouches is told with the gate; without it nobody may ask for that.
pub(super) async fn a_program_is_given_a_token_with_its_gate(scene: Scene) -> Result<()> {
    const GATE: &str = "KubeletServiceAccountTokenForCredentialProviders";
    const AUDIENCE: &str = "a-registry";
    let registry = Registry::start(&scene).await?;
    let (host, image) = (registry.host(), registry.image("four"));
    let provider = CredentialProvider::new(&scene, &host)?;
    provider.says(&host, PASSWORD, "0s")?;
    let attributes = json!({
        "serviceAccountTokenAudience": AUDIENCE, "cacheType": "Token", "requireServiceAccount": true,
    });
    provider.configure(&host, json!({ "tokenAttributes": attributes }))?;
    scene.cluster.kubelet.stop().await?;
    let changes = |is_on: bool| Changes {
        fields: json!({ "featureGates": { GATE: is_on } }),
        flags: provider.flags(),
        ..Changes::default()
    };
    let off = scene.cluster.kubelet_changed("no-tokens", changes(false))?;
    off.start().await?;
    let ended = tokio::time::timeout(SOON, off.died()).await.context("it starts without its gate")?;
    ensure!(!ended.to_string().contains("exit status: 0"), "{ended}");
    let log = std::fs::read_to_string(off.log()).context("read the kubelet's log")?;
    ensure!(log.contains(GATE), "the log does not name {GATE}");

    let on = scene.cluster.kubelet_changed("tokens", changes(true))?;
    on.start().await?;
    // For this audience the API server gives the node a token because the pod wants one as well.
    let token = json!({ "serviceAccountToken": { "audience": AUDIENCE, "path": "token" } });
    let volumes = json!([{ "name": "token", "projected": { "sources": [token] } }]);
    scene.ready_pod("known", spec(&image, json!({ "volumes": volumes }))).await?;
    let asked = provider.questions()?.join("\n");
    ensure!(asked.contains("\"serviceAccountToken\":\"ey"), "it is told no token");
    let log = std::fs::read_to_string(on.log()).context("read the kubelet's log")?;
    ensure!(!log.contains(PASSWORD), "the log has a password");
    on.stop().await
}
