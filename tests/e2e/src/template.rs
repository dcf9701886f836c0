//! The pods that tests talk from and to, all of one image: `weft-echo`, `weft-client`, curl, a shell.

use serde_json::{Map, Value, json};

/// The image of the tests' own pods.
pub fn test_image() -> String {
    std::env::var("WEFT_TEST_IMAGE").unwrap_or_else(|_| "weft.local/weft-test:dev".to_owned())
}

/// Replicas of `weft-echo` behind a Service: HTTP/1, h2c and gRPC on one port.
#[derive(Clone, Debug)]
pub struct Server {
    /// The Service's name and the label `app`.
    pub app: String,
    /// The label `version`, and what the answers call themselves.
    pub version: String,
    /// The Service's port.
    pub port: u16,
    /// The port that the pods listen on.
    pub target_port: u16,
    /// How many.
    pub replicas: u32,
    /// The Service port's `appProtocol`, where it has one.
    pub app_protocol: Option<String>,
    /// More arguments of `weft-echo`.
    pub arguments: Vec<String>,
    /// How long a pod waits before it is told to end.
    pub pre_stop_seconds: Option<u32>,
}

impl Server {
    /// One replica that listens on 8080, behind port 80.
    pub fn new(app: &str, version: &str) -> Server {
        Server {
            app: app.to_owned(),
            version: version.to_owned(),
            port: 80,
            target_port: 8080,
            replicas: 1,
            app_protocol: None,
            arguments: Vec::new(),
            pre_stop_seconds: None,
        }
    }

    /// Behind another port, and listening on another.
    #[must_use]
    pub fn on_port(mut self, port: u16, target_port: u16) -> Server {
        (self.port, self.target_port) = (port, target_port);
        self
    }

    /// So many.
    #[must_use]
    pub fn replicas(mut self, replicas: u32) -> Server {
        self.replicas = replicas;
        self
    }

    /// With an `appProtocol`.
    #[must_use]
    pub fn speaking(mut self, app_protocol: &str) -> Server {
        self.app_protocol = Some(app_protocol.to_owned());
        self
    }

    /// With more arguments of `weft-echo`.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Server {
        self.arguments.extend(arguments.iter().map(|one| (*one).to_owned()));
        self
    }

    /// With a `preStop` hook that waits so long.
    #[must_use]
    pub fn pre_stop(mut self, seconds: u32) -> Server {
        self.pre_stop_seconds = Some(seconds);
        self
    }

    /// The Deployment's name.
    pub fn deployment(&self) -> String {
        format!("{}-{}", self.app, self.version)
    }

    /// The Deployment, and Services for the app and for this version of it.
    pub fn objects(&self) -> Vec<Value> {
        let (app, version) = (&self.app, &self.version);
        vec![
            self.workload(),
            self.service(app, &json!({ "app": app })),
            self.service(&self.deployment(), &json!({ "app": app, "version": version })),
        ]
    }

    /// The Deployment alone.
    pub fn workload(&self) -> Value {
        let labels = json!({ "app": self.app, "version": self.version });
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": self.deployment() },
            "spec": {
                "replicas": self.replicas,
                "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": self.pod_spec() },
            },
        })
    }

    fn pod_spec(&self) -> Value {
        let mut command: Vec<String> = [
            "weft-echo",
            "--service",
            &self.app,
            "--version",
            &self.version,
            "--pod",
            "$(POD)",
            "--namespace",
            "$(NAMESPACE)",
            "--bind",
            "$(ADDRESSES)",
            "--http",
            &self.target_port.to_string(),
        ]
        .map(str::to_owned)
        .into();
        command.extend(self.arguments.iter().cloned());
        let pre_stop = |seconds| json!({ "preStop": { "sleep": { "seconds": seconds } } });
        json!({
            "terminationGracePeriodSeconds": 5 + self.pre_stop_seconds.unwrap_or(0),
            "containers": [{
                "name": "echo",
                "image": test_image(),
                "imagePullPolicy": "IfNotPresent",
                "command": command,
                "lifecycle": self.pre_stop_seconds.map(pre_stop),
                "env": [
                    { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                    {
                        "name": "NAMESPACE",
                        "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } },
                    },
                    { "name": "ADDRESSES", "valueFrom": { "fieldRef": { "fieldPath": "status.podIPs" } } },
                ],
                "ports": [{ "name": "http", "containerPort": self.target_port }],
                "readinessProbe": { "tcpSocket": { "port": self.target_port }, "periodSeconds": 1 },
                "resources": { "requests": { "cpu": "5m", "memory": "8Mi" } },
                "securityContext": restricted(),
            }],
        })
    }

    fn service(&self, name: &str, selector: &Value) -> Value {
        let mut port = json!({ "name": "http", "port": self.port, "targetPort": self.target_port });
        if let Some(app_protocol) = &self.app_protocol {
            port["appProtocol"] = json!(app_protocol);
        }
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name },
            "spec": {
                "selector": selector,
                "ports": [port],
                "ipFamilyPolicy": "PreferDualStack",
            },
        })
    }
}

/// A pod that waits for commands.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Its annotations.
    pub annotations: Vec<(String, String)>,
}

impl Default for Client {
    fn default() -> Client {
        Client::named("client")
    }
}

impl Client {
    /// Without labels and annotations.
    pub fn named(name: &str) -> Client {
        Client { name: name.to_owned(), labels: Vec::new(), annotations: Vec::new() }
    }

    /// With one more label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Client {
        self.labels.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With one more annotation.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Client {
        self.annotations.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The pod, to be changed as a test needs it.
    pub fn object(&self) -> Value {
        let map = |pairs: &[(String, String)]| -> Map<String, Value> {
            pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
        };
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.name,
                "labels": map(&self.labels),
                "annotations": map(&self.annotations),
            },
            "spec": {
                // `sleep` as process 1 does not listen to SIGTERM.
                "terminationGracePeriodSeconds": 1,
                "restartPolicy": "Never",
                "containers": [{
                    "name": "client",
                    "image": test_image(),
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "infinity"],
                    "resources": { "requests": { "cpu": "5m", "memory": "8Mi" } },
                    "securityContext": restricted(),
                }],
            },
        })
    }
}

/// As the restricted pod security standard wants it: with it the tests' pods are admitted anywhere.
fn restricted() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
        "runAsNonRoot": true,
        "runAsUser": 1000,
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}
