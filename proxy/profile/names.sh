#!/bin/sh
# Prints what the names of a build's functions depend on, with which a profile finds them: the versions of the
# compiler and of Weft.
set -eu
rustc --version
sed -n 's/^version = "\(.*\)"$/weft-proxy \1/p' "$(dirname "$0")/../../Cargo.toml"
