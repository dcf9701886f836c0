//! `weft-proxy explain`: asks the running sidecar, or a folder of manifests.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use weft_gamma::endpoints::Place;

use crate::config::namespace;
use crate::explain::offline::Offline;
use crate::explain::{Question, Unexplained, Words};
use crate::pod::Pod;

/// How long the sidecar may take to answer: longer than it waits for the API server.
const PATIENCE: Duration = Duration::from_secs(20);

/// Says why a request goes where it goes
///
/// Shows the Service and how its port is read, the routes that apply and those that are left out,
/// the rule that wins and what the others lack, what filters do, and the backends with their odds and
/// endpoints. No request is sent.
///
/// In a pod, the sidecar is asked, through its admin port, and answers from what is in force:
///
///   kubectl exec POD -c weft-proxy -- \
///     weft-proxy explain GET http://reviews:9080/x -H 'end-user: jason'
///
/// With --manifests, a folder of manifests is asked instead, without a cluster:
///
///   weft-proxy explain --manifests DIR --namespace default GET http://reviews:9080/x
///
/// Headers that a client adds by itself, as user-agent, are not assumed: give them with -H.
///
/// Exits with 0 where there is an answer, whatever it is; with 1 where there is none, as of a Service
/// that does not exist; with 2 where the command line cannot be understood.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "explain",
    override_usage = "weft-proxy explain [OPTIONS] [METHOD] <URL>",
    verbatim_doc_comment
)]
pub struct ExplainOptions {
    /// The request; METHOD is GET where there is none.
    ///
    /// URL names a Service as a pod of the namespace would, or its address, with the port:
    /// http://reviews:9080/x, http://reviews.bookinfo/x, grpc://cart:7070/shop.Cart/AddItem. Of
    /// https://vault:8443 and tcp://db:5432, which pass unread, it is the connection that is explained; a
    /// TLS client asks for the URL's host, or for the server that -H 'host: NAME' names.
    #[arg(required = true, num_args = 1..=2, value_names = ["METHOD", "URL"])]
    request: Vec<String>,

    /// A header of the request, as in -H 'end-user: jason'; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,

    /// Ask the manifests below this folder instead of the running sidecar.
    #[arg(long, value_name = "FOLDER")]
    manifests: Option<PathBuf>,

    /// Namespace of the pod that sends the request [default: default]. The running sidecar knows its
    /// own.
    #[arg(long, value_name = "NAMESPACE", value_parser = namespace, requires = "manifests")]
    namespace: Option<String>,

    /// Node of that pod, where endpoints are local (internalTrafficPolicy, hints).
    #[arg(long, value_name = "NODE", requires = "manifests")]
    node_name: Option<String>,

    /// Zone of that node [default: that of an endpoint on the same node].
    #[arg(long, value_name = "ZONE", requires = "manifests")]
    zone: Option<String>,

    /// JSON for programs, with every match and endpoint.
    #[arg(long)]
    json: bool,

    /// Port on loopback of the running sidecar's admin endpoints.
    #[arg(
        long,
        env = "WEFT_ADMIN_PORT",
        value_name = "PORT",
        default_value_t = 15000,
        value_parser = clap::value_parser!(u16).range(1..),
    )]
    admin_port: u16,
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// Also [`Unexplained::BadQuestion`].
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    NoAnswer(String),
}

impl ExplainOptions {
    /// Exits with 0 where there is an explanation, whatever it says; with 1 where there is none, as
    /// of a Service that does not exist; with 2 where the question cannot be understood.
    pub fn run(self) -> ExitCode {
        match self.explained() {
            Ok(text) => {
                // A reader that goes away early, as head does, has what it wants.
                let _ = std::io::stdout().write_all(text.as_bytes());
                ExitCode::SUCCESS
            }
            Err(failed) => {
                eprintln!("weft-proxy explain: {failed}");
                match failed {
                    Failed::Usage(_) => ExitCode::from(2),
                    Failed::NoAnswer(_) => ExitCode::from(1),
                }
            }
        }
    }

    /// The explanation, as it is to be printed.
    fn explained(self) -> Result<String, Failed> {
        let words = Words { request: self.request, headers: self.headers };
        let question = Question::parse(&words).map_err(|bad| Failed::Usage(bad.to_string()))?;
        let Some(folder) = self.manifests else {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| Failed::NoAnswer(error.to_string()))?;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.admin_port));
            return runtime.block_on(ask(address, &words, self.json));
        };
        let pod = Pod {
            namespace: self.namespace.unwrap_or_else(|| "default".to_owned()),
            place: Place { node: self.node_name, zone: self.zone },
            address: None,
        };
        let offline =
            Offline::read(&folder, pod).map_err(|error| Failed::Usage(error.to_string()))?;
        let explanation = offline.explain(&question).map_err(|error| match error {
            Unexplained::BadQuestion(_) => Failed::Usage(error.to_string()),
            other => Failed::NoAnswer(other.to_string()),
        })?;
        match self.json {
            true => serde_json::to_string_pretty(&explanation)
                .map(|json| json + "\n")
                .map_err(|error| Failed::NoAnswer(error.to_string())),
            false => Ok(explanation.to_string()),
        }
    }
}

/// Asks the sidecar whose admin port is at `address`.
pub(crate) async fn ask(address: SocketAddr, words: &Words, json: bool) -> Result<String, Failed> {
    let asked = tokio::time::timeout(PATIENCE, exchange(address, words, json)).await;
    let (status, body) = match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(nobody(address, &format!("{error:#}"))),
        Err(_) => return Err(nobody(address, &format!("no answer in {} s", PATIENCE.as_secs()))),
    };
    let message = || body.trim_end().to_owned();
    match status {
        StatusCode::OK => Ok(body),
        StatusCode::BAD_REQUEST => Err(Failed::Usage(message())),
        StatusCode::NOT_FOUND => Err(Failed::NoAnswer(format!(
            "what answers on {address} is no weft-proxy that can explain: it may be an older one"
        ))),
        _ => Err(Failed::NoAnswer(message())),
    }
}

fn nobody(address: SocketAddr, why: &str) -> Failed {
    Failed::NoAnswer(format!(
        "no sidecar answers on {address} ({why}). Ask where it runs: kubectl exec POD -c weft-proxy -- \
         weft-proxy explain …; or ask a folder of manifests: weft-proxy explain --manifests DIR …"
    ))
}

async fn exchange(
    address: SocketAddr,
    words: &Words,
    json: bool,
) -> anyhow::Result<(StatusCode, String)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::post("/explain")
        .header(HOST, address.to_string())
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, if json { "application/json" } else { "text/plain" })
        .body(Full::new(Bytes::from(serde_json::to_vec(words)?)))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
