#!/usr/bin/env bash
# Writes go.mod and go.sum of this folder for one Kubernetes version: ./regenerate.sh 1.34.4
#
# k8s.io/kubernetes replaces its own libraries with ./staging/… folders, which a module that depends
# on it cannot see. Each of them is published as k8s.io/NAME v0.x.y, and go.mod has to say so.
# Both files are committed, so this is run only to change the version.
set -euo pipefail
cd "$(dirname "$0")"

version="${1:?usage: regenerate.sh VERSION, for example 1.34.4}"
libraries="v0.${version#1.}"

module="$(go mod download -json "k8s.io/kubernetes@v$version")"
their_mod="$(sed -n 's/^\s*"GoMod": "\(.*\)",$/\1/p' <<<"$module")"

{
  cat <<END
// Written by regenerate.sh. The programs of a Kubernetes cluster, as tools of this module.
module weft.local/cluster/kubernetes

$(grep -E '^go [0-9.]+$' "$their_mod")

tool (
	go.etcd.io/etcd/server/v3
	k8s.io/kubernetes/cmd/kube-apiserver
	k8s.io/kubernetes/cmd/kube-controller-manager
	k8s.io/kubernetes/cmd/kube-proxy
	k8s.io/kubernetes/cmd/kube-scheduler
	k8s.io/kubernetes/cmd/kubectl
	k8s.io/kubernetes/cmd/kubelet
)

require k8s.io/kubernetes v$version

replace (
END
  sed -n "s|^\s*\(k8s.io/[a-z0-9-]*\) => ./staging/.*|\t\1 => \1 $libraries|p" "$their_mod"
  echo ')'
} >go.mod

go mod tidy
