#!/usr/bin/env python3
"""Writes a container image of one layer as an archive that `ctr images import` takes.

usage: archive.py OUT.tar NAME:TAG FOLDER USER ENTRYPOINT...

The same folder gives the same archive: times are zero, names sorted, owners root.
"""

import hashlib
import io
import json
import platform
import sys
import tarfile


def clean(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = 0
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def main() -> None:
    out, name, folder, user, *entrypoint = sys.argv[1:]

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(folder, arcname=".", filter=clean)  # tarfile sorts what a folder holds
    layer_bytes = layer.getvalue()
    layer_hash = hashlib.sha256(layer_bytes).hexdigest()

    machine = platform.machine()
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine),
            "os": "linux",
            "config": {
                "Entrypoint": entrypoint,
                "User": user,
                "WorkingDir": "/",
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_hash}"]},
        }
    ).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": [f"{layer_hash}/layer.tar"]}]

    with tarfile.open(out, "w") as tar:
        for path, content in (
            (config_name, config),
            (f"{layer_hash}/layer.tar", layer_bytes),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


if __name__ == "__main__":
    main()
