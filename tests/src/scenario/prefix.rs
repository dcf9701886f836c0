//! Scenario 5: path prefix, added header and an 8 : 2 split, after Alibaba's walk-through.

use anyhow::{Context, Result};

use super::{Scenario, Stage, WELL};
use crate::answer::Answer;
use crate::lab::{Request, Workload};

pub(super) fn scenario() -> Scenario {
    Scenario {
        number: 5,
        title: "Path prefix, added header, 8 : 2 split",
        story: "Alibaba's walk-through: requests below /get carry a header that the route adds, \
                and one in five goes to the new version. The backend tells what it saw.",
        set,
        play,
    }
}

fn set(stage: &mut Stage<'_>) -> Result<()> {
    stage.scenery("5-prefix-and-header/services.yaml")?;
    let workload = |version| Workload::new("go-httpbin", version, "shop");
    stage.workloads("httpbin", &[workload("old"), workload("new")])?;
    stage.clients(&["shop"])
}

fn play(stage: &mut Stage<'_>) -> Result<()> {
    stage.apply("5-prefix-and-header/route.yaml")?;
    let request = Request::get("http://go-httpbin/get");
    stage.expect("shop", &request, 500, &[("old", 0.8), ("new", 0.2)])?;
    stage.expect_status("shop", "demo-app", WELL)?;

    stage.say("What the backend saw of one request with headers of its own:");
    let sent = [
        ("x-request-id", "3f2504e0"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ];
    let mut words = Vec::new();
    for (name, value) in sent {
        words.extend(["-H".to_owned(), format!("{name}: {value}")]);
    }
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.push("http://go-httpbin/get/headers");
    let body = stage.client("shop")?.curl(&words)?.success()?;
    let answer: Answer = serde_json::from_str(&body).with_context(|| format!("{body:?}"))?;
    stage.compare(
        "shop",
        "my-header, which the route adds",
        "foo",
        &answer.header("my-header").join("|"),
    );
    for (name, value) in sent {
        stage.compare(
            "shop",
            &format!("{name}, the caller's"),
            value,
            &answer.header(name).join("|"),
        );
    }
    stage.compare("shop", "path", "/get/headers", &answer.path);
    stage.compare("shop", "host", "go-httpbin", &answer.host);
    stage.say("Another path has no rule.");
    stage.expect("shop", &Request::get("http://go-httpbin/post"), 20, &[("404", 1.0)])
}
