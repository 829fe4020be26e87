#!/usr/bin/env bash
# Builds pyexec, provides uv if there is none, and runs a script with a dependency: its output, then the list of jobs.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/scripts/tools.sh"
cd "$root"
cargo build --release --quiet
export PATH="$root/target/release:$PATH"

script=$(mktemp "${TMPDIR:-/tmp}/pyexec-demo-XXXXXX.py")
trap 'rm -f "$script"' EXIT
cat > "$script" <<'PYTHON'
import platform

import humanize

print(f"Hello from Python {platform.python_version()}!")
print(f"humanize {humanize.__version__} says: {humanize.intword(123_456_789)}")
PYTHON

pyexec run --with humanize --label demo "$script"
echo
pyexec jobs
