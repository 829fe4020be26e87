#!/usr/bin/env bash
# Everything that decides whether a change is good: formatting, lints, documentation, and all the tests.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/tools.sh"
cd "$root"
export PYEXEC_TEST_UV="$PYEXEC_UV"
# Not for what is under test: the first makes printing slower, the second imports.
unset PYTHONUNBUFFERED PYTHONDONTWRITEBYTECODE

cargo fmt --all --check
cargo clippy --workspace --all-targets --quiet -- --deny warnings
RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --document-private-items --quiet
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace "$@"
else
    cargo test --workspace "$@"
fi
