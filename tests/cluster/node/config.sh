#!/usr/bin/env bash
# Writes the keys, certificates and configuration files of a new cluster into .cache/cluster.
#
# One administrator's certificate serves every component: this cluster is there to test Weft, not
# Kubernetes. Pods have their own ServiceAccounts and RBAC holds for them as anywhere.
set -euo pipefail
# shellcheck source=tests/cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

mkdir -p "$STATE"/{pki,config,cni}
cd "$STATE/pki"

# certificate NAME SUBJECT SUBJECT-ALTERNATIVE-NAMES
certificate() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -subj "$2" |
    openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -out "$1.crt" \
      -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$3")
}

{
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=$NAME" \
    -keyout ca.key -out ca.crt \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature
  openssl genrsa -out service-accounts.key 2048
  openssl rsa -in service-accounts.key -pubout -out service-accounts.pub
  kubernetes=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local
  certificate apiserver /CN=kube-apiserver "$kubernetes,IP:$API4,IP:$NODE4,IP:$NODE6,IP:127.0.0.1"
  certificate admin /O=system:masters/CN=admin DNS:admin
  certificate kubelet "/O=system:nodes/CN=system:node:node" "DNS:node,IP:$NODE4,IP:$NODE6"
} 2>openssl.log || die "openssl could not make the certificates: $(tail -n 3 openssl.log)"

cat >"$STATE/kubeconfig" <<END
apiVersion: v1
kind: Config
clusters:
  - name: $NAME
    cluster:
      server: https://$NODE4:6443
      certificate-authority-data: $(base64 -w0 ca.crt)
users:
  - name: admin
    user:
      client-certificate-data: $(base64 -w0 admin.crt)
      client-key-data: $(base64 -w0 admin.key)
contexts:
  - name: $NAME
    context: {cluster: $NAME, user: admin}
current-context: $NAME
END
chmod 600 "$STATE/kubeconfig"

# overlayfs cannot have an overlayfs as its upper layer, as in some containers.
snapshotter=overlayfs
[ "$(stat -f -c %T "$STATE")" != overlayfs ] || snapshotter=native

# restrict_oom_score_adj: without it sandboxes fail where root lacks CAP_SYS_RESOURCE.
cat >"$STATE/config/containerd.toml" <<END
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "registry.k8s.io/pause:3.6"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$STATE/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$snapshotter"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
END

# No masquerading: without an uplink there is nobody to hide the pods' addresses from.
ranges="[{\"subnet\": \"$PODS4\"}]" routes='{"dst": "0.0.0.0/0"}'
if [ -e "$STATE/dual-stack" ]; then
  ranges+=", [{\"subnet\": \"$PODS6\"}]"
  routes+=', {"dst": "::/0"}'
fi
cat >"$STATE/cni/10-bridge.conflist" <<END
{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [
    {
      "type": "bridge", "bridge": "pods0", "isGateway": true, "hairpinMode": true,
      "ipam": {"type": "host-local", "ranges": [$ranges], "routes": [$routes], "dataDir": "$STATE/cni/addresses"}
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
END

cat >"$STATE/config/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE4
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $STATE/pki/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: $STATE/pki/kubelet.crt
tlsPrivateKeyFile: $STATE/pki/kubelet.key
clusterDNS: [$DNS4]
clusterDomain: cluster.local
resolvConf: ""
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$NAME
failCgroupV1: false
failSwapOn: false
# Never remove an image to make room: there is no registry to bring it back.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: "1%", imagefs.available: "1%"}
# A test waits for pods; the default of 5 image pulls or starts a second would make it wait longer.
registryPullQPS: 0
kubeAPIQPS: 100
kubeAPIBurst: 200
maxPods: 250
END

cat >"$STATE/config/kube-proxy.yaml" <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $STATE/kubeconfig}
mode: iptables
hostnameOverride: node
clusterCIDR: $PODS4$([ ! -e "$STATE/dual-stack" ] || echo ",$PODS6")
# Zero: leave the machine's own limits alone.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
END

cat >"$STATE/config/Corefile" <<END
.:53 {
  bind $NODE4
  errors
  ready $NODE4:8181
  kubernetes cluster.local in-addr.arpa ip6.arpa {
    kubeconfig "$STATE/kubeconfig" $NAME
    pods insecure
  }
  cache 5
}
END
