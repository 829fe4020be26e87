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
. "$root/scripts/clients.sh"
# Some tests choose between versions of Python: where there is but one, uv may be able to get another.
if [ "$("$PYEXEC_UV" python list --only-installed 2>/dev/null | sed 's/^[a-z]*-\(3\.[0-9]*\).*/\1/' | sort -u | wc -l)" -lt 2 ]; then
    "$PYEXEC_UV" python install --install-dir "$tools/pythons" 3.12 3.13 ||
        echo "there is only one Python here: the tests that choose between several will say so" >&2
    for directory in "$tools"/pythons/*/bin; do
        PATH="$PATH:$directory"
    done
    export PATH
fi
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
