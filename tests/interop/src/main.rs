//! `make interop`: programs and suites of others, and a corpus of our own, against the sidecar.
//!
//! | part | what speaks | to what, through the redirect and the sidecar |
//! |---|---|---|
//! | [`h2spec`] | h2spec in strict mode | the sidecar's HTTP/2 |
//! | [`grpc`] | gRPC's interoperability client | its server, both of Go |
//! | [`smuggling`] | the corpus of requests that could be read in two ways | eight HTTP servers |
//! | [`websocket`] | frames of every size and fragmentation | a server that knows what must come |
//!
//! Each part returns [`Row`]s: what was expected, what was seen. They are printed as one table; the
//! program fails when one of them does.

mod grpc;
mod h2spec;
mod smuggling;
mod table;
mod websocket;
mod world;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};

use crate::table::Row;

#[derive(Parser)]
#[command(about = "Programs and suites of others against the sidecar")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the parts and prints the table.
    Run(Run),
    /// In a client's pod: sends the corpus.
    Replay(smuggling::replay::Options),
    /// In a backend's pod: reads HTTP/1.1 to the letter.
    Strict(smuggling::strict::Options),
    /// In a backend's pod: sends and compares frames.
    WebsocketServer(websocket::ServerOptions),
    /// In a client's pod: sends and compares frames.
    WebsocketClient(websocket::ClientOptions),
}

#[derive(clap::Args)]
struct Run {
    /// The folder with the programs that tests/cluster/build.sh has built.
    #[arg(long)]
    programs: PathBuf,
    /// These parts only.
    parts: Vec<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    H2spec,
    Grpc,
    Smuggling,
    Websocket,
}

/// What all parts are given.
struct Setting {
    /// The programs that were built from Go modules.
    programs: PathBuf,
    /// Where results go.
    out: PathBuf,
}

impl Part {
    fn run(self, setting: &Setting) -> Result<Vec<Row>> {
        match self {
            Part::H2spec => h2spec::run(setting),
            Part::Grpc => grpc::run(setting),
            Part::Smuggling => smuggling::run(setting),
            Part::Websocket => websocket::run(setting),
        }
    }
}

fn main() -> ExitCode {
    let result = match Options::parse().command {
        Command::Run(options) => run(options),
        Command::Replay(options) => smuggling::replay::run(&options).map(|()| true),
        Command::Strict(options) => smuggling::strict::run(&options).map(|()| true),
        Command::WebsocketServer(options) => websocket::serve(&options).map(|()| true),
        Command::WebsocketClient(options) => websocket::connect(&options).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("interop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything was as expected.
fn run(options: Run) -> Result<bool> {
    let out = weft_tests::checkout()?.join("target/interop");
    fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    let setting = Setting { programs: options.programs, out };
    let mut rows = Vec::new();
    for part in Part::value_variants() {
        if !options.parts.is_empty() && !options.parts.contains(part) {
            continue;
        }
        let name = part.to_possible_value().map_or_else(String::new, |it| it.get_name().into());
        eprintln!("--- {name}");
        let start = Instant::now();
        match part.run(&setting) {
            Ok(of_part) => rows.extend(of_part),
            // The other parts may still tell something.
            Err(error) => rows.push(Row::failed(&name, &format!("{error:#}"))),
        }
        eprintln!("    {} s", start.elapsed().as_secs());
    }
    let text = table::render(&rows);
    fs::write(setting.out.join("table.txt"), &text)?;
    println!("{text}");
    Ok(rows.iter().all(|row| row.passed))
}
