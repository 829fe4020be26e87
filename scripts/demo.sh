#!/usr/bin/env bash
# Builds the daemon and the command line, provides uv if there is none, and runs a script with a dependency: its output, then
# the list of jobs.
#
#     scripts/demo.sh [PROFILE]
#
# PROFILE is `quick` unless it is given: built in a quarter of the time that `release` takes, and a little slower. What the
# demo does not show is not built: the MCP server, and pictures (`--plot`).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
profile=${1:-quick}
. "$root/scripts/tools.sh"
cd "$root"
programs="${CARGO_TARGET_DIR:-$root/target}/$profile"
echo "building pyexec and pyexecd with the profile \`$profile\`" >&2
if [ "$profile" = quick ]; then
    echo "hint: it compiles fast and does not optimise; \`cargo build --release\` builds all three programs, and fast ones" >&2
fi
cargo build --profile "$profile" --quiet --package pyexecd --package pyexec-cli --no-default-features
export PATH="$programs:$PATH"

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
