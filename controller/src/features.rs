//! The Gateway API features that Weft implements, by the names that its conformance suite uses.

use weft_gamma::support::Implemented;

/// What XMesh's status claims, in ascending order: "It MUST be sorted in ascending alphabetical order
/// by the Name key."
///
/// Names are those of `pkg/features` of the Gateway API v1.7.0. Nothing is claimed that a sidecar of
/// this version would refuse.
pub fn supported(implemented: &Implemented) -> Vec<&'static str> {
    let mut features = ALWAYS.to_vec();
    if implemented.mirror {
        features.extend([
            "HTTPRouteRequestMirror",
            "HTTPRouteRequestMultipleMirrors",
            "HTTPRouteRequestPercentageMirror",
        ]);
    }
    if implemented.cors {
        features.push("HTTPRouteCORS");
    }
    if implemented.timeouts {
        features.extend(["HTTPRouteBackendTimeout", "HTTPRouteRequestTimeout"]);
    }
    if implemented.retry {
        features.extend(["HTTPRouteRetryCodes", "HTTPRouteRetryConnectionError"]);
    }
    features.sort_unstable();
    features
}

const ALWAYS: [&str; 34] = [
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "GRPCRouteRequestHeaderModifier",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendURLRewrite",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "Mesh",
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteNamedRouteRule",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_sorted_and_unique_whatever_is_implemented() {
        let all = Implemented { mirror: true, cors: true, timeouts: true, retry: true };
        let none = Implemented { mirror: false, cors: false, timeouts: false, retry: false };
        for implemented in [all, none] {
            let features = supported(&implemented);
            assert!(features.is_sorted_by(|one, other| one < other), "{features:?}");
            // "MaxItems=64"
            assert!(features.len() <= 64);
        }
        assert!(supported(&all).len() > supported(&none).len());
    }

    #[test]
    fn every_test_of_the_mesh_suite_is_asked_for() {
        // The features that the tests of conformance/tests/mesh name.
        let asked = [
            "Mesh",
            "HTTPRoute",
            "GRPCRoute",
            "HTTPRouteResponseHeaderModification",
            "HTTPRouteParentRefPort",
            "HTTPRoute303RedirectStatusCode",
            "HTTPRoute307RedirectStatusCode",
            "HTTPRoute308RedirectStatusCode",
            "MeshClusterIPMatching",
            "MeshConsumerRoute",
            "MeshHTTPRouteBackendRequestHeaderModification",
            "MeshHTTPRouteNamedRouteRule",
            "MeshHTTPRouteQueryParamMatching",
            "MeshHTTPRouteRedirectPath",
            "MeshHTTPRouteRedirectPort",
            "MeshHTTPRouteRewritePath",
            "MeshHTTPRouteSchemeRedirect",
        ];
        let features = supported(&Implemented::default());
        for feature in asked {
            assert!(features.contains(&feature), "{feature}");
        }
    }
}
