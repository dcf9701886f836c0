//! From a route's edit to its effect in traffic, and to its status.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{Stream, StreamExt, TryStreamExt};
use kube::api::{DynamicObject, WatchEvent, WatchParams};
use tokio::time::timeout;
use weft_e2e::rate::Load;
use weft_e2e::{Server, figure, run};
use weft_tests::load::{Change, Line};

use crate::clock::now;
use crate::route::marked_route;

const EDITS: u32 = 100;
/// What is asked of 99 of 100 edits, in milliseconds: in traffic, and in the status.
const ASKED: [f64; 2] = [250.0, 500.0];
/// A busy machine may be so many times slower; the exact figures are for people to read.
const TOLERANCE: f64 = 10.0;
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn an_edit_takes_effect_at_once() {
    run("effect", async |cluster| {
        let shop = cluster.namespace("shop").await?;
        shop.server(&Server::new("reviews", "v1")).await?;
        shop.apply(&marked_route("reviews", 0)).await?;
        // A request in each millisecond tells the moment of the effect well enough.
        let load =
            Load::new("http1", 1000, &["http://reviews"]).with(&["--watch-header", "x-edit"]);
        let traffic = shop.load(&load).await?;
        let mut effects = pin!(changes(traffic.lines().await?));
        reach(&mut effects, 0).await?;
        let routes = shop.dynamic("HTTPRoute")?;
        let start = routes.get("reviews").await?.metadata.resource_version.unwrap_or_default();
        let mut states = pin!(routes.watch(&WatchParams::default(), &start).await?);

        let mut took = [Vec::new(), Vec::new()];
        for edit in 1..=EDITS {
            let began = now();
            let applied = shop.apply(&marked_route("reviews", edit)).await?.swap_remove(0);
            let generation = applied.metadata.generation.context("no generation")?;
            let effect = reach(&mut effects, edit);
            let status = observed(&mut states, generation);
            let (effect, status) = tokio::try_join!(effect, status)?;
            took[0].push((effect - began) * 1e3);
            took[1].push((status - began) * 1e3);
        }

        let report = traffic.report().await?;
        ensure!(report.failed == 0, "{:#?}", report.failures);
        for (index, what) in ["its effect in traffic", "its status"].into_iter().enumerate() {
            let times = &mut took[index];
            times.sort_unstable_by(f64::total_cmp);
            let at = |share: f64| times[((times.len() as f64 * share).ceil() as usize).max(1) - 1];
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(at);
            figure(
                &format!("from an edit to {what}, of {EDITS} edits"),
                &format!("p50 {p50:.0} ms, p99 {p99:.0} ms, max {max:.0} ms"),
                &format!("p99 at most {:.0} ms", ASKED[index]),
            )?;
            ensure!(p99 <= ASKED[index] * TOLERANCE, "{what}: {p99} ms");
        }
        Ok(())
    });
}

fn changes(lines: impl Stream<Item = Result<Line>>) -> impl Stream<Item = Result<Change>> {
    lines.try_filter_map(|line| async move {
        Ok(match line {
            Line::Change(change) => Some(change),
            Line::Report(_) => None,
        })
    })
}

/// When the edit was first seen in an answer.
async fn reach(
    changes: &mut (impl Stream<Item = Result<Change>> + Unpin),
    edit: u32,
) -> Result<f64> {
    let seen = async {
        loop {
            let change = changes.next().await.context("the log has ended")??;
            if change.value == edit.to_string() {
                return Ok(change.at);
            }
        }
    };
    timeout(LIMIT, seen).await.with_context(|| format!("edit {edit} has no effect"))?
}

/// When the status was seen to be of that generation.
async fn observed(
    states: &mut (impl Stream<Item = kube::Result<WatchEvent<DynamicObject>>> + Unpin),
    generation: i64,
) -> Result<f64> {
    let seen = async {
        loop {
            let event = states.next().await.context("the watch has ended")??;
            if let WatchEvent::Added(route) | WatchEvent::Modified(route) = event {
                let parents = route.data["status"]["parents"].as_array().into_iter().flatten();
                let mut conditions = parents
                    .flat_map(|parent| parent["conditions"].as_array().into_iter().flatten());
                let observed = |it: &serde_json::Value| it["observedGeneration"].as_i64();
                if conditions.any(|it| it["type"] == "Accepted" && observed(it) == Some(generation))
                {
                    return Ok(now());
                }
            }
        }
    };
    timeout(LIMIT, seen).await.with_context(|| format!("no status of generation {generation}"))?
}
