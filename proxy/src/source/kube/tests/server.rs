//! An API server in process: a store with lists in pages, chunked watches and resource versions,
//! that can be away, forget, refuse, and lack kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body::{Body, Frame};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

/// Far more than any test takes, of time that does not have to pass.
pub(super) const PATIENCE: Duration = Duration::from_secs(4 * 3600);

const EXPERIMENTAL: &str = "/apis/gateway.networking.x-k8s.io/v1alpha1";

#[derive(Clone)]
pub(super) struct ApiServer {
    state: Arc<Mutex<State>>,
    /// Counts what happens, so that tests can wait for something to.
    happened: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Value>,
    revision: u64,
    /// The events up to this revision are not known any more.
    forgotten: u64,
    events: Vec<Event>,
    watches: Vec<OpenWatch>,
    requests: Vec<String>,
    /// How many objects have been sent, in lists and as events.
    sent: usize,
    trouble: Trouble,
}

/// What is wrong with the server.
#[derive(Clone, Default)]
pub(super) struct Trouble {
    /// No connection is accepted.
    pub(super) away: bool,
    /// Requests get no answer.
    pub(super) silent: bool,
    /// What is answered 403: `list services`, `watch services`.
    pub(super) forbidden: BTreeSet<&'static str>,
    /// The watches that break as soon as they have begun, by plural.
    pub(super) torn: BTreeSet<&'static str>,
    /// The cluster has the kinds of the experimental channel.
    pub(super) experimental: bool,
    /// What the cluster does not have: `gateway.networking.k8s.io/v1/httproutes`.
    pub(super) missing: BTreeSet<&'static str>,
    /// What is not answered: `list endpointslices of a`.
    pub(super) held: BTreeSet<&'static str>,
    /// The most objects in a page; 0 for what the client asks for.
    pub(super) page: usize,
}

/// Plural, namespace and name.
type Key = (String, String, String);

struct Event {
    revision: u64,
    kind: &'static str,
    plural: String,
    object: Value,
}

struct OpenWatch {
    query: Query,
    sender: mpsc::UnboundedSender<Result<Bytes, io::Error>>,
}

/// What a request selects.
#[derive(Clone, Debug)]
struct Query {
    /// Group, version and plural, as in [`Trouble::missing`].
    resource: String,
    plural: String,
    namespace: Option<String>,
    parameters: BTreeMap<String, String>,
}

/// Bytes to come; [`ApiServer`] hears when nobody wants them any more.
pub(super) struct Chunks {
    receiver: mpsc::UnboundedReceiver<Result<Bytes, io::Error>>,
    happened: watch::Sender<u64>,
}

impl ApiServer {
    pub(super) fn new(objects: impl IntoIterator<Item = Value>) -> Self {
        let server = Self { state: Arc::default(), happened: watch::Sender::new(0) };
        for object in objects {
            server.apply(object);
        }
        server
    }

