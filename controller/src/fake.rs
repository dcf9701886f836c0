//! An API server of a few pages for tests: keeps objects, resource versions, watches and conflicts,
//! and does what a test tells it to do wrong. Nothing in it waits for real time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The collection's path without a namespace, as in `/api/v1/services`.
type Collection = String;

/// Handles share one server.
#[derive(Clone, Default)]
pub(crate) struct FakeApi {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

/// A request that would change something.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) path: String,
    pub(crate) code: u16,
}

#[derive(Default)]
struct State {
    version: u64,
    installed: BTreeSet<Collection>,
    refused: BTreeSet<String>,
    /// By collection, then `namespace/name`.
    objects: BTreeMap<Collection, BTreeMap<String, Value>>,
    watches: Vec<(Collection, mpsc::UnboundedSender<Value>)>,
    writes: Vec<Write>,
    lists: BTreeMap<Collection, u32>,
    /// Happens to the object before the next PUT on it is answered: somebody else's write.
    interference: VecDeque<Value>,
    /// Codes that the next PUTs are answered with.
    failures: VecDeque<u16>,
    unreachable: bool,
}

pub(crate) const SERVICES: &str = "/api/v1/services";
pub(crate) const PODS: &str = "/api/v1/pods";
pub(crate) const NAMESPACES: &str = "/api/v1/namespaces";
pub(crate) const EVENTS: &str = "/api/v1/events";
pub(crate) const HTTP_ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/httproutes";
pub(crate) const GRPC_ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/grpcroutes";
pub(crate) const TLS_ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/tlsroutes";
pub(crate) const TCP_ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/tcproutes";
/// Where a cluster has them whose Gateway API is older.
pub(crate) const TCP_ROUTES_ALPHA: &str = "/apis/gateway.networking.k8s.io/v1alpha2/tcproutes";
pub(crate) const GRANTS: &str = "/apis/gateway.networking.k8s.io/v1/referencegrants";
pub(crate) const POLICIES: &str =
    "/apis/gateway.networking.x-k8s.io/v1alpha1/xbackendtrafficpolicies";
pub(crate) const MESHES: &str = "/apis/gateway.networking.x-k8s.io/v1alpha1/xmeshes";
pub(crate) const LEASES: &str = "/apis/coordination.k8s.io/v1/leases";
pub(crate) const CLUSTER_ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";

