//! What became of the routes that name a Service, or nearly do.

use super::*;
use crate::resolve::{Place, standings};
use crate::testing::broken_objects;

const PORTS: &str = "clusterIP: 10.0.0.1, ports: [{name: http, port: 80}, {name: alt, port: 8080}]";

/// What became of each route on port 80 of `default/demo`, for clients in `client`, as
/// `namespace/name: place`.
fn told(documents: &[String], client: &str) -> Vec<String> {
    let objects = broken_objects(&super::documents(documents));
    let service = &objects.services[&name("default/demo")];
    standings(&objects, service, 0, client, &Settings::default())
        .iter()
        .map(|it| {
            let key = &it.route.key;
            let place = match &it.place {
                Place::OtherParent(why) => why.clone(),
                Place::Conflicted(kind) => format!("{} gives way to {kind}", key.kind.as_str()),
                Place::Shadowed(older) => format!("shadowed by {older}"),
                place => place.as_str().to_owned(),
            };
            format!("{}/{}: {place}", key.namespace, key.name)
        })
        .collect()
}

fn demo() -> String {
    service("default/demo", PORTS)
}

const TO_DEMO: &str = "[{group: '', kind: Service, name: demo, namespace: default}]";

#[test]
fn producers_and_consumers() {
    let documents = [
        demo(),
        http_route("default/own", TO_DEMO, "[{}]"),
        http_route("shop/consumer", TO_DEMO, "[{}]"),
    ];
    let for_default = told(&documents, "default");
    assert_eq!(for_default, ["default/own: applies", "shop/consumer: otherClients"]);
    let for_shop = told(&documents, "shop");
    assert_eq!(for_shop, ["shop/consumer: applies", "default/own: overridden"]);
}

#[test]
fn what_is_left_out_and_why() {
    let documents = [
        demo(),
        http_route("default/http", TO_DEMO, "[{}]"),
        route("GRPCRoute", "default/grpc", TO_DEMO, "[{}]"),
        http_route("default/alt", "[{group: '', kind: Service, name: demo, port: 8080}]", "[{}]"),
        http_route("default/none", "[{group: '', kind: Service, name: demo, port: 9}]", "[{}]"),
    ];
    assert_eq!(
        told(&documents, "default"),
        [
            "default/grpc: applies",
            "default/http: HTTPRoute gives way to GRPCRoute",
            "default/alt: otherPort",
            "default/none: notAccepted",
        ]
    );
    let objects = broken_objects(&super::documents(&documents));
    let service = &objects.services[&name("default/demo")];
    let all = standings(&objects, service, 0, "default", &Settings::default());
    let resolved = resolved(&objects);
    for standing in all {
        // What is said here is what the route's status says.
        let verdicts = &resolved.verdicts[&standing.route.key];
        assert_eq!(Some(&verdicts[0]), standing.verdict.as_ref(), "{}", standing.route.key);
    }
}

#[test]
fn the_oldest_tcp_route_takes_all_connections() {
    let documents = [
        demo(),
        route("TCPRoute", "default/b", TO_DEMO, "[{}]"),
        route("TCPRoute", "default/a", TO_DEMO, "[{}]"),
        route("TLSRoute", "default/tls", TO_DEMO, "[{}]"),
        route("TCPRoute", "shop/c", TO_DEMO, "[{}]"),
    ];
    assert_eq!(
        told(&documents, "default"),
        [
            "default/tls: applies",
            "shop/c: otherClients",
            "default/a: TCPRoute gives way to TLSRoute",
            "default/b: TCPRoute gives way to TLSRoute",
        ]
    );
    let [demo, b, a, _, c] = documents;
    assert_eq!(
        told(&[demo, b, a, c], "default"),
        ["default/a: applies", "default/b: shadowed by TCPRoute default/a", "shop/c: otherClients",]
    );
}

#[test]
fn of_several_parent_refs_the_one_that_gets_furthest_counts() {
    let parents = "[{group: '', kind: Service, name: demo, port: 8080}, \
                    {group: '', kind: Service, name: demo, port: 80}, \
                    {group: '', kind: Service, name: demo, port: 9}]";
    let documents = [demo(), http_route("default/r", parents, "[{}]")];
    assert_eq!(told(&documents, "default"), ["default/r: applies"]);
}

#[test]
fn what_was_probably_meant() {
    let own = "its parentRef means Service shop/demo, as one without a namespace is of the route's \
               own; add namespace: default";
    let gateway = "its parentRef is a Gateway, as one without a kind is; write group: \"\" and kind: \
                   Service";
    for (route, parent, expected) in [
        ("default/r", "{name: demo}", Some(gateway)),
        ("shop/r", "{name: demo, namespace: default}", Some(gateway)),
        (
            "default/r",
            "{kind: Gateway, name: demo}",
            Some("its parentRef is a Gateway; write group: \"\" and kind: Service"),
        ),
        (
            "default/r",
            "{group: v1, kind: Service, name: demo}",
            Some("its parentRef is of group v1, which has no Services; write group: \"\""),
        ),
        ("shop/r", "{group: '', kind: Service, name: demo}", Some(own)),
        // Who names a namespace means it, and other names are other things.
        ("shop/r", "{group: '', kind: Service, name: demo, namespace: shop}", None),
        ("default/r", "{group: '', kind: Service, name: demos}", None),
        ("shop/r", "{name: demo}", None),
    ] {
        let documents = [demo(), http_route(route, &format!("[{parent}]"), "[{}]")];
        let expected: Vec<String> =
            expected.iter().map(|expected| format!("{route}: {expected}")).collect();
        assert_eq!(told(&documents, "default"), expected, "{parent}");
    }
    // There is such a Service: it is the one that is meant.
    let parent = "[{group: '', kind: Service, name: demo}]";
    let documents = [demo(), service("shop/demo", PORTS), http_route("shop/r", parent, "[{}]")];
    assert_eq!(told(&documents, "default"), [""; 0]);
}