    /// A client whose requests need no socket.
    pub(super) fn client(&self) -> kube::Client {
        let server = self.clone();
        let answer = move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move { server.answer(request.uri()).await }
        };
        kube::Client::new(tower::service_fn(answer), "default")
    }

    /// Creates or replaces an object.
    pub(super) fn apply(&self, mut object: Value) {
        let key = key(&object);
        let mut state = self.lock();
        state.revision += 1;
        let revision = state.revision;
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        let earlier = state.objects.insert(key.clone(), object.clone());
        let kind = if earlier.is_some() { "MODIFIED" } else { "ADDED" };
        state.send(Event { revision, kind, plural: key.0, object });
        self.happen();
    }

    pub(super) fn delete(&self, object: &Value) {
        let key = key(object);
        let mut state = self.lock();
        let mut object = state.objects.remove(&key).unwrap();
        state.revision += 1;
        let revision = state.revision;
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        state.send(Event { revision, kind: "DELETED", plural: key.0, object });
        self.happen();
    }

    /// Changes an object without a word to those who watch, as if it had been missed.
    pub(super) fn apply_unseen(&self, object: Value) {
        let watches = std::mem::take(&mut self.lock().watches);
        self.apply(object);
        self.lock().watches = watches;
    }

    /// Tells all watches that where they are is too long ago.
    pub(super) fn expire(&self) {
        let mut state = self.lock();
        state.revision += 1;
        state.forgotten = state.revision;
        state.events.clear();
        for watch in std::mem::take(&mut state.watches) {
            let _ = watch.sender.send(Ok(line("ERROR", &status(StatusCode::GONE))));
        }
        self.happen();
    }

    /// A word to all watches that they have missed nothing.
    pub(super) fn bookmark(&self) {
        let state = self.lock();
        let metadata = json!({"resourceVersion": state.revision.to_string()});
        for watch in &state.watches {
            let kind = json!({"apiVersion": "v1", "kind": "Any", "metadata": metadata});
            let _ = watch.sender.send(Ok(line("BOOKMARK", &kind)));
        }
    }

    /// Forgets what has happened so far: only who is up to date can go on from where it is.
    pub(super) fn forget(&self) {
        let mut state = self.lock();
        state.forgotten = state.revision;
        state.events.clear();
    }

    /// Ends all watches properly, as the server does after some minutes.
    pub(super) fn end_watches(&self) {
        self.lock().watches.clear();
        self.happen();
    }

    /// Changes what is wrong with the server. Going away breaks all connections.
    pub(super) fn trouble(&self, change: impl FnOnce(&mut Trouble)) {
        let mut state = self.lock();
        change(&mut state.trouble);
        if state.trouble.away {
            for watch in std::mem::take(&mut state.watches) {
                let _ = watch.sender.send(Err(io::ErrorKind::ConnectionReset.into()));
            }
        }
        self.happen();
    }

    /// The requests so far that begin with something, as in `list services`.
    pub(super) fn requests(&self, begin: &str) -> Vec<String> {
        let state = self.lock();
        state.requests.iter().filter(|request| request.starts_with(begin)).cloned().collect()
    }

    /// How many objects have been sent so far, in lists and as events.
    pub(super) fn sent(&self) -> usize {
        self.lock().sent
    }

    /// What is watched now, sorted.
    pub(super) fn watched(&self) -> Vec<String> {
        let mut state = self.lock();
        state.watches.retain(|watch| !watch.sender.is_closed());
        let mut watched: Vec<String> = state.watches.iter().map(|it| it.query.text()).collect();
        watched.sort();
        watched
    }

    /// Waits until something holds of the server.
    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut happened = self.happened.subscribe();
        let wait = async {
            while !holds(self) {
                happened.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "{what} never came about; watched: {:#?}", self.watched());
    }

    pub(super) async fn answer(&self, uri: &Uri) -> Result<Response<Chunks>, io::Error> {
        if uri.path() == EXPERIMENTAL {
            return self.discover();
        }
        let query = Query::of(uri);
        let verb = if query.parameters.contains_key("watch") { "watch" } else { "list" };
        let request = format!("{verb} {}", query.text());
        let trouble = {
            let mut state = self.lock();
            state.requests.push(request.clone());
            state.trouble.clone()
        };
        self.happen();
        if trouble.away {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        if trouble.silent {
            std::future::pending::<()>().await;
        }
        if trouble.held.contains(request.as_str()) {
            let mut happened = self.happened.subscribe();
            while self.lock().trouble.held.contains(request.as_str()) {
                happened.changed().await.unwrap();
            }
        }
        if trouble.forbidden.contains(format!("{verb} {}", query.plural).as_str()) {
            return Ok(self.failure(StatusCode::FORBIDDEN));
        }
        if trouble.missing.contains(query.resource.as_str()) {
            return Ok(self.failure(StatusCode::NOT_FOUND));
        }
        let mut state = self.lock();
        Ok(match verb {
            "watch" => self.watch(&mut state, query),
            _ => self.json(StatusCode::OK, &state.list(&query)),
        })
    }

    /// Which experimental kinds there are.
    fn discover(&self) -> Result<Response<Chunks>, io::Error> {
        let trouble = self.lock().trouble.clone();
        if trouble.away || trouble.silent {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        if !trouble.experimental {
            return Ok(self.failure(StatusCode::NOT_FOUND));
        }
        let policies = json!({
            "name": "xbackendtrafficpolicies", "singularName": "", "namespaced": true,
            "kind": "XBackendTrafficPolicy", "verbs": ["get", "list", "watch"],
        });
        let group_version = EXPERIMENTAL.trim_start_matches("/apis/");
        let list = json!({
            "apiVersion": "v1", "kind": "APIResourceList", "groupVersion": group_version,
            "resources": [policies],
        });
        Ok(self.json(StatusCode::OK, &list))
    }

    fn watch(&self, state: &mut State, query: Query) -> Response<Chunks> {
        let from: u64 = query.parameters["resourceVersion"].parse().unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        if state.trouble.torn.contains(query.plural.as_str()) {
            let _ = sender.send(Err(io::ErrorKind::ConnectionReset.into()));
        } else if from < state.forgotten {
            let _ = sender.send(Ok(line("ERROR", &status(StatusCode::GONE))));
        } else {
            let later = state.events.iter().filter(|event| event.revision > from);
            let mut sent = 0;
            for event in later.filter(|event| query.selects(&event.plural, &event.object)) {
                let _ = sender.send(Ok(line(event.kind, &event.object)));
                sent += 1;
            }
            state.sent += sent;
            state.watches.push(OpenWatch { query, sender });
        }
        Response::new(Chunks { receiver, happened: self.happened.clone() })
    }

    fn failure(&self, code: StatusCode) -> Response<Chunks> {
        self.json(code, &status(code))
    }

    fn json(&self, code: StatusCode, value: &Value) -> Response<Chunks> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let _ = sender.send(Ok(value.to_string().into()));
        let chunks = Chunks { receiver, happened: self.happened.clone() };
        let response = Response::builder().status(code).header("content-type", "application/json");
        response.body(chunks).unwrap()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn happen(&self) {
        self.happened.send_modify(|count| *count += 1);
    }
}

impl State {
    fn send(&mut self, event: Event) {
        for watch in &self.watches {
            if watch.query.selects(&event.plural, &event.object) {
                let _ = watch.sender.send(Ok(line(event.kind, &event.object)));
                self.sent += 1;
            }
        }
        self.events.push(event);
    }

    fn list(&mut self, query: &Query) -> Value {
        let number = |name: &str| query.parameters.get(name).and_then(|text| text.parse().ok());
        let (skip, limit) =
            (number("continue").unwrap_or(0), number("limit").unwrap_or(usize::MAX));
        let limit = if self.trouble.page == 0 { limit } else { limit.min(self.trouble.page) };
        let selected = self.objects.iter().filter(|(key, object)| query.selects(&key.0, object));
        let mut items: Vec<Value> = selected.map(|(_, object)| object.clone()).skip(skip).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        self.sent += items.len();
        for item in &mut items {
            // As the API server has it: only the list says what its items are.
            item.as_object_mut()
                .unwrap()
                .retain(|field, _| field != "kind" && field != "apiVersion");
        }
        let token = if more { (skip + limit).to_string() } else { String::new() };
        json!({
            "apiVersion": "v1", "kind": "List", "items": items,
            "metadata": {"resourceVersion": self.revision.to_string(), "continue": token},
        })
    }
}

impl Query {
    fn of(uri: &Uri) -> Self {
        let mut parts: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
        if parts[0] == "apis" {
            parts.remove(0);
        }
        let (group, version, rest) = match parts[0] {
            "api" => ("", parts[1], &parts[2..]),
            group => (group, parts[1], &parts[2..]),
        };
        let (namespace, plural) = match rest {
            ["namespaces", namespace, plural] => (Some((*namespace).into()), *plural),
            [plural] => (None, *plural),
            other => panic!("{other:?}"),
        };
        let parameters = uri.query().unwrap_or_default().split('&').filter_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            Some((name.into(), unescape(value)))
        });
        Self {
            resource: format!("{group}/{version}/{plural}"),
            plural: plural.into(),
            namespace,
            parameters: parameters.collect(),
        }
    }

    /// As in `services of default/reviews`, `httproutes of default`, `services at 10.0.0.1`.
    fn text(&self) -> String {
        let plural = &self.plural;
        let value = |name: &str| Some(self.parameters.get(name)?.split_once('=')?.1);
        let namespace = self.namespace.as_deref();
        match (namespace, value("fieldSelector"), value("labelSelector")) {
            (Some(namespace), Some(name), _) | (Some(namespace), None, Some(name)) => {
                format!("{plural} of {namespace}/{name}")
            }
            (Some(namespace), None, None) => format!("{plural} of {namespace}"),
            (None, Some(ip), _) => format!("{plural} at {ip}"),
            (None, None, _) => plural.clone(),
        }
    }

    fn selects(&self, plural: &str, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let fields = |selector: &String| {
            let (field, value) = selector.split_once('=').unwrap();
            object.pointer(&format!("/{}", field.replace('.', "/"))).is_some_and(|it| it == value)
        };
        let labels = |selector: &String| {
            let (label, value) = selector.split_once('=').unwrap();
            metadata["labels"][label] == value
        };
        self.plural == plural
            && self.namespace.as_ref().is_none_or(|namespace| metadata["namespace"] == **namespace)
            && self.parameters.get("fieldSelector").is_none_or(fields)
            && self.parameters.get("labelSelector").is_none_or(labels)
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let chunk = self.receiver.poll_recv(context);
        chunk.map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        self.receiver.close();
        self.happened.send_modify(|count| *count += 1);
    }
}

fn key(object: &Value) -> Key {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&object["kind"]).to_lowercase();
    let plural = kind.strip_suffix('y').map_or_else(|| format!("{kind}s"), |it| format!("{it}ies"));
    (plural, text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}

fn line(kind: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({"type": kind, "object": object})).into()
}

fn status(code: StatusCode) -> Value {
    let reason = code.canonical_reason().unwrap().replace(' ', "");
    json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "metadata": {},
        "message": reason, "reason": reason, "code": code.as_u16(),
    })
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'%' => {
                let hex = std::str::from_utf8(&after[..2]).unwrap();
                bytes.push(u8::from_str_radix(hex, 16).unwrap());
                rest = &after[2..];
            }
            b'+' => (bytes.push(b' '), rest = after).1,
            other => (bytes.push(other), rest = after).1,
        }
    }
    String::from_utf8(bytes).unwrap()
}
