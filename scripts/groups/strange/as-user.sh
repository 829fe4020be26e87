#!/usr/bin/env bash
# Run by groups/strange.sh as a user without any rights of root's: as-user.sh SCRATCH [ARGUMENTS OF NEXTEST…]
set -euo pipefail
scratch=$1
shift
root="$scratch/source"
cd "$root"
. "$root/scripts/prepare.sh"
# What only root can do.
export PYEXEC_TEST_SKIP=other_users,fuse,control_groups,tracing
exec cargo-nextest nextest run --no-fail-fast --archive-file "$scratch/tests.tar.zst" --extract-to "$scratch/home" --extract-overwrite \
    --workspace-remap "$root" "$@"
