#!/usr/bin/env bash
# Everything that decides whether a change is good: formatting, lints, documentation, and all the tests.
#
#     scripts/test.sh [ARGUMENTS OF NEXTEST…]
#     scripts/test.sh --group NAME [OPTIONS OF THE GROUP] [ARGUMENTS OF NEXTEST…]
#
# A group is what takes too long for every change, or needs what not every machine has: scripts/groups/NAME.sh says which.
# How long each step took is printed at the end.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

# timed NAME COMMAND…: notes how long it took. What fails ends this script, and is noted as well.
took=""
step=""
note() {
    took="$took$(printf '%7d s  %s' $((SECONDS - since)) "$1")"$'\n'
}
timed() {
    step=$1 since=$SECONDS
    shift
    "$@"
    note "$step"
    step=""
}
report() {
    [ -z "$step" ] || note "$step (failed)"
    [ -z "$took" ] || printf '\n%s' "$took"
}
trap report EXIT

group=""
case "${1:-}" in
--group)
    group=${2:-}
    [ $# -lt 2 ] || shift 2
    ;;
--group=*)
    group=${1#--group=}
    shift
    ;;
*) group=suite ;;
esac
if [ "$group" != suite ] && { [ -z "$group" ] || [ ! -f "scripts/groups/$group.sh" ]; }; then
    echo "error: there is no group \`$group\` of tests" >&2
    echo "hint: scripts/test.sh --group $(basename -as .sh scripts/groups/*.sh | paste -sd '|' | sed 's/|/, or --group /g')" >&2
    exit 2
fi

timed "tools" . "$root/scripts/prepare.sh"
if [ "$group" != suite ]; then
    . "scripts/groups/$group.sh"
    exit
fi

documentation() {
    RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --document-private-items --quiet
}
tests() {
    if cargo nextest --version > /dev/null 2>&1; then
        cargo nextest run --workspace --no-fail-fast "$@"
    else
        cargo test --workspace --no-fail-fast "$@"
    fi
}
timed "formatting" cargo fmt --all --check
timed "lints" cargo clippy --workspace --all-targets --quiet -- --deny warnings
timed "documentation" documentation
timed "tests" tests "$@"
