//! What the running sidecar explains is what it does: each request and connection is explained, then
//! made, through the real redirect.

use serde_json::Value;

use crate::support::{World, http_route, route};

const RULES: &str = "  \
  - name: jason
    matches:
    - headers:
      - {name: end-user, value: jason}
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: x-canary, value: 'yes'}]}
    backendRefs: [{name: echo-v2, port: 80}]
  - name: old
    matches:
    - path: {type: PathPrefix, value: /old}
    filters:
    - type: URLRewrite
      urlRewrite: {hostname: new.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}
    backendRefs: [{name: echo-v1, port: 80}]
  - name: moved
    matches:
    - path: {type: Exact, value: /moved}
    filters:
    - type: RequestRedirect
      requestRedirect: {hostname: there.example, statusCode: 301}
  - name: page
    matches:
    - path: {type: PathPrefix, value: /page}
      method: POST
    filters:
    - type: CORS
      cors: {allowOrigins: ['https://page.example'], allowMethods: [POST]}
    backendRefs: [{name: echo-v1, port: 80}]
  - name: gone
    matches:
    - path: {type: PathPrefix, value: /gone}
    backendRefs: [{name: nowhere, port: 80}]
  - name: unknown
    matches:
    - path: {type: PathPrefix, value: /unknown}
    filters: [{type: FromTheFuture}]
    backendRefs: [{name: echo-v1, port: 80}]
  - name: split
    matches:
    - path: {type: PathPrefix, value: /split}
    backendRefs:
    - {name: echo-v1, port: 80, weight: 3}
    - {name: echo-v2, port: 80, weight: 1}";

/// A request: method, path and headers.
type Asked = (&'static str, &'static str, &'static [&'static str]);

const REQUESTS: [Asked; 12] = [
    ("GET", "/", &["end-user: jason"]),
    ("GET", "/old/a?q=1", &["end-user: jason"]),
    ("GET", "/old/a?q=1", &[]),
    ("DELETE", "/older", &[]),
    ("GET", "/moved", &[]),
    ("POST", "/page", &["origin: https://page.example"]),
    ("OPTIONS", "/page", &["origin: https://page.example", "access-control-request-method: POST"]),
    ("OPTIONS", "/page", &["origin: https://evil.example", "access-control-request-method: POST"]),
    ("GET", "/gone", &[]),
    ("GET", "/unknown", &[]),
    ("GET", "/split", &[]),
    ("GET", "/", &["end-user: kate"]),
];

/// What the sidecar says, as programs get it.
fn explain(world: &World, arguments: &[&str]) -> Value {
    let mut words = vec!["weft-proxy", "explain", "--json"];
    words.extend(arguments);
    let said = world.client.exec(&words).expect("a command").success().expect("an explanation");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error} in {said}"))
}

/// The versions of `echo` that can get what was explained.
fn versions(said: &Value) -> Vec<&str> {
    let backends = said["backends"].as_array().expect("backends");
    let possible = backends.iter().filter(|it| it["percent"].as_f64() > Some(0.0));
    let services = possible.map(|it| it["service"].as_str().expect("a Service"));
    services.map(|it| it.strip_prefix("default/echo-").unwrap_or(it)).collect()
}

/// One header of a head that curl has dumped.
fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(it, _)| it.eq_ignore_ascii_case(name));
    values.next().map(|(_, value)| value.trim())
}

