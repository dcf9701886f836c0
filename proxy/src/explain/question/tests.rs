use super::*;
use crate::request::head::{self, Present};

fn question(request: &[&str], headers: &[&str]) -> Result<Question, BadQuestion> {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Question::parse(&Words { request: owned(request), headers: owned(headers) })
}

/// The request line as it is sent, with the Host that a server reads, and the port that is dialled.
fn sent(request: &[&str], headers: &[&str]) -> String {
    let question = question(request, headers).unwrap();
    let mut parts = question.head().unwrap();
    let present = Present::of(&parts.headers);
    let authority = head::normalise(&mut parts, present, 100, String::new).unwrap();
    head::write_host(&mut parts.headers, authority.as_ref());
    let host = parts.headers[HOST].to_str().unwrap();
    format!("{} {} of {host} to port {}", parts.method, parts.uri, question.port)
}

#[test]
fn what_is_typed_is_what_curl_would_send() {
    for (typed, expected) in [
        (&["http://reviews:9080/x"][..], "GET /x of reviews:9080 to port 9080"),
        (&["GET", "http://reviews:9080/x"], "GET /x of reviews:9080 to port 9080"),
        (&["reviews:9080/x?q=1#there"], "GET /x?q=1 of reviews:9080 to port 9080"),
        (&["post", "http://reviews"], "POST / of reviews to port 80"),
        (&["http://reviews:80?q=1"], "GET /?q=1 of reviews to port 80"),
        (&["HTTP://reviews.bookinfo./"], "GET / of reviews.bookinfo. to port 80"),
        (&["http://[fd00::1]:8080/"], "GET / of [fd00::1]:8080 to port 8080"),
        (
            &["grpc://cart:7070/shop.Cart/AddItem"],
            "POST /shop.Cart/AddItem of cart:7070 to port 7070",
        ),
    ] {
        assert_eq!(sent(typed, &[]), expected);
    }
    let named = sent(&["http://10.96.0.1:9080/"], &["Host: reviews", "x: y"]);
    assert_eq!(named, "GET / of reviews to port 9080");
}

#[test]
fn headers_are_sent_as_they_are_given() {
    let question =
        question(&["http://a/"], &["End-User: jason", "x:1", "x: 2 ", "empty:"]).unwrap();
    let parts = question.head().unwrap();
    assert_eq!(parts.headers["end-user"], "jason");
    let values: Vec<_> = parts.headers.get_all("x").iter().collect();
    assert_eq!(values, ["1", "2"]);
    assert_eq!(parts.headers["empty"], "");
    // What a gRPC client always sends.
    let grpc = super::tests::question(&["grpc://cart:7070/shop.Cart/AddItem"], &[]).unwrap();
    let parts = grpc.head().unwrap();
    assert!(Present::of(&parts.headers).is_grpc());
    assert_eq!(parts.version, Version::HTTP_2);
}

#[test]
fn hosts_lead_where_the_cluster_s_names_do() {
    let service = |namespace: &str, name: &str| {
        Host::Service(NamespacedName { namespace: namespace.into(), name: name.into() })
    };
    for (host, expected) in [
        ("reviews", service("default", "reviews")),
        ("Reviews", service("default", "reviews")),
        ("reviews.bookinfo", service("bookinfo", "reviews")),
        ("reviews.bookinfo.svc", service("bookinfo", "reviews")),
        ("reviews.bookinfo.svc.cluster.local", service("bookinfo", "reviews")),
        ("reviews.bookinfo.svc.other.domain.", service("bookinfo", "reviews")),
        // A pod's name, or one of the Internet.
        (
            "pod-0.reviews.bookinfo.svc.cluster.local",
            service("", "pod-0.reviews.bookinfo.svc.cluster.local"),
        ),
        ("www.example.com", service("", "www.example.com")),
        ("10.96.0.1", Host::Address("10.96.0.1".parse().unwrap())),
        ("[fd00::1]", Host::Address("fd00::1".parse().unwrap())),
    ] {
        let question = question(&[&format!("http://{host}/")], &[]).unwrap();
        assert_eq!(question.leads_to("default"), expected, "{host}");
    }
}

#[test]
fn what_cannot_be_understood_says_what_to_write() {
    for (request, headers, expected) in [
        (&[][..], &[][..], "give a method and a URL, as in: GET http://reviews:9080/reviews/1"),
        (&["http://a/", "http://b/"], &[], "the method comes first, then one URL"),
        (&["G T", "http://a/"], &[], "\"G T\" is not a method; write GET, POST, …"),
        (&["ftp://a/"], &[], "ftp is not one of http, grpc, https and tcp; write it as in http://"),
        (&["http:///x"], &[], "it names no host"),
        (&["http://user@a/"], &[], "a user cannot be given"),
        (&["http://a:99999/"], &[], "is not a URL"),
        (&["http://a:0/"], &[], "0 is not a port; use 1 to 65535"),
        (&["http://a:/"], &[], "its port is not one of 1 to 65535"),
        (&["http://a:b/"], &[], "is not a URL"),
        (&["http://a/x y"], &[], "in its path or query"),
        (&["grpc://a/s.S/M"], &[], "has no port; write a:PORT"),
        (
            &["grpc://a:1/s.S"],
            &[],
            "names no gRPC method; write it as in grpc://cart:7070/shop.Cart/AddItem",
        ),
        (&["tcp://a"], &[], "has no port; write a:PORT"),
        (&["http://a/"], &["end-user"], "write name: value, as in -H 'end-user: jason'"),
        (&["http://a/"], &["end user: x"], "its name is invalid"),
        (&["http://a/"], &["x: a\nb"], "its value is invalid"),
    ] {
        let error = question(request, headers).unwrap_err().to_string();
        assert!(error.contains(expected), "{request:?} {headers:?}: {error}");
    }
}
