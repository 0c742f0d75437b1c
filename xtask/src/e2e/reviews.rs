//! Reviews by the API server of who asks the kubelet and what for, and how long the kubelet goes by the last one.

use anyhow::{Context, Result, ensure};
use http::StatusCode;
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::json;

use super::certificates::Line;
use super::scene::{SOON, Scene};
use crate::cluster::Changes;
use crate::process::Service;

/// How often the kubelet is asked for the same.
const TIMES: u64 = 5;
/// What it is asked for, on a connection of its own each time.
const PATH: &str = "/stats/summary";

/// A service account's token, and what the kubelet answers it.
struct Caller {
    token: String,
    answer: StatusCode,
}

impl Caller {
    async fn new(scene: &Scene, name: &str, answer: StatusCode) -> Result<Self> {
        scene.create::<ServiceAccount>(json!({ "metadata": { "name": name } })).await?;
        let token = scene.kubectl_out(&["create", "token", name]).await?.trim().to_owned();
        Ok(Self { token, answer })
    }

    async fn ask(&self, scene: &Scene) -> Result<()> {
        let mut line = Line::open_plain(&scene.cluster.paths).await?;
        let bearer = format!("Bearer {}", self.token);
        let status = line.get(PATH, Some(("authorization", &bearer))).await?;
        ensure!(status == self.answer, "the answer is {status} and not {}", self.answer);
        Ok(())
    }

    /// Asks several times, of which the first does not count; how many reviews of tokens and of access the API server made.
    async fn reviews(&self, scene: &Scene, kubelet: &Service) -> Result<[u64; 2]> {
        kubelet.answers(SOON, || self.ask(scene)).await?;
        let before = made(scene).await?;
        for _ in 0..TIMES {
            self.ask(scene).await?;
        }
        let after = made(scene).await?;
        Ok([after[0] - before[0], after[1] - before[1]])
    }
}

/// How many reviews of tokens and of access the API server has made so far.
async fn made(scene: &Scene) -> Result<[u64; 2]> {
    let metrics = scene.kubectl_out(&["get", "--raw", "/metrics"]).await?;
    let of = |resource: &str| -> Result<u64> {
        let label = format!("resource=\"{resource}\"");
        let is_meant = |line: &&str| line.starts_with("apiserver_request_total{") && line.contains(&label);
        let counts = metrics.lines().filter(is_meant).filter_map(|line| line.rsplit_once(' '));
        counts.map(|(_, count)| count.parse::<u64>().context("read a counter")).sum()
    };
    Ok([of("tokenreviews")?, of("subjectaccessreviews")?])
}

/// Each of the three times far from its default, once longer and once shorter: the API server is asked again each time, or not
/// once more. A request that was just answered may not be counted yet.
pub(super) async fn are_kept_as_long_as_configured(scene: Scene) -> Result<()> {
    let reader = Caller::new(&scene, "reader", StatusCode::OK).await?;
    let stranger = Caller::new(&scene, "stranger", StatusCode::FORBIDDEN).await?;
    let (role, account) = (&scene.namespace, format!("{}:reader", scene.namespace));
    scene.kubectl_out(&["create", "clusterrole", role, "--verb=get", "--resource=nodes/stats"]).await?;
    let (of_role, of_account) = (format!("--clusterrole={role}"), format!("--serviceaccount={account}"));
    scene.kubectl_out(&["create", "clusterrolebinding", role, &of_role, &of_account]).await?;
    let user = format!("--as=system:serviceaccount:{account}");
    let is_allowed = || async {
        scene.kubectl_out(&["auth", "can-i", "get", "nodes", "--subresource=stats", &user]).await
    };
    scene.cluster.kubelet.answers(SOON, is_allowed).await?;
    scene.cluster.kubelet.stop().await?;

    let ca = scene.cluster.paths.file("ca.crt");
    let [never, always] = ["1ns", "1h"];
    let is_kept = |times: u64| times <= 1;
    let is_asked_again = |times: u64| times >= TIMES - 1;
    for (name, tokens, allowed, denied) in
        [("forgets-who-and-what-may", never, never, always), ("forgets-what-may-not", always, always, never)]
    {
        let fields = json!({
            "authentication": {
                "anonymous": { "enabled": false },
                "webhook": { "enabled": true, "cacheTTL": tokens },
                "x509": { "clientCAFile": ca },
            },
            "authorization": {
                "mode": "Webhook",
                "webhook": { "cacheAuthorizedTTL": allowed, "cacheUnauthorizedTTL": denied },
            },
        });
        let kubelet = scene.cluster.kubelet_changed(name, Changes { fields, ..Changes::default() })?;
        kubelet.start().await?;
        let [of_token, of_allowed] = reader.reviews(&scene, &kubelet).await?;
        let [_, of_denied] = stranger.reviews(&scene, &kubelet).await?;
        for (what, times, kept_for) in [
            ("who asks", of_token, tokens),
            ("what may be done", of_allowed, allowed),
            ("what may not", of_denied, denied),
        ] {
            let is_right = if kept_for == always { is_kept(times) } else { is_asked_again(times) };
            ensure!(is_right, "of {what}, kept for {kept_for}, {times} reviews in {TIMES} requests");
        }
        kubelet.stop().await?;
    }
    Ok(())
}
