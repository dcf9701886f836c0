#!/usr/bin/env bash
# Makes the cluster's own network, mounts and processes into a place where a node can live. Runs
# inside them, once, before any component.
set -euo pipefail
# shellcheck source=tests/cluster/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# --- mounts: none of them is visible outside, and all go with the namespace ---

# kubelet wants mounts of pods to be seen in its own namespace, and this one is private to it.
mount --make-rshared /
# What node programs keep at fixed places, kept apart from the machine's own. What the machine had
# mounted below /run is taken off first: kubelet would look for its disk in a place that is hidden.
awk '$5 ~ "^/run(/|$)" { print $5 }' /proc/self/mountinfo | sort -r | while read -r mount; do umount --lazy "$mount"; done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock
for folder in /var/log /var/lib/kubelet /var/lib/containerd /var/lib/cni; do
  mkdir -p "$folder" "$STATE/node$folder"
  mount --bind "$STATE/node$folder" "$folder"
done
# kubelet sets these for the whole machine (what happens on a panic, say). It may have its way with
# copies that already say what it wants.
while read -r setting value; do
  mkdir -p "$STATE/node/sysctl/$(dirname "$setting")"
  echo "$value" >"$STATE/node/sysctl/$setting"
  mount --bind "$STATE/node/sysctl/$setting" "/proc/sys/$setting"
done <<'END'
kernel/keys/root_maxbytes 25000000
kernel/keys/root_maxkeys 1000000
kernel/panic 10
kernel/panic_on_oops 1
vm/overcommit_memory 1
vm/panic_on_oom 0
END

# The machine's name server is out of reach. The cluster's own refuses foreign names at once, so that
# pulling an image that is not there fails in no time. Where the file is a link, its end is replaced.
resolver="$(readlink -m /etc/resolv.conf)"
mkdir -p "$(dirname "$resolver")"
[ -e "$resolver" ] || touch "$resolver"
echo "nameserver $NODE4" >"$STATE/node/resolv.conf"
mount --bind "$STATE/node/resolv.conf" "$resolver"

# --- cgroups: kubelet's pods go below one of our own ---

for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*; do
  if [ -w "$hierarchy/cgroup.procs" ] && [ ! -L "$hierarchy" ]; then
    # On cgroup v2 only the root is a hierarchy; its children are ordinary groups.
    if [ "$hierarchy" = /sys/fs/cgroup ] || [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
      mkdir -p "$hierarchy/$NAME"
    fi
  fi
done

# --- network: the node's addresses on a bridge that nothing else is plugged into ---

ip link set lo up
ip link add node0 type bridge
ip link set node0 up
ip addr add "$NODE4/24" dev node0
# Service addresses need a route before kube-proxy's rules see them. This one leads nowhere else.
ip route add default via "$NODE4" dev node0 onlink 2>/dev/null || ip route add default dev node0
set_sysctl() { [ ! -e "/proc/sys/net/$1" ] || echo "$2" >"/proc/sys/net/$1"; }
set_sysctl ipv4/ip_forward 1
# Replies between two pods on the same bridge must meet kube-proxy's rules too.
set_sysctl bridge/bridge-nf-call-iptables 1
if [ -e "$STATE/dual-stack" ]; then
  set_sysctl ipv6/conf/all/forwarding 1
  set_sysctl bridge/bridge-nf-call-ip6tables 1
  ip -6 addr add "$NODE6/64" dev node0 nodad
  ip -6 route add default dev node0
fi
