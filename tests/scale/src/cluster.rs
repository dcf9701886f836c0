//! A real etcd and a real kube-apiserver, and a way to write to them.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use weft_bench::namespace::FOLDER;
use weft_bench::process::Process;

use crate::Options;
use crate::network::{NODE, SERVICES};
use crate::objects;

/// How long the API server may take until it is ready, and for what comes right after.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Where the chart is said to be installed.
pub(crate) const WEFT_NAMESPACE: &str = "weft-system";
/// How many writes are under way at the same time.
const AT_ONCE: usize = 32;

/// The cluster; ends when dropped.
pub(crate) struct Cluster {
    _etcd: Process,
    apiserver: Process,
    /// The API server's, on loopback.
    pub(crate) port: u16,
    /// The administrator's.
    pub(crate) client: kube::Client,
    /// The same for programs: a file's path.
    pub(crate) kubeconfig: String,
    /// The API server's CA, as PEM.
    pub(crate) ca: String,
}

impl Cluster {
    /// Starts both, with the Gateway API's kinds and the chart's RBAC.
    pub(crate) async fn start(options: &Options) -> Result<Cluster> {
        let etcd_port = free_port()?;
        let (port, etcd_peers) = (free_port()?, free_port()?);
        let ca = write_keys()?;
        let mut etcd = Command::new(options.kubernetes.join("etcd"));
        let etcd_url = format!("http://127.0.0.1:{etcd_port}");
        let peers_url = format!("http://127.0.0.1:{etcd_peers}");
        etcd.args(["--data-dir", &format!("{FOLDER}/etcd"), "--unsafe-no-fsync"])
            .args(["--listen-client-urls", &etcd_url, "--advertise-client-urls", &etcd_url])
            .args(["--listen-peer-urls", &peers_url, "--log-level", "warn"]);
        let etcd = Process::start("etcd", etcd)?;
        let apiserver = Process::start("kube-apiserver", apiserver(options, port, &etcd_url))?;
        let kubeconfig = write_kubeconfig(port)?;
        let (config, choice) = (Kubeconfig::read_from(&kubeconfig)?, KubeConfigOptions::default());
        let config = kube::Config::from_custom_kubeconfig(config, &choice).await?;
        let client = kube::Client::try_from(config)?;
        let mut cluster = Cluster { _etcd: etcd, apiserver, port, client, kubeconfig, ca };
        cluster.until("/readyz").await?;
        cluster.install(options).await?;
        Ok(cluster)
    }

    async fn install(&mut self, options: &Options) -> Result<()> {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": WEFT_NAMESPACE},
        });
        self.create(&namespace).await?;
        let mut files = Vec::new();
        for file in fs::read_dir(&options.crds).context("the CRDs")? {
            let file = file?.path();
            if file.extension().is_some_and(|it| it == "yaml")
                && !file.ends_with("kustomization.yaml")
            {
                files.push(file);
            }
        }
        files.push(options.rbac.clone());
        for file in files {
            for object in documents(&file)? {
                self.create(&object).await.with_context(|| file.display().to_string())?;
            }
        }
        self.until("/apis/gateway.networking.k8s.io/v1/httproutes?limit=1").await?;
        // Before the first ServiceCIDR is ready, no Service gets an address.
        let object = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": "default", "name": "first"},
            "spec": {"clusterIP": "10.96.254.1", "ports": [{"port": 80}]},
        });
        let begun = Instant::now();
        while let Err(error) = self.create(&object).await {
            if begun.elapsed() > START_LIMIT {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Waits until a path is answered with success.
    async fn until(&mut self, path: &str) -> Result<()> {
        let begun = Instant::now();
        while let Err(error) = self.text(path).await {
            self.apiserver.check()?;
            if begun.elapsed() > START_LIMIT {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Makes an object.
    pub(crate) async fn create(&self, object: &Value) -> Result<()> {
        write(&self.client, Method::POST, &objects::collection(object), object).await.map(drop)
    }

    /// Makes many, saying how far it is.
    pub(crate) async fn create_all(
        &self,
        objects: impl Iterator<Item = Value> + Send + 'static,
        said: impl FnMut(usize) + Send + 'static,
    ) -> Result<usize> {
        let writes = objects.map(|object| (Method::POST, objects::collection(&object), object));
        write_all(&self.client, writes, said).await
    }

    /// Edits objects, each by the path and the merge patch.
    pub(crate) async fn edit_all(
        &self,
        edits: impl Iterator<Item = (String, Value)> + Send + 'static,
    ) -> Result<usize> {
        let writes = edits.map(|(path, patch)| (Method::PATCH, path, patch));
        write_all(&self.client, writes, |_| ()).await
    }

    /// Edits an object by a merge patch.
    pub(crate) async fn edit(&self, path: &str, patch: &Value) -> Result<()> {
        write(&self.client, Method::PATCH, path, patch).await.map(drop)
    }

    /// The answer to a GET.
    pub(crate) async fn text(&self, path: &str) -> Result<String> {
        Ok(self.client.request_text(Request::get(path).body(Vec::new())?).await?)
    }

    /// A token of a ServiceAccount, as a pod gets it. The account is made if it is not there.
    pub(crate) async fn token(&self, namespace: &str, account: &str) -> Result<String> {
        let metadata = json!({"namespace": namespace, "name": account});
        let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata});
        let path = format!("{}/token", objects::path(&object));
        if self.text(&objects::path(&object)).await.is_err() {
            self.create(&object).await?;
        }
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {},
        });
        let answer = write(&self.client, Method::POST, &path, &request).await?;
        let answer: Value = serde_json::from_str(&answer)?;
        Ok(answer["status"]["token"].as_str().context("no token in the answer")?.to_owned())
    }

    /// How many watches the API server serves, its own among them.
    pub(crate) async fn watches(&self) -> Result<u64> {
        let metrics = self.text("/metrics").await?;
        let lines = metrics.lines().filter(|line| {
            line.starts_with("apiserver_longrunning_requests{") && line.contains("verb=\"WATCH\"")
        });
        let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        Ok(values.sum::<f64>() as u64)
    }
}