#[test]
fn requests_go_where_the_sidecar_says() {
    let world = World::routed(&http_route("shop", RULES));
    for (method, path, headers) in REQUESTS {
        let url = format!("http://echo{path}");
        let headers: Vec<&str> = headers.iter().flat_map(|it| ["-H", *it]).collect();
        let said = explain(&world, &[&[method, url.as_str()], headers.as_slice()].concat());
        let sent = [&["-X", method, url.as_str()], headers.as_slice()].concat();
        let answer = &said["answer"];
        // Of a rule all of whose backends answer alike, the answer is theirs.
        let own = if answer.is_null() { &said["backends"][0]["answer"] } else { answer };
        let context = format!("{method} {path} {headers:?}: {said:#}");
        if own.is_null() {
            let came = world.ask(&sent);
            assert!(versions(&said).contains(&came.identity.version.as_str()), "{context}");
            let forwarded = &said["rule"]["forwarded"];
            assert_eq!(forwarded["target"], came.path, "{context}");
            assert_eq!(forwarded["host"], came.host, "{context}");
            for one in forwarded["headers"].as_array().expect("headers") {
                let value = one["value"].as_str().expect("a value");
                let name = one["name"].as_str().expect("a name");
                assert_eq!(came.header(name), [value], "{context}");
            }
        } else {
            let head = world.head(&sent);
            let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
            assert_eq!(own["status"].as_u64(), status, "{context}{head}");
            let reason = header(&head, "x-weft-reason");
            assert_eq!(own["reason"].as_str(), reason, "{context}{head}");
            assert_eq!(own["location"].as_str(), header(&head, "location"), "{context}{head}");
        }
    }
    // Each rule was asked for.
    let rules = REQUESTS.map(|(method, path, headers)| {
        let url = format!("http://echo{path}");
        let headers: Vec<&str> = headers.iter().flat_map(|it| ["-H", *it]).collect();
        let said = explain(&world, &[&[method, url.as_str()], headers.as_slice()].concat());
        said["rule"]["name"].as_str().map(str::to_owned)
    });
    for rule in ["jason", "old", "moved", "page", "gone", "unknown", "split"] {
        assert!(rules.iter().flatten().any(|it| it == rule), "{rule}: {rules:?}");
    }
    assert_eq!(rules[11], None, "no rule matches");
}

#[test]
fn connections_go_where_the_sidecar_says() {
    let to = |backend: &str, port: u16| {
        format!("  - backendRefs:\n    - name: {backend}\n      port: {port}")
    };
    let routes = route("TLSRoute", "blue", "    port: 443\n", &to("echo-v1", 443))
        .replace("  rules:", "  hostnames: [blue.secure.example]\n  rules:")
        + &route("TLSRoute", "others", "    port: 443\n", &to("echo-v2", 443))
            .replace("  rules:", "  hostnames: ['*.secure.example']\n  rules:")
        + &route("TCPRoute", "moved", "    port: 3306\n", &to("echo-v2", 3306));
    let world = World::routed(&routes);
    for name in ["blue.secure.example", "red.secure.example", "secure.example"] {
        let host = format!("host: {name}");
        let said = explain(&world, &["https://echo:443", "-H", &host]);
        let resolve = format!("{name}:443:10.96.1.1");
        let url = format!("https://{name}/");
        let sent = ["-k", "--resolve", &resolve, &url];
        if said["answer"].is_null() {
            assert_eq!(versions(&said), [world.ask(&sent).identity.version], "{said:#}");
        } else {
            assert_eq!(said["answer"]["reason"], "no_rule_matched", "{said:#}");
            // 35: the handshake failed.
            assert_eq!(world.client.curl(&sent).expect("curl").code, 35);
        }
    }
    let said = explain(&world, &["tcp://echo:3306"]);
    assert_eq!(said["rule"]["route"], "TCPRoute default/moved");
    let came = world.raw("echo:3306", "", &["--until", "\n"]);
    assert!(came.ends_with(&format!(" {}\n", versions(&said)[0])), "{came} {said:#}");
}

#[test]
fn people_are_told_in_words() {
    let world = World::routed(&http_route("shop", RULES));
    let explain =
        |url: &str| world.client.exec(&["weft-proxy", "explain", url]).expect("a command");
    let said = explain("http://echo/split").success().expect("an explanation");
    let summary =
        "goes to one of 2 backends by weight, by rule 6 (split) of HTTPRoute default/shop";
    for part in [summary, "75 %  Service default/echo-v1 port 80", "ready", "producer route"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let unknown = explain("http://nobody/");
    assert_eq!(unknown.code, 1, "{}", unknown.stderr);
    assert!(unknown.stderr.contains("there is no Service default/nobody"), "{}", unknown.stderr);
}
