//! Routes with a mistake, one each: the conditions, and the words in the message that say what to do.

use anyhow::{Result, ensure};
use serde_json::Value;
use weft_e2e::{Cluster, Namespace, PATIENCE, documents, eventually, parents, run, verdict};

/// A route with a mistake.
struct Case {
    /// The route's name.
    name: &'static str,
    kind: &'static str,
    /// What its parentRef says besides the kind.
    parent: &'static str,
    /// Its rules.
    rules: &'static str,
    /// Its conditions.
    status: &'static str,
    /// The condition that tells of the mistake, and what its message says.
    says: (&'static str, &'static str),
}

const GOOD: &str = "Accepted=True Accepted, ResolvedRefs=True ResolvedRefs";

/// `demo` has the TCP ports 80, 8080 (alt) and 443, which speaks TLS, and the UDP port 53; `elsewhere` is in the other
/// namespace, which every `OTHER` stands for.
const SERVICES: &str = r#"
{apiVersion: v1, kind: Service, metadata: {name: demo}, spec: {selector: {app: demo}, ports: [
  {name: http, port: 80}, {name: alt, port: 8080}, {name: dns, port: 53, protocol: UDP},
  {name: secure, port: 443, appProtocol: https}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: shared}, spec: {selector: {app: demo}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: lonely}, spec: {selector: {app: demo}, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: dns}, spec: {selector: {app: demo}, ports: [
  {port: 53, protocol: UDP}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: headless}, spec: {clusterIP: None, selector: {app: demo},
  ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: outside}, spec: {type: ExternalName,
  externalName: example.org, ports: [{port: 80}]}}
"#;

const CASES: &[Case] = &[
    Case {
        name: "parent-missing",
        kind: "HTTPRoute",
        parent: "name: nobody, port: 80",
        rules: "{backendRefs: [{name: demo, port: 80}]}",
        status: "Accepted=False NoMatchingParent, ResolvedRefs=True ResolvedRefs",
        says: ("Accepted", "/nobody does not exist; create it"),
    },
    Case {
        name: "parent-port-missing",
        kind: "HTTPRoute",
        parent: "name: demo, port: 81",
        rules: "{backendRefs: [{name: demo, port: 80}]}",
        status: "Accepted=False NoMatchingParent, ResolvedRefs=True ResolvedRefs",
        says: ("Accepted", "has no port 81; it has 80 (http), 8080 (alt)"),
    },
    Case {
        name: "parent-section-missing",
        kind: "HTTPRoute",
        parent: "name: demo, port: 80, sectionName: alt",
        rules: "{backendRefs: [{name: demo, port: 80}]}",
        status: "Accepted=False NoMatchingParent, ResolvedRefs=True ResolvedRefs",
        says: ("Accepted", "has no port 80 named alt"),
    },
    Case {
        name: "parent-udp",
        kind: "HTTPRoute",
        parent: "name: dns",
        rules: "{backendRefs: [{name: demo, port: 80}]}",
        status: "Accepted=False NoMatchingParent, ResolvedRefs=True ResolvedRefs",
        says: ("Accepted", "has no TCP port"),
    },
    Case {
        name: "parent-headless",
        kind: "HTTPRoute",
        parent: "name: headless",
        rules: "{backendRefs: [{name: demo, port: 80}]}",
        status: "Accepted=False NoMatchingParent, ResolvedRefs=True ResolvedRefs",
        says: ("Accepted", "is headless; routes cannot attach to it"),
    },
    Case {
        name: "parent-external",
        kind: "HTTPRoute",
        parent: "name: outside",
        rules: "{backendRefs: [{name: demo, port: 80}]}",
        status: "Accepted=False NoMatchingParent, ResolvedRefs=True ResolvedRefs",
        says: ("Accepted", "of type ExternalName; routes cannot attach"),
    },
    Case {
        name: "backend-missing",
        kind: "HTTPRoute",
        parent: "name: demo, port: 80",
        rules: "{backendRefs: [{name: nobody, port: 80}]}",
        status: "Accepted=True Accepted, ResolvedRefs=False BackendNotFound",
        says: ("ResolvedRefs", "spec.rules[0].backendRefs[0].name: Service"),
    },
    Case {
        name: "backend-port-missing",
        kind: "HTTPRoute",
        parent: "name: demo, port: 80",
        rules: "{backendRefs: [{name: demo, port: 82}]}",
        status: "Accepted=True Accepted, ResolvedRefs=False BackendNotFound",
        says: ("ResolvedRefs", "spec.rules[0].backendRefs[0].port: Service"),
    },
    Case {
        name: "backend-kind",
        kind: "HTTPRoute",
        parent: "name: demo, port: 80",
        rules: "{backendRefs: [{group: multicluster.x-k8s.io, kind: ServiceImport, name: demo, port: 80}]}",
        status: "Accepted=True Accepted, ResolvedRefs=False InvalidKind",
        says: ("ResolvedRefs", "use a Service"),
    },
    Case {
        name: "backend-external",
        kind: "HTTPRoute",
        parent: "name: demo, port: 80",
        rules: "{backendRefs: [{name: outside, port: 80}]}",
        status: "Accepted=True Accepted, ResolvedRefs=False InvalidKind",
        says: ("ResolvedRefs", "ExternalName, which cannot be a backend"),
    },
    Case {
        name: "backend-udp",
        kind: "HTTPRoute",
        parent: "name: demo, port: 80",
        rules: "{backendRefs: [{name: demo, port: 53}]}",
        status: "Accepted=True Accepted, ResolvedRefs=False UnsupportedProtocol",
        says: ("ResolvedRefs", "is not TCP"),
    },
    Case {
        name: "backend-tls",
        kind: "HTTPRoute",
        parent: "name: demo, port: 80",
        rules: "{backendRefs: [{name: demo, port: 443}]}",
        status: "Accepted=True Accepted, ResolvedRefs=False UnsupportedProtocol",
        says: ("ResolvedRefs", "spec.rules[0].backendRefs[0].port: "),
    },
    Case {
        name: "backend-not-granted",
        kind: "HTTPRoute",
        parent: "name: demo, port: 80",
        rules: "{backendRefs: [{name: elsewhere, namespace: OTHER, port: 80}]}",
        status: "Accepted=True Accepted, ResolvedRefs=False RefNotPermitted",
        says: ("ResolvedRefs", "a ReferenceGrant in namespace OTHER must permit HTTPRoute"),
    },
    Case {
        name: "regex",
        kind: "HTTPRoute",
        parent: "name: demo, port: 80",
        rules: "{matches: [{path: {type: RegularExpression, value: '/('}}], backendRefs: [{name: demo, port: 80}]}",
        status: "Accepted=False UnsupportedValue, ResolvedRefs=True ResolvedRefs",
        says: ("Accepted", "spec.rules[0].matches[0].path.value"),
    },
    Case {
        name: "extension",
        kind: "HTTPRoute",
        parent: "name: demo, port: 80",
        rules: "{filters: [{type: ExtensionRef, extensionRef: {group: example.org, kind: Wasm, name: a}}], backendRefs: [{name: demo, port: 80}]}",
        status: "Accepted=False UnsupportedValue, ResolvedRefs=True ResolvedRefs",
        says: ("Accepted", "spec.rules[0].filters[0]"),
    },
    Case {
        name: "external-auth",
        kind: "HTTPRoute",
        parent: "name: demo, port: 80",
        rules: "{filters: [{type: ExternalAuth, externalAuth: {protocol: HTTP, http: {path: /a}, backendRef: {name: demo, port: 80}}}], backendRefs: [{name: demo, port: 80}]}",
        status: "Accepted=False UnsupportedValue, ResolvedRefs=True ResolvedRefs",
        says: ("Accepted", "ExternalAuth"),
    },
    Case {
        name: "half-good",
        kind: "HTTPRoute",
        parent: "name: demo, port: 80",
        rules: "{backendRefs: [{name: demo, port: 80}]}, {matches: [{headers: [{type: RegularExpression, name: a, value: '('}]}], backendRefs: [{name: nobody, port: 80}]}",
        status: "Accepted=True Accepted, ResolvedRefs=False BackendNotFound, PartiallyInvalid=True UnsupportedValue",
        says: ("PartiallyInvalid", "Dropped Rule spec.rules[1]: "),
    },
    Case {
        name: "grpc-method",
        kind: "GRPCRoute",
        parent: "name: demo, port: 8080",
        rules: "{matches: [{method: {type: RegularExpression, service: '('}}], backendRefs: [{name: demo, port: 80}]}",
        status: "Accepted=False UnsupportedValue, ResolvedRefs=True ResolvedRefs",
        says: ("Accepted", "spec.rules[0].matches[0].method.service"),
    },
    Case {
        name: "grpc-first",
        kind: "GRPCRoute",
        parent: "name: shared, port: 80",
        rules: "{backendRefs: [{name: demo, port: 80}]}",
        status: GOOD,
        says: ("Accepted", "attached to port 80 of Service"),
    },
    Case {
        name: "after-grpc",
        kind: "HTTPRoute",
        parent: "name: shared, port: 80",
        rules: "{backendRefs: [{name: demo, port: 80}]}",
        status: "Accepted=False RouteReasonConflicted, ResolvedRefs=True ResolvedRefs",
        says: (
            "Accepted",
            "a GRPCRoute in this route's namespace holds port 80; this route is not used",
        ),
    },
    Case {
        name: "tcp-after-all",
        kind: "TCPRoute",
        parent: "name: shared, port: 80",
        rules: "{backendRefs: [{name: demo, port: 80}]}",
        status: "Accepted=False RouteReasonConflicted, ResolvedRefs=True ResolvedRefs",
        says: ("Accepted", "holds port 80; this route is not used"),
    },
    Case {
        name: "tcp-backend-missing",
        kind: "TCPRoute",
        parent: "name: lonely, port: 80",
        rules: "{backendRefs: [{name: nobody, port: 80}]}",
        status: "Accepted=True Accepted, ResolvedRefs=False BackendNotFound",
        says: ("ResolvedRefs", "spec.rules[0].backendRefs[0].name: Service"),
    },
];

async fn services(cluster: &Cluster) -> Result<(Namespace, Namespace)> {
    let labels = [];
    let shop = cluster.namespace_with("shop", &labels).await?;
    let other = cluster.namespace_with("other", &labels).await?;
    shop.apply(SERVICES).await?;
    let elsewhere = "{apiVersion: v1, kind: Service, metadata: {name: elsewhere}, spec: {selector: {app: demo}, ports: [{port: 80}]}}";
    other.apply(elsewhere).await?;
    Ok((shop, other))
}

fn route(kind: &str, name: &str, parent: &str, rules: &str) -> Result<Value> {
    let yaml = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  \
         parentRefs: [{{group: '', kind: Service, {parent}}}]\n  rules: [{rules}]"
    );
    Ok(documents(&yaml)?.remove(0))
}

#[test]
fn every_mistake_has_its_reason() {
    run("wrong", async |cluster| {
        let (shop, other) = services(cluster).await?;
        let fill = |text: &str| text.replace("OTHER", &other.name);
        for case in CASES {
            let rules = fill(case.rules);
            shop.apply_value(route(case.kind, case.name, case.parent, &rules)?).await?;
        }
        let mut wrong = Vec::new();
        for case in CASES {
            let checked = eventually(PATIENCE, case.name, async || {
                let object = shop.get(case.kind, case.name).await?;
                let came = verdict(&object);
                ensure!(came == case.status, "expected {}, came {came}", case.status);
                let conditions = parents(&object).remove(0).conditions;
                let (kind, words) = (case.says.0, fill(case.says.1));
                let telling = conditions.iter().find(|condition| condition.kind == kind);
                let message = telling.map_or("nothing", |condition| &condition.message);
                ensure!(message.contains(&words), "{kind} says {message:?}, not {words:?}");
                Ok(())
            });
            // All of them are looked at: which ones are wrong tells more than that one is.
            wrong.extend(checked.await.err().map(|error| format!("{error:#}")));
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    });
}

/// `IncompatibleFilters` is for API servers with an older CRD: this one refuses such routes itself.
#[test]
fn filters_that_cannot_stand_together_do_not_get_past_the_api_server() {
    run("filters", async |cluster| {
        let (shop, _) = services(cluster).await?;
        let redirect = "{type: RequestRedirect, requestRedirect: {hostname: a}}";
        let rewrite = "{type: URLRewrite, urlRewrite: {hostname: a}}";
        let backend = "backendRefs: [{name: demo, port: 80}]";
        for filters in [
            format!("filters: [{redirect}, {rewrite}]"),
            format!("filters: [{redirect}], {backend}"),
            format!("filters: [{rewrite}, {rewrite}], {backend}"),
        ] {
            let route = route("HTTPRoute", "filters", "name: demo", &format!("{{{filters}}}"))?;
            let refused = shop.create(route).await;
            let refusal = refused.err().map(|error| format!("{error:#}")).unwrap_or_default();
            ensure!(refusal.contains("is invalid: spec.rules"), "{filters}: {refusal:?}");
        }
        Ok(())
    });
}

#[test]
fn status_follows_what_it_is_about() {
    run("follows", async |cluster| {
        let (shop, other) = services(cluster).await?;
        let backend = format!("{{name: elsewhere, namespace: {}, port: 80}}", other.name);
        let rules = format!("{{backendRefs: [{backend}]}}");
        let object = route("HTTPRoute", "follows", "name: later, port: 80", &rules)?;
        shop.apply_value(object).await?;
        let becomes = async |expected: &str| {
            eventually(PATIENCE, expected, async || {
                let came = verdict(&shop.get("HTTPRoute", "follows").await?);
                ensure!(came == expected, "{came}");
                Ok(())
            })
            .await
        };
        becomes("Accepted=False NoMatchingParent, ResolvedRefs=False RefNotPermitted").await?;
        let later =
            "{apiVersion: v1, kind: Service, metadata: {name: later}, spec: {ports: [{port: 80}]}}";
        shop.apply(later).await?;
        becomes("Accepted=True Accepted, ResolvedRefs=False RefNotPermitted").await?;
        let grant = format!(
            "{{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {{name: grant}}, spec: {{from: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: {}}}], to: [{{group: '', kind: Service}}]}}}}",
            shop.name
        );
        other.apply(&grant).await?;
        becomes(GOOD).await?;
        other.delete("Service", "elsewhere").await?;
        becomes("Accepted=True Accepted, ResolvedRefs=False BackendNotFound").await?;
        other.delete("ReferenceGrant", "grant").await?;
        becomes("Accepted=True Accepted, ResolvedRefs=False RefNotPermitted").await?;
        shop.delete("Service", "later").await?;
        becomes("Accepted=False NoMatchingParent, ResolvedRefs=False RefNotPermitted").await
    });
}
