//! A real cluster as the scenarios see one.
//!
//! Their namespaces become namespaces of the test's own, wherever they are named: in objects, in
//! references, in the hosts of URLs. The Services' addresses are the API server's to give.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::runtime::Handle;
use weft_e2e::{Cluster, INJECT, Namespace, Pod, Server, eventually};
use weft_tests::lab::{Output, Request, Seen, Workload};
use weft_tests::scenario::{Sender, Traffic, World};

/// The longest name that the API permits for a namespace.
const LONGEST_NAME: usize = 63;

/// How long a change may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct ClusterWorld<'a> {
    cluster: &'a Cluster,
    /// By the names that the scenarios have for them.
    namespaces: Mutex<BTreeMap<String, Namespace>>,
}

/// The client pod of a namespace.
struct ClusterClient {
    pod: Pod,
    /// The namespaces that there were when it was made, by the scenarios' names.
    names: BTreeMap<String, String>,
    /// Traffic that was started.
    started: AtomicU32,
}

/// curl in the background of a client pod, with its output in a file.
struct ClusterTraffic {
    pod: Pod,
    /// The file with curl's process id, and the one with the answers.
    pid: String,
    answers: String,
}

impl<'a> ClusterWorld<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> ClusterWorld<'a> {
        ClusterWorld { cluster, namespaces: Mutex::default() }
    }

    /// The namespace behind a scenario's name; made when it is named for the first time.
    fn real(&self, name: &str) -> Result<Namespace> {
        let mut known = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(namespace) = known.get(name) {
            return Ok(namespace.clone());
        }
        let labels = [(INJECT, "enabled")];
        let made = wait(async {
            if name.len() < LONGEST_NAME {
                return self.cluster.namespace_with(name, &labels).await;
            }
            let long = format!("e2e-long-{:08x}-", fastrand::u32(..));
            let long = format!("{long:x<LONGEST_NAME$}");
            self.cluster.namespace_named(&long, &labels).await
        })?;
        known.insert(name.to_owned(), made.clone());
        Ok(made)
    }

    fn names(&self) -> BTreeMap<String, String> {
        let known = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(name, real)| (name.clone(), real.name.clone())).collect()
    }

    /// The objects of a scenario as they can be applied here, each with the scenario's name for it.
    fn objects(&self, yaml: &str) -> Result<Vec<(String, Value)>> {
        let mut objects = weft_e2e::documents(yaml)?;
        let mut titled = Vec::new();
        for object in &mut objects {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let metadata = &object["metadata"];
            let title = format!(
                "{} {}/{}",
                text(&object["kind"]),
                text(&metadata["namespace"]),
                text(&metadata["name"])
            );
            self.translate(object)?;
            if object["kind"] == "Service" {
                for field in ["clusterIP", "clusterIPs", "ipFamilies"] {
                    object["spec"].as_object_mut().context("a Service's spec")?.remove(field);
                }
                object["spec"]["ipFamilyPolicy"] = "PreferDualStack".into();
                object.as_object_mut().context("a Service")?.remove("status");
            }
            titled.push((title, object.take()));
        }
        Ok(titled)
    }

    /// Replaces the values of all fields `namespace`.
    fn translate(&self, value: &mut Value) -> Result<()> {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    match field {
                        Value::String(text) if name == "namespace" => *text = self.real(text)?.name,
                        field => self.translate(field)?,
                    }
                }
            }
            Value::Array(items) => {
                for item in items {
                    self.translate(item)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl World for ClusterWorld<'_> {
    fn namespace(&self, name: &str) -> Result<String> {
        Ok(self.real(name)?.name)
    }

    fn start(&self, workloads: &[Workload]) -> Result<()> {
        let servers = workloads.iter().map(|one| {
            let server = Server::new(&one.app, &one.version).on_port(one.http_port, one.http_port);
            Ok((self.real(&one.namespace)?, server))
        });
        let servers: Vec<(Namespace, Server)> = servers.collect::<Result<_>>()?;
        wait(async {
            for (namespace, server) in &servers {
                namespace.apply_value(server.workload()).await?;
            }
            for (namespace, server) in &servers {
                namespace.available(&server.deployment()).await?;
            }
            Ok(())
        })
    }

    fn client(&self, namespace: &str) -> Result<Arc<dyn Sender>> {
        let pod = wait(self.real(namespace)?.client())?;
        Ok(Arc::new(ClusterClient { pod, names: self.names(), started: AtomicU32::new(0) }))
    }

    fn set(&self, yaml: &str) -> Result<()> {
        self.apply(yaml).map(|_| ())
    }

    fn apply(&self, yaml: &str) -> Result<Vec<String>> {
        let mut applied = Vec::new();
        for (title, object) in self.objects(yaml)? {
            wait(self.cluster.apply_value(object))?;
            applied.push(title);
        }
        Ok(applied)
    }

    fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        wait(self.real(namespace)?.delete(kind, name))
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }

    fn status(&self, kind: &str, namespace: &str, name: &str) -> Result<Option<String>> {
        let route = wait(self.real(namespace)?.get(kind, name))?;
        Ok(Some(weft_e2e::verdict(&route)))
    }
}

