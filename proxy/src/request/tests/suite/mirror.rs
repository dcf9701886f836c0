//! HTTPRouteRequestMirror, HTTPRouteRequestMultipleMirrors and HTTPRouteRequestPercentageMirror.

use super::rewrite::{MODIFIED, MODIFY};
use super::{Case, Infra};
use crate::testing::{eventually, run};

const V1: &str = "infra-backend-v1";
const V2: &str = "infra-backend-v2";
const V3: &str = "infra-backend-v3";

/// A filter that mirrors to a backend; `share` begins with a comma.
fn to(backend: &str, share: &str) -> String {
    format!(
        "\n  - {{type: RequestMirror, requestMirror: {{backendRef: {{name: {backend}, \
         namespace: default, port: 80}}{share}}}}}"
    )
}

/// A rule to the first backend with these filters.
fn rule(path: &str, filters: &str) -> String {
    format!(
        "- matches: [{{path: {{type: PathPrefix, value: {path}}}}}]\n  filters:{filters}\n  \
         backendRefs: [{{name: infra-backend-v1, namespace: default, port: 80}}]\n"
    )
}

#[test]
fn to_one_backend() {
    let rules = rule("/mirror", &to(V2, ""))
        + &rule("/mirror-and-modify-headers", &(MODIFY.to_owned() + &to(V2, "")));
    run(async move {
        let infra = Infra::new(&[("request-mirror", &rules)]).await;
        for case in [
            Case { path: "/mirror?request-id=1", backend: V1, mirrored: &[V2], ..Case::default() },
            Case { path: "/mirror-and-modify-headers?request-id=2", mirrored: &[V2], ..MODIFIED },
            // What the suite does not send: a body.
            Case {
                method: "POST",
                path: "/mirror",
                body: "the whole body",
                backend: V1,
                mirrored: &[V2],
                ..Case::default()
            },
        ] {
            infra.check(&case).await;
        }
    });
}

#[test]
fn to_several_backends() {
    let both = to(V2, "") + &to(V3, "");
    let rules = rule("/multi-mirror", &both)
        + &rule("/multi-mirror-and-modify-request-headers", &(MODIFY.to_owned() + &both));
    run(async move {
        let infra = Infra::new(&[("request-multiple-mirrors", &rules)]).await;
        let mirrored = &[V2, V3];
        for case in [
            Case { path: "/multi-mirror", backend: V1, mirrored, ..Case::default() },
            Case { path: "/multi-mirror-and-modify-request-headers", mirrored, ..MODIFIED },
            Case {
                method: "PUT",
                path: "/multi-mirror/x",
                body: "the whole body",
                backend: V1,
                mirrored,
                ..Case::default()
            },
        ] {
            infra.check(&case).await;
        }
    });
}

/// "At 3 sigma": the suite's own tolerance, of 500 requests.
#[test]
fn of_a_share_of_the_requests() {
    let rules = rule("/percent-mirror", &to(V2, ", percent: 20"))
        + &rule(
            "/percent-mirror-fraction",
            &to(V2, ", fraction: {numerator: 25, denominator: 50}"),
        )
        + &rule(
            "/percent-mirror-and-modify-headers",
            &(MODIFY.to_owned() + &to(V2, ", percent: 35")),
        );
    run(async move {
        let infra = Infra::new(&[("request-percentage-mirror", &rules)]).await;
        let mut mirrored = 0;
        for (path, share, modified) in [
            ("/percent-mirror", 0.2, false),
            ("/percent-mirror-fraction", 0.5, false),
            ("/percent-mirror-and-modify-headers", 0.35, true),
        ] {
            let case = if modified { MODIFIED } else { Case::default() };
            for _ in 0..500 {
                let answer = infra.send(&Case { path, ..case }).await;
                assert_eq!(answer.status(), 200);
            }
            assert_eq!(infra.backend(V1).take().len(), 500);
            // A copy keeps a drain waiting, as a connection does.
            eventually("none is under way", || infra.mesh.shared.drain.open() == 0).await;
            let seen = infra.backend(V2).take();
            let tolerance = 3.0 * (500.0_f64 * share * (1.0 - share)).sqrt();
            let off = (seen.len() as f64 - 500.0 * share).abs();
            assert!(off <= tolerance, "{} for {path}", seen.len());
            mirrored += seen.len();
            for request in seen {
                assert_eq!(request.uri(), path);
                if modified {
                    super::check_seen(&request, &Case { path, ..MODIFIED }, path);
                }
            }
        }
        let labels = ["backend_name=\"infra-backend-v2\"", "outcome=\"completed\""];
        assert_eq!(infra.mesh.count("weft_route_mirrors_total", &labels), mirrored as u64);
    });
}