impl FakeApi {
    /// A cluster with the kinds of Kubernetes, and HTTPRoutes, GRPCRoutes and ReferenceGrants.
    pub(crate) fn new() -> FakeApi {
        let api = FakeApi::default();
        let gateway = [HTTP_ROUTES, GRPC_ROUTES, GRANTS];
        let core = [SERVICES, PODS, NAMESPACES, EVENTS, LEASES, CLUSTER_ROLES];
        for collection in gateway.into_iter().chain(core) {
            api.install(collection);
        }
        api
    }

    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                api.answer(&parts.method, &parts.uri, &body)
            }
        });
        Client::new(service, "default")
    }

    /// The kind is served from now on.
    pub(crate) fn install(&self, collection: &str) {
        self.lock().installed.insert(collection.to_owned());
    }

    /// The kind and its objects are gone, as with the deletion of a CRD.
    pub(crate) fn uninstall(&self, collection: &str) {
        let keys: Vec<String> = self
            .lock()
            .objects
            .get(collection)
            .into_iter()
            .flatten()
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.delete(collection, &key);
        }
        let mut state = self.lock();
        state.installed.remove(collection);
        state.watches.retain(|(watched, _)| watched != collection);
    }

    /// Requests whose path contains this are answered with 403 from now on.
    pub(crate) fn refuse(&self, part: &str) {
        self.lock().refused.insert(part.to_owned());
    }

    pub(crate) fn permit(&self, part: &str) {
        self.lock().refused.remove(part);
    }

    /// The next PUT is answered with this code.
    pub(crate) fn fail_next_put(&self, code: u16) {
        self.lock().failures.push_back(code);
    }

    /// This object, whole, is written by somebody else just before the next PUT of a status.
    pub(crate) fn interfere(&self, object: Value) {
        self.lock().interference.push_back(object);
    }

    /// No request is answered while this is set.
    pub(crate) fn set_unreachable(&self, unreachable: bool) {
        self.lock().unreachable = unreachable;
    }

    /// Ends all watches, as an API server does from time to time.
    pub(crate) fn end_watches(&self) {
        self.lock().watches.clear();
    }

    /// Creates or replaces an object, status included, and gives it a uid and a generation.
    pub(crate) fn put(&self, collection: &str, object: Value) {
        self.lock().store(collection, object);
        self.changed.notify_waiters();
    }

    pub(crate) fn delete(&self, collection: &str, key: &str) {
        self.lock().delete(collection, key);
        self.changed.notify_waiters();
    }

    /// An object by `namespace/name`, or by its name if it has no namespace.
    pub(crate) fn get(&self, collection: &str, key: &str) -> Option<Value> {
        self.lock().objects.get(collection)?.get(key).cloned()
    }

    pub(crate) fn all(&self, collection: &str) -> Vec<Value> {
        self.lock()
            .objects
            .get(collection)
            .into_iter()
            .flatten()
            .map(|(_, it)| it.clone())
            .collect()
    }

    /// What was asked to be changed by requests, refused ones included.
    pub(crate) fn writes(&self) -> Vec<Write> {
        self.lock().writes.clone()
    }

    /// The same, of one kind.
    pub(crate) fn writes_to(&self, part: &str) -> Vec<Write> {
        self.writes().into_iter().filter(|write| write.path.contains(part)).collect()
    }

    pub(crate) fn lists(&self, collection: &str) -> u32 {
        self.lock().lists.get(collection).copied().unwrap_or_default()
    }

    /// Waits until the condition holds; looks again after every request and change.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        mut find: impl FnMut(&FakeApi) -> Option<T>,
    ) -> T {
        let look = async {
            loop {
                let changed = self.changed.notified();
                if let Some(found) = find(self) {
                    return found;
                }
                changed.await;
            }
        };
        // Of paused time.
        match tokio::time::timeout(Duration::from_secs(300), look).await {
            Ok(found) => found,
            Err(_) => panic!("never happened: {what}\nwrites: {:#?}", self.writes()),
        }
    }

    /// Lets everything that is under way come to its end: time is paused, so that it moves on only
    /// when nobody has anything to do.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with the lock")
    }

    fn answer(
        &self,
        method: &Method,
        uri: &http::Uri,
        body: &[u8],
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let mut state = self.lock();
        if state.unreachable {
            return Err("connection refused".into());
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let target = Target::parse(uri.path());
        let answer = state.answer(method, &target, uri, &body);
        if method != Method::GET {
            let (path, code) = (uri.path().to_owned(), answer.status().as_u16());
            state.writes.push(Write { path, code });
        }
        drop(state);
        self.changed.notify_waiters();
        Ok(answer)
    }
}

/// What a path names.
struct Target {
    collection: Collection,
    namespace: Option<String>,
    name: Option<String>,
    is_status: bool,
}

impl Target {
    fn parse(path: &str) -> Target {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let group = if parts[0] == "api" { 2 } else { 3 };
        let (group, mut rest) = parts.split_at(group);
        let mut namespace = None;
        if rest.len() > 2 && rest[0] == "namespaces" {
            namespace = Some(rest[1].to_owned());
            rest = &rest[2..];
        }
        Target {
            collection: format!("/{}/{}", group.join("/"), rest[0]),
            namespace,
            name: rest.get(1).map(|name| (*name).to_owned()),
            is_status: rest.get(2) == Some(&"status"),
        }
    }

    fn key(&self) -> String {
        let name = self.name.clone().unwrap_or_default();
        self.namespace.as_ref().map_or(name.clone(), |namespace| format!("{namespace}/{name}"))
    }
}

impl State {
    fn answer(
        &mut self,
        method: &Method,
        target: &Target,
        uri: &http::Uri,
        body: &Value,
    ) -> Answer {
        if self.refused.iter().any(|part| uri.path().contains(part)) {
            return status(403, "Forbidden");
        }
        if !self.installed.contains(&target.collection) {
            return status(404, "NotFound");
        }
        let query = uri.query().unwrap_or_default();
        match (method, &target.name) {
            (&Method::GET, None) if query.contains("watch=true") => self.watch(target),
            (&Method::GET, None) => self.list(target, query),
            (&Method::GET, Some(_)) => match self.find(target) {
                Some(object) => json_answer(200, object),
                None => status(404, "NotFound"),
            },
            (&Method::POST, None) => self.create(target, body),
            (&Method::PUT, Some(_)) => self.replace(target, body),
            _ => status(405, "MethodNotAllowed"),
        }
    }