impl ClusterClient {
    fn words<'w>(&self, words: impl IntoIterator<Item = &'w str>) -> Vec<String> {
        words.into_iter().map(|word| translated(word, &self.names)).collect()
    }

    fn request(&self, request: &Request, count: u32) -> Vec<String> {
        let words = request.arguments(count);
        self.words(words.iter().map(String::as_str))
    }
}

impl Sender for ClusterClient {
    fn send(&self, request: &Request, count: u32) -> Result<Vec<Seen>> {
        let arguments = self.request(request, count);
        let mut words = vec!["curl"];
        words.extend(arguments.iter().map(String::as_str));
        // curl's status tells of its last request only; every answer is in the output.
        Ok(Seen::lines(&wait(self.pod.exec(&words))?.stdout))
    }

    fn start_traffic(&self, request: &Request) -> Result<Box<dyn Traffic>> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let (pid, answers) =
            (format!("/tmp/traffic-{number}.pid"), format!("/tmp/traffic-{number}"));
        let mut words = self.request(request, 10_000_000);
        for word in &mut words {
            if word.starts_with("%{http_code}") {
                // Unlike its output, curl's errors are written at once.
                word.insert_str(0, "%{stderr}");
            }
        }
        // The words are the script's arguments: no quoting.
        let script = format!("curl \"$@\" 2>{answers} >/dev/null & echo $! >{pid}");
        let mut command = vec!["sh", "-c", &script, "sh"];
        command.extend(words.iter().map(String::as_str));
        wait(self.pod.exec(&command))?.success()?;
        let traffic = ClusterTraffic { pod: self.pod.clone(), pid, answers };
        traffic.wait_for(1).context("the first answer of continuous traffic")?;
        Ok(Box::new(traffic))
    }

    fn curl(&self, arguments: &[&str]) -> Result<Output> {
        let words = self.words(arguments.iter().copied());
        wait(self.pod.curl(&words.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    fn admin(&self, path: &str) -> Result<String> {
        wait(self.pod.admin(path))
    }
}

impl ClusterTraffic {
    async fn lines(&self) -> Result<usize> {
        let output = self.pod.sh(&format!("wc -l <{}", self.answers)).await?.success()?;
        Ok(output.trim().parse()?)
    }
}

impl Traffic for ClusterTraffic {
    fn wait_for(&self, more: usize) -> Result<()> {
        wait(async {
            let wanted = self.lines().await? + more;
            eventually(PATIENCE, "more answers of the continuous requests", async || {
                let lines = self.lines().await?;
                ensure!(lines >= wanted, "{lines} of {wanted}");
                Ok(())
            })
            .await
        })
    }

    fn stop(self: Box<Self>) -> Result<Vec<Seen>> {
        let script = format!("kill $(cat {}) && cat {}", self.pid, self.answers);
        let text = wait(self.pod.sh(&script))?.success().context("curl has ended by itself")?;
        // The last line may be cut in the middle.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        Ok(Seen::lines(whole))
    }
}

/// Blocks until the answer is there; called on a thread that may block.
fn wait<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    Handle::current().block_on(future)
}

/// A word of curl's with the namespace in its URL replaced: the second part of the host.
fn translated(word: &str, names: &BTreeMap<String, String>) -> String {
    let Some(rest) = word.strip_prefix("http://") else { return word.to_owned() };
    let (host, path) = rest.split_at(rest.find([':', '/']).unwrap_or(rest.len()));
    let mut labels: Vec<&str> = host.split('.').collect();
    if let Some(label) = labels.get_mut(1)
        && let Some(real) = names.get(*label)
    {
        *label = real;
    }
    format!("http://{}{path}", labels.join("."))
}
