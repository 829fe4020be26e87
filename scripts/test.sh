#!/usr/bin/env bash
# Everything that decides whether a change is good: formatting, lints, documentation, and all the tests.
#
#     scripts/test.sh [ARGUMENTS OF NEXTEST…]
#     scripts/test.sh --group NAME [OPTIONS OF THE GROUP] [ARGUMENTS OF NEXTEST…]
#     scripts/test.sh --ci
#
# The suite is the groups `unit`, `e2e`, `root`, `faults` and `network` of .config/nextest.toml, one after the other. Other
# groups take too long for every change, or need what not every machine has: scripts/groups/NAME.sh says which. --ci runs the
# suite, and a smoke test of each of those. How long each step took, and how many tests passed, is printed at the end.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
. "$root/scripts/report.sh"

suite="unit e2e root faults network"
heavy=$(basename -as .sh "$root"/scripts/groups/*.sh)

mode=suite
group=""
case "${1:-}" in
--group)
    group=${2:-}
    [ $# -lt 2 ] || shift 2
    mode=group
    ;;
--group=*)
    group=${1#--group=}
    shift
    mode=group
    ;;
--ci)
    shift
    mode=ci
    ;;
esac
if [ "$mode" = group ] && ! grep -qxF -- "$group" <<< "${suite// /$'\n'}"$'\n'"$heavy"; then
    echo "error: there is no group \`$group\` of tests" >&2
    echo "hint: scripts/test.sh --group $(printf '%s\n' $suite $heavy | paste -sd '|' | sed 's/|/, or --group /g')" >&2
    exit 2
fi

timed "tools" . "$root/scripts/prepare.sh"

documentation() {
    RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --document-private-items --quiet
}
# The groups of the suite that are named, up to `--`, then arguments of nextest. All of them run, whatever becomes of one.
run_groups() {
    local named=() failed=""
    while [ "$1" != -- ]; do
        named+=("$1")
        shift
    done
    shift
    if ! cargo nextest --version > /dev/null 2>&1; then
        timed "tests" cargo test --workspace --no-fail-fast "$@"
        return
    fi
    timed "build of the tests" cargo nextest run --workspace --no-run
    for name in "${named[@]}"; do
        attempted "$name" nextest --profile "$name" "$@" || failed="$failed $name"
    done
    if [ -n "$failed" ]; then
        echo "error: tests failed in:$failed" >&2
        return 1
    fi
}

if [ "$mode" = group ]; then
    if [ -f "scripts/groups/$group.sh" ]; then
        . "scripts/groups/$group.sh"
    else
        run_groups "$group" -- "$@"
    fi
    exit
fi

timed "formatting" cargo fmt --all --check
timed "lints" cargo clippy --workspace --all-targets --quiet -- --deny warnings
timed "documentation" documentation
# Arguments choose tests, of which a group may have none.
[ $# = 0 ] || set -- --no-tests pass "$@"
run_groups $suite -- "$@"
if [ "$mode" = ci ]; then
    # One smoke test of each group that the suite does not have.
    set -- --only home -E 'test(running::) or test(starter::) or test(strange_machines::)'
    . "scripts/groups/strange.sh"
fi
