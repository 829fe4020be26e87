#!/usr/bin/env bash
# Run by groups/strange.sh as a user without any rights of root's: as-user.sh SCRATCH [ARGUMENTS OF NEXTEST…]
set -euo pipefail
scratch=$1
shift
root="$scratch/source"
cd "$root"
. "$root/scripts/prepare.sh"
exec cargo-nextest nextest run --no-fail-fast --archive-file "$scratch/tests.tar.zst" --extract-to "$scratch/home" --extract-overwrite \
    --workspace-remap "$root" "$@"
