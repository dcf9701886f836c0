#!/usr/bin/env bash
# Fills a folder with what an image holds: rootfs.sh FOLDER PROGRAM [iptables]
#
# PROGRAM goes to /usr/bin, with the shared libraries that it is linked with and nothing else: no
# shell, no package manager. With "iptables" also Debian's iptables, both engines (nf_tables and
# legacy) and both families, as weft-init calls them. Of each of Debian's packages that a file is of, the
# entry of dpkg's database comes along, where scanners for vulnerabilities look. The Dockerfiles beside this script and the
# tests' own images are made by it, so what is tested is what is published.
set -euo pipefail

root="${1:?usage: rootfs.sh FOLDER PROGRAM [iptables]}"
program="${2:?usage: rootfs.sh FOLDER PROGRAM [iptables]}"

# Copies files to the same place below the folder; a link becomes the file that it leads to.
add() {
  local file
  for file in "$@"; do
    [ -e "$root$file" ] || install -D "$file" "$root$file"
  done
}

# What the loader would load for a program, the loader itself among it. A static program has none.
add_libraries() {
  local library
  while read -r library; do
    [ -z "$library" ] || add "$library"
  done <<<"$(ldd "$1" 2>/dev/null | grep -oE '/[^ ]+' | sort -u)"
}

# Notes which packages the files are of, as it is done in images without a package manager: a file for
# each in /var/lib/dpkg/status.d. Debian has moved /lib to /usr/lib, and not in dpkg's lists of files.
name_packages() {
  local files package
  mapfile -t files < <(cd "$root" && find . -type f -path '*/lib*' -o -type f -path '*/sbin/*' | sed 's/^\.//')
  mkdir -p "$root/var/lib/dpkg/status.d"
  while read -r package; do
    dpkg -s "$package" >"$root/var/lib/dpkg/status.d/$package"
  done < <(dpkg -S "${files[@]}" "${files[@]/#/\/usr}" "${files[@]#/usr}" 2>/dev/null | cut -d : -f 1 | sort -u)
}

install -D "$program" "$root/usr/bin/$(basename "$program")"
add_libraries "$program"
install -d -m 1777 "$root/tmp"
install -d "$root/run" "$root/etc"
printf 'root:x:0:0::/:/sbin/nologin\nweft:x:65101:65101::/:/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nweft:x:65101:\n' >"$root/etc/group"

if [ "${3:-}" != iptables ]; then
  name_packages
  exit
fi

plugins="$(dirname "$(find /usr/lib -path '*/xtables/libxt_REDIRECT.so' -o -path '*/xtables/libipt_REDIRECT.so' -o -path '*/xtables/libxt_tcp.so' | head -n1)")"
[ -d "$plugins" ] || {
  echo "rootfs.sh: iptables is not installed: apt-get install iptables" >&2
  exit 1
}
for file in "$plugins"/*.so; do
  add "$file"
  add_libraries "$file"
done
for engine in nft legacy; do
  multi="/usr/sbin/xtables-$engine-multi"
  add "$multi"
  add_libraries "$multi"
  for family in iptables ip6tables; do
    for tool in "" -save -restore; do
      ln -sf "xtables-$engine-multi" "$root/usr/sbin/$family-$engine$tool"
    done
  done
done
# The plain names, as Debian sets them.
for family in iptables ip6tables; do
  for tool in "" -save -restore; do
    ln -sf "$family-nft$tool" "$root/usr/sbin/$family$tool"
  done
done
# The legacy engine asks what the protocols' names are.
if [ -e /etc/protocols ]; then add /etc/protocols; fi
name_packages
