#!/bin/sh
# Prints what the names of a build's functions depend on, by which a profile finds them: the versions of the
# compiler and of Weft, and what it is compiled for.
set -eu
rustc --version
rustc -vV | sed -n 's/^host: //p'
sed -n 's/^version = "\(.*\)"$/weft-proxy \1/p' "$(dirname "$0")/../../Cargo.toml"
