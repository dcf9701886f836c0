#!/usr/bin/env bash
# Makes container images without Docker and without a registry, and gives them to the cluster:
#   images.sh suite    the images that Kubernetes and the conformance suite use
#   images.sh weft     Weft's own, weft.local/NAME:dev, from this checkout (WEFT_IMAGES: which)
#   images.sh test     weft.local/weft-test:dev: what the pods of the end-to-end tests run
#   images.sh import   imports into the running cluster whatever it does not have yet
#
# An image is an archive under .cache/images whose name holds a hash of what went in.
set -euo pipefail
# shellcheck source=tests/cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
IMAGES="$CACHE/images"

# hash_of FILES...: of their contents
hash_of() { cat "$@" | sha256sum | cut -c1-12; }

# archive IMAGE HASH USER FILL ENTRYPOINT...: an archive of the folder that FILL, a function, fills
archive() {
  local image="$1" hash="$2" user="$3" fill="$4" short out folder
  shift 4
  short="$(basename "${image%:*}")"
  out="$IMAGES/$short-$hash.tar"
  [ -e "$out" ] && return
  mkdir -p "$IMAGES"
  folder="$(mktemp -d)"
  chmod 755 "$folder"
  "$fill" "$folder" "$short"
  "$HERE/archive.py" "$out.part" "$image" "$folder" "$user" "$@"
  rm -rf "$folder" "$IMAGES/$short"-*.tar # an older one of the same name is of no use any more
  mv "$out.part" "$out"
  say "image $image: $(du -h "$out" | cut -f1)"
}

fill_pause() { install -D "$(tools kubernetes)/pause" "$1/pause"; }

fill_echo() {
  install -D -t "$1/usr/local/bin" "$(tools echo)/server" "$(tools echo)/client"
  # The suite's arguments for its echo server name these files.
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=echo \
    -addext subjectAltName=DNS:echo -keyout "$1/cert.key" -out "$1/cert.crt" 2>/dev/null
  chmod 644 "$1/cert.key"
}

fill_weft() {
  local with=
  [ "$2" != weft-init ] || with=iptables
  "$ROOT/images/rootfs.sh" "$1" "$binaries/$2" $with
}

# What the tests' pods run besides the tests' own programs.
test_tools=(cat curl kill sh sleep wc)
fill_test() {
  local program
  for program in "$binaries"/weft-{echo,client} "${test_tools[@]}"; do
    "$ROOT/images/rootfs.sh" "$1" "$(type -P "$program")"
  done
}

suite() {
  archive registry.k8s.io/pause:3.6 "$(hash_of "$(tools kubernetes)/pause" "$HERE/archive.py")" \
    65535 fill_pause /pause
  archive registry.k8s.io/gateway-api/conformance/echo-advanced:v0.1.0 \
    "$(hash_of "$(tools echo)"/{server,client} "$HERE"/{archive.py,images.sh})" \
    1338 fill_echo /usr/local/bin/server
}

# build PACKAGES...: compiles them; their programs are in $binaries
build() {
  binaries="$(cargo metadata --format-version 1 --no-deps --manifest-path "$ROOT/Cargo.toml" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/demo"
  say "building $* ..."
  # shellcheck disable=SC2046 # a list of words
  cargo build --manifest-path "$ROOT/Cargo.toml" --profile demo $(printf -- '--package %s ' "$@") ||
    die "Weft does not compile (see above)." "make build"
}

weft() {
  local programs program user
  read -ra programs <<<"${WEFT_IMAGES:-weft-proxy weft-init weft-injector weft-controller}"
  build "${programs[@]}"
  for program in "${programs[@]}"; do
    user=65101:65101
    [ "$program" != weft-init ] || user=0:0 # it writes the pod's redirect rules
    archive "weft.local/$program:dev" "$(hash_of "$binaries/$program" "$ROOT/images/rootfs.sh" "$HERE/archive.py")" \
      "$user" fill_weft "/usr/bin/$program"
  done
}

tests() {
  build weft-tests
  archive weft.local/weft-test:dev \
    "$(hash_of "$binaries"/weft-{echo,client} "$ROOT/images/rootfs.sh" "$HERE"/{archive.py,images.sh})" \
    1000:1000 fill_test /usr/bin/sleep infinity
}

import() {
  local tar stamp
  mkdir -p "$STATE/imported"
  for tar in "$IMAGES"/*.tar; do
    stamp="$STATE/imported/$(basename "$tar" .tar)"
    [ -e "$stamp" ] && continue
    inside ctr --namespace k8s.io images import "$tar" >/dev/null
    touch "$stamp"
  done
}

case "${1:-}" in
  suite) suite ;;
  weft) weft ;;
  test) tests ;;
  import) import ;;
  *) die "images.sh: which?" "images.sh suite | weft | test | import" ;;
esac
