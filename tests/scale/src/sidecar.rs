//! A sidecar, as it stands in a pod, and its pod's application.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use weft_bench::namespace::FOLDER;
use weft_bench::process::Process;

use crate::cluster::Cluster;
use crate::objects;

/// weft-proxy's uid, which weft-init lets pass.
pub(crate) const UID: u32 = 65101;
/// Where a pod has its ServiceAccount.
const ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";
const METRICS: ([u8; 4], u16) = ([127, 0, 0, 1], 15020);
/// How long the sidecar may take to be ready.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running sidecar of a pod of the first namespace; ends when dropped.
pub(crate) struct Sidecar {
    process: Process,
    api_port: u16,
}

impl Sidecar {
    /// Starts one that knows nothing yet.
    pub(crate) async fn start(cluster: &Cluster) -> Result<Sidecar> {
        let namespace = objects::namespace(0);
        let token = cluster.token(&namespace, "default").await?;
        fs::create_dir_all(ACCOUNT)?;
        for (file, text) in [("token", &token), ("ca.crt", &cluster.ca), ("namespace", &namespace)]
        {
            fs::write(format!("{ACCOUNT}/{file}"), text)?;
        }
        let mut command = Command::new("setpriv");
        let uid = UID.to_string();
        command
            .args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--inh-caps=-all"])
            .args(["--bounding-set=-all", "--no-new-privs", &format!("{FOLDER}/weft-proxy")])
            .args(["--namespace", &namespace])
            .env_remove("KUBECONFIG")
            .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
            .env("KUBERNETES_SERVICE_PORT", cluster.port.to_string());
        let process = Process::start("weft-proxy", command)?;
        let mut sidecar = Sidecar { process, api_port: cluster.port };
        let begun = Instant::now();
        while !sidecar.is_ready().await {
            sidecar.process.check()?;
            ensure!(begun.elapsed() < START_LIMIT, "not ready:\n{}", sidecar.process.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(sidecar)
    }

    async fn is_ready(&self) -> bool {
        let Ok(mut client) = Client::connect(METRICS.into()).await else { return false };
        client.get("/readyz").await.is_ok()
    }

    pub(crate) fn resident_mib(&self) -> Result<f64> {
        self.process.resident_mib()
    }

    pub(crate) fn private_mib(&self) -> Result<f64> {
        self.process.private_mib()
    }

    pub(crate) fn peak_mib(&self) -> Result<f64> {
        self.process.peak_mib()
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        self.process.cpu_seconds()
    }

    /// The value of one of its metrics that has no labels.
    pub(crate) async fn metric(&self, name: &str) -> Result<f64> {
        let (_, text) = Client::connect(METRICS.into()).await?.get("/metrics").await?;
        let text = String::from_utf8_lossy(&text);
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("no metric {name}"))?.trim().parse()?)
    }

    /// How many connections it has to the API server.
    pub(crate) fn connections(&self) -> Result<usize> {
        let api = format!(":{:04X}", self.api_port);
        let table = fs::read_to_string("/proc/net/tcp")?;
        let (established, uid) = ("01", UID.to_string());
        let is_ours = |line: &&str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            matches!(fields[..], [_, _, remote, state, _, _, _, owner, ..]
                if remote.ends_with(&api) && state == established && owner == uid)
        };
        Ok(table.lines().filter(is_ours).count())
    }
}

/// The application's connection to a Service, or somebody's to a port of the sidecar.
pub(crate) struct Client {
    sender: http1::SendRequest<Empty<Bytes>>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Client { sender })
    }

    /// To one of the Services.
    pub(crate) async fn to_service(number: usize) -> Result<Client> {
        Client::connect((objects::cluster_ip(number), 80).into()).await
    }

    /// The headers and the body of a good answer.
    pub(crate) async fn get(&mut self, path: &str) -> Result<(HeaderMap, Bytes)> {
        self.send(Request::get(path).body(Empty::new())?).await
    }

    /// The headers of an answer to the Service's own user.
    pub(crate) async fn ask(&mut self, number: usize) -> Result<HeaderMap> {
        let (_, name) = objects::name(number);
        let user = format!("user-of-{name}");
        let request = Request::get("/").header(objects::USER, user).body(Empty::new())?;
        Ok(self.send(request).await?.0)
    }

    async fn send(&mut self, mut request: Request<Empty<Bytes>>) -> Result<(HeaderMap, Bytes)> {
        request.headers_mut().insert("host", "scale".parse()?);
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        ensure!(head.status == 200, "{}: {}", head.status, String::from_utf8_lossy(&body));
        Ok((head.headers, body))
    }
}
