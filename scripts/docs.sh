#!/usr/bin/env bash
# Renews the pages of docs/ that come from the programs: settings, exit codes, commands, and tools of the MCP server. The tests
# compare them; tests/e2e/reference.rs has the list.
#
#     scripts/docs.sh
set -euo pipefail
cd "$(dirname "$0")/.."
PYEXEC_WRITE_DOCS=1 cargo test --quiet --package pyexec-tests --test e2e reference::the_pages
git status --short docs
