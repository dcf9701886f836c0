//! The client for what curl cannot do. Every command prints one JSON object, or the raw bytes.

mod attack;
mod grpc;
mod http;
mod load;
mod raw;
mod websocket;
mod witness;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use serde::Serialize;

/// A client for what curl cannot do.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// gRPC calls over one connection.
    Grpc(grpc::Options),
    /// HTTP requests over kept-alive connections.
    Http(http::Options),
    /// Requests at a constant rate, with everything that goes wrong.
    Load(load::Options),
    /// A WebSocket whose messages must come back.
    Websocket(websocket::Options),
    /// Sends bytes and prints what comes back.
    Raw(raw::Options),
    /// Misuses HTTP or connections, and tells what became of it.
    Attack(attack::Options),
    /// A well-behaved client that tells how long its requests take.
    Witness(witness::Options),
}

/// How often what was seen.
#[derive(Debug, Default, Serialize)]
struct Tally {
    /// Answers by status: HTTP's or gRPC's.
    statuses: BTreeMap<String, u64>,
    /// Answers by the pod that gave them.
    pods: BTreeMap<String, u64>,
    /// Answers by the version of the workload that gave them.
    versions: BTreeMap<String, u64>,
    /// Requests without an answer, by the error's text.
    errors: BTreeMap<String, u64>,
    /// The first answer in full.
    first: serde_json::Value,
}

impl Tally {
    fn count(map: &mut BTreeMap<String, u64>, key: impl Into<String>) {
        *map.entry(key.into()).or_default() += 1;
    }

    fn add(&mut self, other: Tally) {
        let pairs = [
            (&mut self.statuses, other.statuses),
            (&mut self.pods, other.pods),
            (&mut self.versions, other.versions),
            (&mut self.errors, other.errors),
        ];
        for (mine, theirs) in pairs {
            for (key, count) in theirs {
                *mine.entry(key).or_default() += count;
            }
        }
        if self.first.is_null() {
            self.first = other.first;
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let tally = match Options::parse().command {
        Command::Grpc(options) => grpc::run(&options).await?,
        Command::Http(options) => http::run(&options).await?,
        Command::Websocket(options) => websocket::run(&options).await?,
        Command::Load(options) => return load::run(options).await,
        Command::Raw(options) => return raw::run(&options).await,
        Command::Attack(options) => return attack::run(&options),
        Command::Witness(options) => return witness::run(&options),
    };
    println!("{}", serde_json::to_string(&tally)?);
    Ok(())
}

/// A `name: value` argument.
fn header(text: &str) -> Result<(String, String)> {
    let (name, value) = text.split_once(':').context("a header is written `name: value`")?;
    Ok((name.trim().to_lowercase(), value.trim().to_owned()))
}