async fn write(
    client: &kube::Client,
    method: Method,
    path: &str,
    object: &Value,
) -> Result<String> {
    let content_type =
        if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(&method).uri(path);
    let request = request.header("content-type", content_type).body(serde_json::to_vec(object)?)?;
    client.request_text(request).await.with_context(|| format!("{method} {path}"))
}

/// Writes all, [`AT_ONCE`] at a time; returns how many there were.
async fn write_all(
    client: &kube::Client,
    writes: impl Iterator<Item = (Method, String, Value)> + Send + 'static,
    mut said: impl FnMut(usize) + Send + 'static,
) -> Result<usize> {
    let writes = Arc::new(Mutex::new(writes));
    let mut tasks = JoinSet::new();
    let (done, mut is_done) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..AT_ONCE {
        let (writes, client, done) = (writes.clone(), client.clone(), done.clone());
        tasks.spawn(async move {
            loop {
                let next = writes.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((method, path, object)) = next else { return anyhow::Ok(()) };
                write(&client, method, &path, &object).await?;
                let _ = done.send(());
            }
        });
    }
    drop(done);
    let mut count = 0;
    while is_done.recv().await.is_some() {
        count += 1;
        said(count);
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(count)
}

fn apiserver(options: &Options, port: u16, etcd: &str) -> Command {
    let mut command = Command::new(options.kubernetes.join("kube-apiserver"));
    let pki = format!("{FOLDER}/pki");
    command
        .args([format!("--etcd-servers={etcd}"), format!("--secure-port={port}")])
        .args(["--bind-address=127.0.0.1", &format!("--advertise-address={NODE}")])
        // Nobody reaches the API server by a Service here.
        .args(["--endpoint-reconciler-type=none", "--authorization-mode=RBAC"])
        .arg(format!("--service-cluster-ip-range={SERVICES}"))
        .arg(format!("--tls-cert-file={pki}/apiserver.crt"))
        .arg(format!("--tls-private-key-file={pki}/apiserver.key"))
        .arg(format!("--token-auth-file={pki}/tokens.csv"))
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg(format!("--service-account-key-file={pki}/accounts.pub"))
        .arg(format!("--service-account-signing-key-file={pki}/accounts.key"));
    command
}

/// The administrator's; it opens nothing but this run's API server, which is reached by nobody else.
const TOKEN: &str = "administrator";

/// Writes what the API server needs to know itself and others by; returns its CA.
fn write_keys() -> Result<String> {
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "weft-scale");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &ca)?;
    let accounts = KeyPair::generate()?;
    let pki = Path::new(FOLDER).join("pki");
    fs::write(pki.join("apiserver.crt"), certificate.pem())?;
    fs::write(pki.join("apiserver.key"), key.serialize_pem())?;
    fs::write(pki.join("accounts.key"), accounts.serialize_pem())?;
    fs::write(pki.join("accounts.pub"), accounts.public_key_pem())?;
    fs::write(pki.join("tokens.csv"), format!("{TOKEN},admin,admin,\"system:masters\"\n"))?;
    fs::write(pki.join("ca.crt"), ca.pem())?;
    Ok(ca.pem())
}

fn write_kubeconfig(port: u16) -> Result<String> {
    let server = format!("https://127.0.0.1:{port}");
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "scale",
            "cluster": {"server": server, "certificate-authority": format!("{FOLDER}/pki/ca.crt")},
        }],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
        "contexts": [{"name": "scale", "context": {"cluster": "scale", "user": "admin"}}],
        "current-context": "scale",
    });
    let file = format!("{FOLDER}/kubeconfig");
    fs::write(&file, config.to_string())?;
    Ok(file)
}

/// The objects in a file of YAML.
fn documents(file: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).with_context(|| file.display().to_string())?;
    let documents: Vec<Value> = documents.into_iter().filter(|it| !it.is_null()).collect();
    if documents.is_empty() {
        bail!("{} holds nothing", file.display());
    }
    Ok(documents)
}

/// A port of loopback that nobody has. The namespace is this run's own: nobody takes it meanwhile.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
