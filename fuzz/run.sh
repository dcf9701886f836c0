#!/bin/sh
# Runs the fuzz targets, one after the other:  fuzz/run.sh SECONDS [TARGET …]
#
# libFuzzer goes on from fuzz/corpus and from what earlier runs have found, which it keeps in
# target/fuzz/corpus. No nightly toolchain is needed: coverage of the compiler's own making is stable,
# and what else nightly would bring, sanitizers, is for code with `unsafe`, of which Weft has none.
set -eu

cd "$(dirname "$0")/.."
seconds=$1
shift
[ "$#" -gt 0 ] || set -- manifests routes request answer detection admission path

out="${CARGO_TARGET_DIR:-target}/fuzz"
host=$(rustc -vV | sed -n 's/^host: //p')
programs="$out/$host/demo"

# As cargo-fuzz has them, with what a debug build checks.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"

echo "building (some minutes the first time) …"
# With --target, build scripts and macros are built without these flags.
RUSTFLAGS="$(echo $coverage) -Cdebug-assertions -Coverflow-checks" \
    CARGO_PROFILE_DEMO_DEBUG=line-tables-only \
    cargo build --quiet --profile demo --target "$host" --target-dir "$out" \
    --package weft-fuzz --features libfuzzer --bins

# number LOG PATTERN: the last number that the pattern has in the log.
number() {
    sed -n "s/.*$2\([0-9][0-9]*\).*/\1/p" "$1" | tail -n 1
}

table=$(printf '%-12s %12s %12s %10s %8s' target runs coverage "new" crashes)
failed=""
for target in "$@"; do
    found="$out/corpus/$target"
    crashes="$out/crashes/$target"
    log="$out/$target.log"
    mkdir -p "$found" "$crashes"
    echo "$target: $seconds s …"
    status=0
    "$programs/$target" -max_total_time="$seconds" -timeout=25 -rss_limit_mb=3072 -max_len=4096 \
        -print_final_stats=1 -artifact_prefix="$crashes/" \
        "$found" "fuzz/corpus/$target" >"$log" 2>&1 || status=$?
    before=$(grep -a -m 1 INITED "$log" | sed -n 's/.*cov: \([0-9]*\).*/\1/p')
    after=$(number "$log" ' cov: ')
    runs=$(number "$log" 'stat::number_of_executed_units: ')
    count=0
    if [ "$status" != 0 ]; then
        count=1
        failed="$failed $target"
        grep -a -v -e '^#[0-9]' -e '^INFO' -e '^stat::' "$log" | tail -n 25
        file=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        echo "to see it again:    $programs/$target ${file:-(see $log)}"
        echo "to keep it, when mended:    cp ${file:-FILE} fuzz/corpus/$target/NAME"
    fi
    row=$(printf '%-12s %12s %12s %10s %8s' "$target" "${runs:-?}" "${after:-?}" \
        "+$((${after:-0} - ${before:-0}))" "$count")
    table=$(printf '%s\n%s' "$table" "$row")
done

echo
echo "$table"
echo "logs, and what was found: $out"
if [ -n "$failed" ]; then
    echo "failed:$failed"
    exit 1
fi
