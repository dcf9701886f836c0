//! Where it all happens: a Service whose pods always leave in order, one whose pods are killed, and a
//! client pod with the sidecar that is looked at.

use std::sync::Arc;

use anyhow::Result;
use weft_tests::lab::{Backend, Client, ClientOptions, Lab, Workload};

/// A place for a pod: its address stays, the pods at it come and go.
pub(crate) struct Place {
    pub(crate) workload: Workload,
    pub(crate) backend: Backend,
}

/// All pods behind Services.
pub(crate) struct Pods {
    /// Of the Services `steady`, `steady-v1` and `steady-v2`: two of each version.
    pub(crate) steady: Vec<Place>,
    /// Of the Service `fragile`.
    pub(crate) fragile: Vec<Place>,
}

impl Pods {
    pub(crate) fn len(&self) -> usize {
        self.steady.len() + self.fragile.len()
    }
}

/// Lays it, with the sidecar ready and nothing sent yet.
pub(crate) fn lay(lab: &Lab) -> Result<(Pods, Arc<Client>)> {
    lab.apply(
        &[
            service("steady", "10.96.1.1", "app: steady"),
            service("steady-v1", "10.96.1.2", "app: steady\n    version: v1"),
            service("steady-v2", "10.96.1.3", "app: steady\n    version: v2"),
            service("fragile", "10.96.1.4", "app: fragile"),
        ]
        .concat(),
    )?;
    let pod = |app, version| Workload::new(app, version, "default").draining(30);
    let steady = ["v1", "v2", "v1", "v2"].map(|version| pod("steady", version));
    let fragile = ["v1", "v1", "v1"].map(|version| pod("fragile", version));
    // Idle connections are closed soon, so that the end need not be waited for long.
    let options = ClientOptions::proxy(&["--pool-idle-seconds", "5"]);
    let pods = Pods { steady: places(lab, &steady)?, fragile: places(lab, &fragile)? };
    Ok((pods, lab.client_with("default", &options)?))
}

fn places(lab: &Lab, workloads: &[Workload]) -> Result<Vec<Place>> {
    let backends = lab.backends(workloads)?;
    let places = workloads.iter().cloned().zip(backends);
    Ok(places.map(|(workload, backend)| Place { workload, backend }).collect())
}

/// A Service with a port for each protocol.
pub(crate) fn service(name: &str, address: &str, selector: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: default\nspec:\n  \
         clusterIP: {address}\n  clusterIPs:\n  - {address}\n  ports:\n  - name: http\n    port: 80\n    \
         targetPort: http\n  - name: h2c\n    port: 8000\n    targetPort: http\n    appProtocol: \
         kubernetes.io/h2c\n  - name: grpc\n    port: 7070\n    targetPort: grpc\n  - name: tcp-echo\n    \
         port: 7\n    targetPort: tcp-echo\n  selector:\n    {selector}\n---\n"
    )
}
