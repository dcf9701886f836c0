//! `weft-proxy explain` in a live sidecar, as a person calls it who looks for a cause.

use anyhow::{Result, ensure};
use serde_json::Value;
use weft_e2e::{Namespace, PATIENCE, Server, eventually, kubectl, run};

use crate::reviews_to_v2;

/// What `kubectl exec` of it prints.
async fn explain(shop: &Namespace, words: &[&str]) -> Result<String> {
    let exec = ["-n", &shop.name, "exec", "client", "-c", "weft-proxy", "--"];
    let command = exec.into_iter().chain(["weft-proxy", "explain"]).chain(words.iter().copied());
    kubectl(&command.collect::<Vec<_>>()).await
}

const CANARY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: jason }
spec:
  parentRefs: [{ group: '', kind: Service, name: reviews, port: 80 }]
  rules:
    - matches: [{ headers: [{ name: end-user, value: jason }] }]
      backendRefs: [{ name: reviews-v1, port: 80 }]
";

#[test]
fn a_live_sidecar_explains_where_its_requests_go() {
    run("explain", async |cluster| {
        let shop = reviews_to_v2(cluster).await?;
        let client = shop.client().await?;
        // Of a Service that the pod has not met yet.
        let text = explain(&shop, &["GET", "http://reviews/"]).await?;
        let summary = format!(
            "=> goes to Service {0}/reviews-v2 port 80, by rule 0 of HTTPRoute {0}/reviews-v2-only",
            shop.name
        );
        ensure!(text.contains(&summary), "{text}");
        let pod = shop.pods("app=reviews,version=v2").await?.remove(0);
        let address = pod.status.and_then(|status| status.pod_ip).unwrap_or_default();
        ensure!(text.contains(&format!("{address}:8080 ready")), "{text}");

        // After an edit the answer is what requests meet.
        shop.apply(CANARY).await?;
        let jason = ["-H", "end-user: jason"];
        eventually(PATIENCE, "the canary to be in force", async || {
            let answer = client.curl(&["http://reviews/", jason[0], jason[1]]).await?.success()?;
            ensure!(answer.contains("\"version\":\"v1\""), "{answer}");
            Ok(())
        })
        .await?;
        for (headers, version, route) in
            [(&jason[..], "v1", "jason"), (&[], "v2", "reviews-v2-only")]
        {
            let words = ["--json", "GET", "http://reviews/reviews/1"];
            let text = explain(&shop, &[&words[..], headers].concat()).await?;
            let answer: Value = serde_json::from_str(&text)?;
            let summary = answer["summary"].as_str().unwrap_or_default();
            let backend = format!("{}/reviews-{version} port 80", shop.name);
            ensure!(
                summary.contains(&backend) && summary.ends_with(&format!("/{route}")),
                "{text}"
            );
            let curl = [&["http://reviews/reviews/1"][..], headers].concat();
            let sent = client.curl(&curl).await?.success()?;
            ensure!(sent.contains(&format!("\"version\":\"{version}\"")), "{sent}");
        }
        Ok(())
    });
}

/// What cannot be explained is said, and the command fails.
#[test]
fn a_question_about_nothing_is_an_error() {
    run("nothing", async |cluster| {
        let shop = cluster.namespace("shop").await?;
        shop.server(&Server::new("reviews", "v1")).await?;
        let _client = shop.client().await?;
        let answer = explain(&shop, &["GET", "http://nobody/"]).await;
        let error = answer.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(error.contains("nobody") && error.contains("exit code 1"), "{error:?}");
        // The proxy is as it was.
        let text = explain(&shop, &["GET", "http://reviews/"]).await?;
        ensure!(text.contains("=> goes to"), "{text}");
        Ok(())
    });
}
