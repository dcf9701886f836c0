//! The objects that the parts need: a Service for a pod, and nothing else.

/// A Service named `name` at 10.96.1.`number` for the pods of that label `app`, with one port 80.
pub(crate) fn service(name: &str, number: u8, app_protocol: &str, target_port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: default\nspec:\n  \
         clusterIP: 10.96.1.{number}\n  clusterIPs:\n  - 10.96.1.{number}\n  ports:\n  \
         - name: web\n    port: 80\n    protocol: TCP\n    targetPort: {target_port}\n    \
         appProtocol: {app_protocol}\n  selector:\n    app: {name}\n  type: ClusterIP\n---\n"
    )
}
