//! Whether the cluster has the kinds that most clusters do not have.
//!
//! A watch of a kind that is not installed asks again and again; so many sidecars in so many
//! namespaces must not, for what will hardly ever come. So one question now and then tells, and only
//! what is installed is watched.

use std::time::Duration;

use kube::core::Status;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The API group and version of XBackendTrafficPolicies.
const GROUP_VERSION: &str = "gateway.networking.x-k8s.io/v1alpha1";
const KIND: &str = "XBackendTrafficPolicy";

/// How long the API server may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long until the next question.
const AGAIN: Duration = Duration::from_secs(300);
/// The same where there was no answer.
const SOONER: Duration = Duration::from_secs(20);

/// Tells whether XBackendTrafficPolicies are installed, whenever that may have changed, until nobody
/// listens.
pub(super) async fn probe(client: kube::Client, installed: mpsc::UnboundedSender<bool>) {
    loop {
        let answer = timeout(TIMEOUT, client.list_api_group_resources(GROUP_VERSION)).await;
        let is_installed = match answer {
            Ok(Ok(list)) => Some(list.resources.iter().any(|resource| resource.kind == KIND)),
            Ok(Err(kube::Error::Api(status))) if is_absent(&status) => Some(false),
            // Whatever is known stays.
            Ok(Err(_)) | Err(_) => None,
        };
        if let Some(is_installed) = is_installed
            && installed.send(is_installed).is_err()
        {
            return;
        }
        let pause = if is_installed.is_some() { AGAIN } else { SOONER };
        // The sidecars of a cluster must not come all at the same moment.
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
    }
}

fn is_absent(status: &Status) -> bool {
    // 403: what may not be asked for may not be watched either.
    matches!(status.code, 403 | 404)
}
