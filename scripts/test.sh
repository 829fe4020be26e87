#!/usr/bin/env bash
# Everything that decides whether a change is good: formatting, lints, documentation, and all the tests.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/tools.sh"
cd "$root"
export PYEXEC_TEST_UV="$PYEXEC_UV"
# python-dotenv itself says what a .env file means.
if [ ! -x "$tools/oracle/bin/python" ]; then
    "$PYEXEC_UV" venv --quiet "$tools/oracle" && "$PYEXEC_UV" pip install --quiet --python "$tools/oracle" python-dotenv
fi
export PYEXEC_TEST_DOTENV_PYTHON="$tools/oracle/bin/python"
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
