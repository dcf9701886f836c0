#!/usr/bin/env bash
# Licences, bans, sources and advisories of every crate that Weft is built of, by deny.toml: make deny
#
# Advisories are checked where their database can be fetched, or was within the last 90 days.
#
#   ADVISORY_DB=…   another place of the database, the path or URL of a git repository: then it must be
#                   there, and is not passed over.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
deny="$(tests/security/cargo-tool.sh cargo-deny 0.20.2)"
database=https://github.com/RustSec/advisory-db
fetched="${CARGO_HOME:-$HOME/.cargo}/advisory-dbs"

"$deny" --locked check --hide-inclusion-graph licenses bans sources

# Nobody is there to be asked for a password, and a network that swallows everything must not be
# waited for.
export GIT_TERMINAL_PROMPT=0 GIT_HTTP_LOW_SPEED_LIMIT=1 GIT_HTTP_LOW_SPEED_TIME=20
if [ -n "${ADVISORY_DB:-}" ]; then
  export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.$ADVISORY_DB.insteadOf" GIT_CONFIG_VALUE_0="$database"
fi
if said="$(timeout 120 "$deny" --locked fetch db 2>&1)"; then
  "$deny" --locked --offline check advisories
elif [ -n "${ADVISORY_DB:-}" ]; then
  printf '%s\n' "$said" >&2
  exit 1
elif [ -n "$(find "$fetched" -maxdepth 3 -path '*/advisory-db-*/.git/HEAD' -mtime -90 2>/dev/null)" ]; then
  echo "advisories: their database cannot be fetched; the one of an earlier run is used"
  "$deny" --locked --offline check advisories
else
  echo "advisories: NOT CHECKED, their database cannot be fetched ($database)"
fi
