//! A backend that closes kept connections just as requests go out on them.

use anyhow::{Context, Result, ensure};
use weft_e2e::rate::{Load, Traffic};
use weft_e2e::{Server, figure, run, times, web};
use weft_tests::answer::{Counted, Counts};
use weft_tests::lab::metrics::{samples, sum};

/// How many idempotent requests.
const REQUESTS: (&str, u64) = ("WEFT_E2E_IDLE_REQUESTS", 10_000);
/// Requests per second.
const GETS: u32 = 800;
const POSTS: u32 = 200;
/// The longest time that the backend keeps an idle connection, in milliseconds: about as long as there
/// is between two requests on one, so that many a close meets the next request.
const IDLE: &str = "8";
/// The header that numbers the requests.
const MARK: &str = "x-mark";

/// GETs are sent again, and none fails. POSTs may fail; none reaches the backend twice.
#[test]
fn connections_that_close_while_idle_cost_no_get_and_double_no_post() {
    run("idle", async |cluster| {
        let wanted = times(REQUESTS.0, REQUESTS.1)?;
        let shop = cluster.namespace("shop").await?;
        // One pod, which so sees every request.
        let server =
            Server::new("reviews", "v1").with(&["--idle-close-ms", IDLE, "--count-header", MARK]);
        shop.server(&server).await?;
        let backend = shop.pods("app=reviews").await?.remove(0).metadata.name.context("a name")?;
        let backend = shop.pod(&backend).addresses().await?.swap_remove(0);
        let mark = ["--mark", MARK];
        let gets = Load::new("get", GETS, &["http://reviews"]).with(&mark);
        let posts = Load::new("post", POSTS, &["http://reviews"]).with(&mark);
        let posts = posts.with(&["--method", "POST", "--body-bytes", "100"]);
        let gets = shop.load(&gets).await?;
        let posts = shop.load(&posts).await?;

        gets.has_done(wanted, GETS).await?;
        let again = [sent_again(&gets).await?, sent_again(&posts).await?];
        let (gets, posts) = (gets.end().await?.report, posts.end().await?.report);
        let text = web::get(&format!("http://{backend}:8080/counted")).await?.1;
        let counted: Counted = serde_json::from_str(&text).context(text)?;
        let [got, posted] = ["GET", "POST"].map(|it| counted.get(it).cloned().unwrap_or_default());
        println!("idle: GET: {} sent, {again:?} sent again; {}", gets.done, brief(&got));
        println!("idle: POST: {} sent, {:?}; {}", posts.done, posts.errors, brief(&posted));
        figure(
            "GETs to a backend that closes idle connections",
            &format!("{} requests, {} failed", gets.done, gets.failed),
            "0 failed",
        )?;
        figure(
            "POSTs to it",
            &format!(
                "{} requests, {} doubled, {} failed",
                posts.done,
                posted.requests - posted.values,
                posts.failed
            ),
            "0 doubled",
        )?;
        ensure!(gets.failed == 0, "{:#?}", gets.failures);
        ensure!(got.values == gets.done, "{} of {} GETs arrived", got.values, gets.done);
        ensure!(posted.requests == posted.values, "POSTs came twice: {:?}", posted.repeated);
        let answered = posts.statuses.get("200").copied().unwrap_or(0);
        ensure!(
            (answered..=posts.done).contains(&posted.values),
            "{answered} of {} POSTs were answered, {} arrived",
            posts.done,
            posted.values
        );
        // Else nothing has been shown.
        ensure!(again[0] > 0.0, "no connection was closed at a bad moment");
        Ok(())
    });
}

/// How many requests a load's sidecar has sent once more.
async fn sent_again(traffic: &Traffic) -> Result<f64> {
    let address = traffic.pod.addresses().await?.swap_remove(0);
    let metrics = samples(&web::get(&format!("http://{address}:15020/metrics")).await?.1);
    Ok(sum(&metrics, "weft_route_retries_total", &[]))
}

fn brief(counts: &Counts) -> String {
    let twice = counts.repeated.len();
    format!("{} came, of {} numbers, {twice} or more twice", counts.requests, counts.values)
}
