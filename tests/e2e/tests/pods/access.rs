//! What the control plane and the sidecars may do in the API: no more than their job needs.

use anyhow::{Result, ensure};
use k8s_openapi_kube::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi_kube::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi_kube::api::core::v1::{Secret, Service, ServiceAccount};
use kube::api::{Api, ListParams, PostParams};
use weft_e2e::{Cluster, run};

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

/// Group and resource (with its subresource) that sidecars read.
const READ_BY_SIDECARS: [(&str, &str); 7] = [
    ("", "services"),
    ("discovery.k8s.io", "endpointslices"),
    ("gateway.networking.k8s.io", "httproutes"),
    ("gateway.networking.k8s.io", "grpcroutes"),
    ("gateway.networking.k8s.io", "tlsroutes"),
    ("gateway.networking.k8s.io", "tcproutes"),
    ("gateway.networking.k8s.io", "referencegrants"),
];

/// What they must not even see.
const HIDDEN_FROM_SIDECARS: [(&str, &str); 12] = [
    ("", "secrets"),
    ("", "pods"),
    ("", "pods/log"),
    ("", "pods/exec"),
    ("", "configmaps"),
    ("", "nodes"),
    ("", "events"),
    ("", "serviceaccounts"),
    ("apps", "deployments"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("gateway.networking.k8s.io", "gateways"),
];

/// Somebody who asks: a ServiceAccount.
struct Account<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
    name: &'a str,
}

impl Account<'_> {
    /// Whether it may do this to all objects of a resource in a namespace, or to the one named.
    async fn may(
        &self,
        verb: &str,
        (group, resource): (&str, &str),
        namespace: &str,
        name: &str,
    ) -> Result<bool> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let accounts = "system:serviceaccounts";
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(format!("system:serviceaccount:{}:{}", self.namespace, self.name)),
                groups: Some(vec![
                    accounts.to_owned(),
                    format!("{accounts}:{}", self.namespace),
                    "system:authenticated".to_owned(),
                ]),
                resource_attributes: Some(ResourceAttributes {
                    verb: text(verb),
                    group: text(group),
                    resource: text(resource),
                    subresource: text(subresource),
                    namespace: text(namespace),
                    name: text(name),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.cluster.client.clone());
        let answer = api.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

#[test]
fn a_sidecar_reads_routes_and_endpoints_and_nothing_else() {
    run("access", async |cluster| {
        let shop = cluster.namespace("shop").await?;
        let sidecar = Account { cluster, namespace: &shop.name, name: "default" };
        let mut wrong = Vec::new();
        let mut check = async |verb: &str, resource: (&str, &str), expected: bool| {
            // In its own namespace, in another, and in all of them.
            for namespace in [shop.name.as_str(), "kube-system", ""] {
                if sidecar.may(verb, resource, namespace, "").await? != expected {
                    wrong.push(format!("{verb} {resource:?} in {namespace:?}: not {expected}"));
                }
            }
            Result::<()>::Ok(())
        };
        for resource in READ_BY_SIDECARS {
            for verb in READ {
                check(verb, resource, true).await?;
            }
            for verb in WRITE {
                check(verb, resource, false).await?;
            }
        }
        for verb in ["update", "patch"] {
            check(verb, ("gateway.networking.k8s.io", "httproutes/status"), false).await?;
        }
        for resource in HIDDEN_FROM_SIDECARS {
            for verb in ["get", "list", "watch", "create", "delete"] {
                check(verb, resource, false).await?;
            }
        }
        ensure!(wrong.is_empty(), "{wrong:#?}");
        Ok(())
    });
}

/// The same with a token such as a sidecar has, instead of a question about it.
#[test]
fn a_sidecars_token_reads_services_and_no_secrets() {
    run("token", async |cluster| {
        let shop = cluster.namespace("shop").await?;
        let accounts: Api<ServiceAccount> = shop.api();
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(600), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let issued =
            accounts.create_token_request("default", &PostParams::default(), &request).await?;
        let mut config = kube::Config::infer().await?;
        config.auth_info = kube::config::AuthInfo {
            token: issued.status.map(|status| status.token.into()),
            ..kube::config::AuthInfo::default()
        };
        let client = kube::Client::try_from(config)?;
        let services: Api<Service> = Api::all(client.clone());
        services.list(&ListParams::default()).await?;
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &shop.name);
        let refused = secrets.list(&ListParams::default()).await;
        ensure!(
            matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403),
            "{refused:?}"
        );
        let pods: Api<k8s_openapi_kube::api::core::v1::Pod> = Api::namespaced(client, &shop.name);
        let refused = pods.list(&ListParams::default()).await;
        ensure!(
            matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403),
            "{refused:?}"
        );
        Ok(())
    });
}

#[test]
fn the_control_plane_sees_no_secret_but_its_own() {
    run("control", async |cluster| {
        let system = "weft-system";
        let secrets = ("", "secrets");
        let injector = Account { cluster, namespace: system, name: "weft-injector" };
        let controller = Account { cluster, namespace: system, name: "weft-controller" };
        for account in [&injector, &controller] {
            for verb in READ.into_iter().chain(WRITE) {
                for namespace in [system, "default", ""] {
                    ensure!(
                        !account.may(verb, secrets, namespace, "").await?,
                        "{}: {verb} secrets in {namespace:?}",
                        account.name
                    );
                }
                ensure!(!account.may(verb, ("", "pods/exec"), "default", "").await?, "{verb} exec");
            }
            for verb in WRITE {
                for resource in [("", "pods"), ("", "services"), ("apps", "deployments")] {
                    ensure!(
                        !account.may(verb, resource, "default", "").await?,
                        "{verb} {resource:?}"
                    );
                }
            }
        }
        let own = "weft-injector-certificate";
        ensure!(
            injector.may("update", secrets, system, own).await?,
            "it cannot keep its certificate"
        );
        ensure!(!controller.may("get", secrets, system, own).await?, "the controller reads it");
        let status = ("gateway.networking.k8s.io", "httproutes/status");
        ensure!(controller.may("update", status, "default", "").await?, "it cannot write status");
        ensure!(
            !injector.may("update", status, "default", "").await?,
            "the injector writes status"
        );
        Ok(())
    });
}
