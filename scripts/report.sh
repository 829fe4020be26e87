# Sourced by test.sh: how long each step took, and what became of the tests, printed when the script ends.

# timed NAME COMMAND…: notes how long it took. What fails ends the script, and is noted as well.
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
# attempted NAME COMMAND…: the same, and the script goes on after a failure, which is returned.
attempted() {
    local name=$1 since=$SECONDS
    shift
    if "$@"; then
        note "$name"
    else
        note "$name (failed)"
        return 1
    fi
}

# captured COMMAND…: runs tests with nextest, and keeps its closing line for the end.
summaries=$(mktemp "${TMPDIR:-/tmp}/pyexec-tests-XXXXXX")
captured() {
    local code=0 said
    said=$(mktemp "${TMPDIR:-/tmp}/pyexec-tests-XXXXXX")
    # Only stderr goes through `tee`; the code is the command's, by `pipefail`.
    { "$@" 2>&1 >&3 3>&- | tee "$said" >&2; } 3>&1 || code=$?
    sed 's/\x1b\[[0-9;]*m//g' "$said" | grep '^ *Summary \[' >> "$summaries" || true
    rm -f "$said"
    return "$code"
}
# nextest ARGUMENTS…: tests of the whole workspace.
nextest() {
    local colour=never
    [ ! -t 2 ] || colour=always
    captured cargo nextest run --workspace --no-fail-fast --color "$colour" "$@"
}

report() {
    [ -z "$step" ] || note "$step (failed)"
    [ -z "$took" ] || printf '\n%s' "$took"
    if [ -s "$summaries" ]; then
        cat "$summaries"
        # Of all groups together, as other runners say it.
        awk '{
            for (field = 2; field <= NF; field++) {
                if ($field ~ /^passed/) passed += $(field - 1)
                if ($field ~ /^(failed|timed)/) failed += $(field - 1)
            }
        } END { printf "%d passed, %d failed\n", passed, failed }' "$summaries"
    fi
    rm -f "$summaries"
}
trap report EXIT