    fn find(&self, target: &Target) -> Option<&Value> {
        self.objects.get(&target.collection)?.get(&target.key())
    }

    fn list(&mut self, target: &Target, query: &str) -> Answer {
        *self.lists.entry(target.collection.clone()).or_default() += 1;
        let label = query.split('&').find_map(|part| part.strip_prefix("labelSelector="));
        let label = label.and_then(|label| label.split_once("%3D"));
        let objects = self.objects.get(&target.collection).into_iter().flatten();
        let items: Vec<Value> = objects
            .map(|(_, object)| object)
            .filter(|object| {
                let namespace = object["metadata"]["namespace"].as_str();
                target.namespace.is_none() || target.namespace.as_deref() == namespace
            })
            .filter(|object| {
                label.is_none_or(|(key, value)| object["metadata"]["labels"][key] == value)
            })
            .map(|object| {
                // Lists of built-in kinds do not repeat what their items are.
                let mut object = object.clone();
                if target.collection.starts_with("/api/v1") {
                    object.as_object_mut().expect("object").remove("kind");
                    object.as_object_mut().expect("object").remove("apiVersion");
                }
                object
            })
            .collect();
        let version = self.version.to_string();
        let list = json!({
            "kind": "List",
            "apiVersion": "v1",
            "metadata": { "resourceVersion": version },
            "items": items,
        });
        json_answer(200, &list)
    }

    /// A watch from the newest version: a test's objects do not change between list and watch.
    fn watch(&mut self, target: &Target) -> Answer {
        let (sender, receiver) = mpsc::unbounded_channel::<Value>();
        self.watches.push((target.collection.clone(), sender));
        let events = futures_util::stream::unfold(receiver, |mut receiver| async {
            let event = receiver.recv().await?;
            Some((event, receiver))
        });
        let frames = events.map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }

    fn create(&mut self, target: &Target, body: &Value) -> Answer {
        let mut object = body.clone();
        if let Some(namespace) = &target.namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        let key = key_of(&object);
        if self.objects.get(&target.collection).is_some_and(|it| it.contains_key(&key)) {
            return status(409, "AlreadyExists");
        }
        let object = self.store(&target.collection, object);
        json_answer(201, &object)
    }

    fn replace(&mut self, target: &Target, body: &Value) -> Answer {
        if let Some(code) = self.failures.pop_front() {
            return status(code, "Failed");
        }
        let interference = target.is_status.then(|| self.interference.pop_front());
        if let Some(object) = interference.flatten() {
            self.store(&target.collection, object);
        }
        let Some(old) = self.find(target).cloned() else { return status(404, "NotFound") };
        if body["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
            return status(409, "Conflict");
        }
        let mut object = old;
        match target.is_status {
            true => object["status"] = body["status"].clone(),
            false => object["spec"] = body["spec"].clone(),
        }
        let object = self.store(&target.collection, object);
        json_answer(200, &object)
    }

    fn store(&mut self, collection: &str, mut object: Value) -> Value {
        self.version += 1;
        let key = key_of(&object);
        let known = self.objects.get(collection).and_then(|objects| objects.get(&key)).cloned();
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(self.version.to_string());
        if metadata["uid"].is_null() {
            let new = json!(format!("uid-{}", self.version));
            metadata["uid"] = known.as_ref().map_or(new, |it| it["metadata"]["uid"].clone());
        }
        if metadata["generation"].is_null() {
            metadata["generation"] = json!(1);
        }
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let kind = if known.is_some() { "MODIFIED" } else { "ADDED" };
        self.objects.entry(collection.to_owned()).or_default().insert(key, object.clone());
        self.tell(collection, kind, &object);
        object
    }

    fn delete(&mut self, collection: &str, key: &str) {
        let Some(mut object) = self.objects.get_mut(collection).and_then(|it| it.remove(key))
        else {
            return;
        };
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.tell(collection, "DELETED", &object);
    }

    fn tell(&mut self, collection: &str, kind: &str, object: &Value) {
        let event = json!({ "type": kind, "object": object });
        self.watches.retain(|(watched, sender)| {
            watched != collection || sender.send(event.clone()).is_ok()
        });
    }
}

fn key_of(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str().expect("a name");
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

fn status(code: u16, reason: &str) -> Answer {
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": reason,
    });
    json_answer(code, &status)
}

fn json_answer(code: u16, body: &Value) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).expect("a status code");
    response
}
