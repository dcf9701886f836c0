#!/usr/bin/env bash
# Makes sure that the machine has what the cluster uses: installs it as root on Debian and Ubuntu,
# else prints the command.
set -euo pipefail
# shellcheck source=tests/cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# program or file that must be there, and the package that brings it
wanted='
containerd             containerd
ctr                    containerd
runc                   runc
/usr/lib/cni/bridge    containernetworking-plugins
iptables-nft-save      iptables
ip                     iproute2
conntrack              conntrack
nsenter                util-linux
flock                  util-linux
openssl                openssl
ldd                    libc-bin
cc                     gcc
/usr/include/stdlib.h  libc6-dev
python3                python3
'

missing=()
while read -r thing package; do
  [ -n "$thing" ] || continue
  [ -e "$thing" ] || PATH="$PATH:/usr/sbin:/sbin" type -P "$thing" >/dev/null || missing+=("$package")
done <<<"$wanted"
python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
[ ${#missing[@]} -gt 0 ] || exit 0

mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
install="apt-get install --yes --no-install-recommends ${missing[*]}"
if [ "$(id -u)" != 0 ] || ! type -P apt-get >/dev/null; then
  die "missing on this machine: ${missing[*]}" "as root: apt-get update && $install"
fi

say "installing Debian packages: ${missing[*]}"
log="$(mktemp)"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of words
{ apt-get update && $install; } >"$log" 2>&1 || {
  tail -n 20 "$log" >&2
  die "the packages could not be installed (log: $log)" "as root: apt-get update && $install"
}
rm -f "$log"
