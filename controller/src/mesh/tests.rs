//! Scenarios with one XMesh or another.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::*;
use crate::fake::{CLUSTER_ROLES, FakeApi, MESHES};
use crate::watch::Watches;

fn start(api: &FakeApi, owner: Option<&str>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let (metrics, permissions) = (Metrics::new(), Arc::new(Permissions::default()));
    let (sender, updates) = mpsc::channel(16);
    let watches = Watches {
        client: api.client(),
        metrics: metrics.clone(),
        permissions: permissions.clone(),
    };
    tasks.spawn(async move { watches.run(&MESH, sender).await });
    let keeper = MeshKeeper {
        client: api.client(),
        tenure: Tenure::endless(),
        permissions,
        metrics,
        name: "weft".to_owned(),
        owner: owner.map(str::to_owned),
        features: vec!["GRPCRoute", "HTTPRoute", "Mesh"],
    };
    tasks.spawn(keeper.run(updates));
    tasks
}

fn cluster() -> FakeApi {
    let api = FakeApi::new();
    api.install(MESHES);
    api
}

fn cluster_role() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": { "name": "weft-controller", "uid": "role-uid" },
        "rules": [],
    })
}

fn xmesh(name: &str, controller: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1",
        "kind": "XMesh",
        "metadata": { "name": name },
        "spec": { "controllerName": controller },
        "status": { "conditions": [{
            "type": "Accepted", "status": "Unknown", "reason": "Pending",
            "message": "Waiting for controller", "lastTransitionTime": "1970-01-01T00:00:00Z",
        }] },
    })
}

async fn accepted(api: &FakeApi, name: &str) -> Value {
    api.until("the XMesh is accepted or not", |api| {
        let conditions = api.get(MESHES, name)?["status"]["conditions"].clone();
        let condition = conditions.as_array()?.iter().find(|it| it["type"] == "Accepted")?.clone();
        (condition["status"] != "Unknown").then_some(condition)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn it_is_created_with_a_status_whose_features_are_sorted() {
    let api = cluster();
    let _tasks = start(&api, None);
    let condition = accepted(&api, "weft").await;
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("True"), &json!("Accepted")));
    let object = api.get(MESHES, "weft").expect("the XMesh");
    assert_eq!(object["spec"], json!({ "controllerName": CONTROLLER_NAME }));
    let features = json!([{ "name": "GRPCRoute" }, { "name": "HTTPRoute" }, { "name": "Mesh" }]);
    assert_eq!(object["status"]["supportedFeatures"], features);
    assert_eq!(object["metadata"]["ownerReferences"], Value::Null);
    api.settle().await;
    assert_eq!(api.writes().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn it_belongs_to_the_cluster_role() {
    let api = cluster();
    api.put(CLUSTER_ROLES, cluster_role());
    let _tasks = start(&api, Some("weft-controller"));
    accepted(&api, "weft").await;
    let owner = &api.get(MESHES, "weft").expect("the XMesh")["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["uid"]), (&json!("ClusterRole"), &json!("role-uid")));
}

#[tokio::test(start_paused = true)]
async fn without_its_cluster_role_it_is_not_created() {
    let api = cluster();
    let _tasks = start(&api, Some("weft-controller"));
    api.settle().await;
    assert_eq!(api.writes().len(), 0, "Weft is being uninstalled");
    api.put(CLUSTER_ROLES, cluster_role());
    accepted(&api, "weft").await;
}

#[tokio::test(start_paused = true)]
async fn it_comes_when_its_kind_is_installed_and_again_when_it_is_deleted() {
    let api = FakeApi::new();
    let _tasks = start(&api, None);
    api.settle().await;
    assert_eq!(api.writes().len(), 0);
    api.install(MESHES);
    accepted(&api, "weft").await;
    api.delete(MESHES, "weft");
    accepted(&api, "weft").await;
}

#[tokio::test(start_paused = true)]
async fn one_of_another_controller_is_left_alone() {
    let api = cluster();
    api.put(MESHES, xmesh("weft", "example.com/mesh"));
    let _tasks = start(&api, None);
    api.settle().await;
    assert_eq!(api.writes().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_a_person_made_gets_a_status_and_keeps_its_spec() {
    let api = cluster();
    let mut object = xmesh("mine", CONTROLLER_NAME);
    object["spec"]["description"] = json!("ours");
    object["status"]["conditions"][0]["observedGeneration"] = json!(1);
    api.put(MESHES, object.clone());
    let _tasks = start(&api, None);
    assert_eq!(accepted(&api, "mine").await["status"], "True");
    assert_eq!(api.get(MESHES, "mine").expect("the XMesh")["spec"], object["spec"]);
    accepted(&api, "weft").await;
}

#[tokio::test(start_paused = true)]
async fn parameters_are_refused() {
    let api = cluster();
    let mut object = xmesh("weft", CONTROLLER_NAME);
    object["spec"]["parametersRef"] = json!({ "group": "", "kind": "ConfigMap", "name": "a" });
    api.put(MESHES, object);
    let _tasks = start(&api, None);
    let condition = accepted(&api, "weft").await;
    assert_eq!(condition["status"], "False");
    assert_eq!(condition["reason"], "InvalidParameters");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again() {
    let api = cluster();
    api.fail_next_put(500);
    let _tasks = start(&api, None);
    accepted(&api, "weft").await;
    assert_eq!(api.writes().iter().filter(|write| write.code == 500).count(), 1);
}
