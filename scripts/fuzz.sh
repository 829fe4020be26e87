#!/usr/bin/env bash
# Searches for input that a reader of ours gets wrong, so many seconds with each: scripts/fuzz.sh [SECONDS] [TARGET…]
#
# Needs a nightly toolchain and cargo-fuzz. What it finds lies in fuzz/artifacts: fixed, it belongs into fuzz/seeds.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
case $seconds in
'' | *[!0-9]*)
    echo "error: \`$seconds\` is no number of seconds" >&2
    exit 2
    ;;
esac

missing=0
if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "error: no nightly toolchain: rustup toolchain install nightly" >&2
    missing=1
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "error: no cargo-fuzz: cargo install cargo-fuzz" >&2
    missing=1
fi
if [ "$missing" = 1 ]; then
    echo "hint: \`cargo test -p pyexecd fuzzing\` checks the same on the seeds and changes of them, and needs neither" >&2
    exit 1
fi

# What is fuzzed is made of what the programs are made of. Its target directory is its own: everything is instrumented.
cp Cargo.lock fuzz/Cargo.lock
unset CARGO_TARGET_DIR
if [ $# = 0 ]; then
    set -- wire dotenv progress run_directory
fi
for target in "$@"; do
    seeds=("fuzz/seeds/$target")
    if [ "$target" = progress ]; then
        seeds+=(pyexecd/src/progress/recordings)
    fi
    mkdir -p "fuzz/corpus/$target"
    # The first directory is what new input goes into. An input that takes longer than 10 s, or 1 GiB, counts as a failure.
    cargo +nightly fuzz run "$target" "fuzz/corpus/$target" "${seeds[@]}" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1
done
