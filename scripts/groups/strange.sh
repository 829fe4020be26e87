# Sourced by test.sh: the whole suite where things are not as on the machine that it was written on.
#
#     scripts/test.sh --group strange [--only busy|home|user] [ARGUMENTS OF NEXTEST…]
#
# busy: under `nice -n 10`, beside two loops of the same priority that never rest.
# home: in homes whose names have spaces and letters of other languages, with LANG=C, a time zone a quarter of an hour off,
#       and umask 077.
# user: as a user who is not root, and may read nothing of root's: with Pythons, tools, sources and the built tests of his
#       own. Takes root, to become that user.
only="busy home user"
if [ "${1:-}" = --only ]; then
    only=${2:?name one of busy, home and user}
    shift 2
fi
if ! cargo nextest --version > /dev/null 2>&1; then
    echo "error: this group needs cargo-nextest, which can run tests that were built elsewhere" >&2
    exit 1
fi

scratch=$(mktemp -d /tmp/pyexec-strange-XXXXXX)
loops=""
clean_up() {
    for pid in $loops; do
        kill "$pid" 2> /dev/null || true
    done
    rm -rf "$scratch"
    report
}
trap clean_up EXIT

busy() {
    for _ in 1 2; do
        nice -n 10 sh -c 'while :; do :; done' &
        loops="$loops $!"
    done
    captured nice -n 10 cargo nextest run --workspace --no-fail-fast "$@"
    for pid in $loops; do
        kill "$pid"
    done
    loops=""
}

home() (
    # What belongs to the machine stays where it is.
    export CARGO_HOME="${CARGO_HOME:-$HOME/.cargo}" RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}"
    export PYENV_ROOT="${PYENV_ROOT:-$HOME/.pyenv}"
    export HOME="$scratch/höme of ✎" TMPDIR="$scratch/tmp ✎"
    mkdir -m 700 "$HOME" "$TMPDIR"
    export PYEXEC_TEST_PREFIX="px ✎ é-" PYEXEC_TEST_LANG=C PYEXEC_TEST_TZ=Asia/Kathmandu
    export LANG=C TZ=Asia/Kathmandu
    unset LC_ALL LC_CTYPE
    umask 077
    nextest "$@"
)

# A number that no system gives to anybody.
strange_user=64321

# Whole trees, for everybody to read.
copy_for_user() {
    chmod 755 "$scratch"
    mkdir -p "$scratch/source" "$scratch/pythons" "$scratch/bin" "$scratch/home" "$scratch/tmp"
    git ls-files -z | tar --null --files-from=- -cf - | tar -xf - -C "$scratch/source"
    # The tests of Python's own are half of it.
    local directory version
    for directory in $(printf '%s' "$PATH" | tr : '\n'); do
        [ -x "$directory/python3" ] || continue
        version=$("$directory/python3" -c 'import sys; print(sys.base_prefix)')
        # The system's can be read by everybody, and is not where it could be copied to.
        case "$version" in
        /usr | /usr/local) continue ;;
        esac
        [ ! -e "$scratch/pythons/$(basename "$version")" ] || continue
        tar -C "$(dirname "$version")" --exclude='lib/python3*/test' --exclude='*.a' -cf - "$(basename "$version")" |
            tar -xf - -C "$scratch/pythons"
        python3 "$root/scripts/groups/strange/relocate.py" "$version" "$scratch/pythons/$(basename "$version")"
        user_path="$user_path$scratch/pythons/$(basename "$version")/bin:"
    done
    cp "$(command -v cargo-nextest)" "$scratch/bin/"
    cargo nextest archive --workspace --archive-file "$scratch/tests.tar.zst"
    chmod -R a+rX "$scratch/source" "$scratch/pythons" "$scratch/bin" "$scratch/tests.tar.zst"
    chown -R "$strange_user:$strange_user" "$scratch/home" "$scratch/tmp"
}

user() {
    if [ "$(id -u)" != 0 ]; then
        echo "NOT RUN as another user: it takes root to become one; this user is none other already" >&2
        return 0
    fi
    local user_path=""
    copy_for_user
    # Programs that everybody has, and nothing of root's.
    user_path="$scratch/bin:$user_path/usr/local/bin:/usr/bin:/bin"
    captured env -u CARGO_HOME -u RUSTUP_HOME -u PYENV_ROOT -u PYEXEC_UV -u PYEXEC_TEST_UV -u XDG_CACHE_HOME -u XDG_CONFIG_HOME \
        -u XDG_DATA_HOME -u XDG_STATE_HOME -u XDG_RUNTIME_DIR -u CARGO_TARGET_DIR -u BASH_ENV \
        HOME="$scratch/home" USER=strange LOGNAME=strange TMPDIR="$scratch/tmp" PATH="$user_path" \
        PYEXEC_TEST_SHARED="$scratch/home" \
        setpriv --reuid="$strange_user" --regid="$strange_user" --clear-groups \
        "$scratch/source/scripts/groups/strange/as-user.sh" "$scratch" "$@"
}

cargo nextest run --workspace --no-run
for scenario in $only; do
    case "$scenario" in
    busy | home | user) timed "strange: $scenario" "$scenario" "$@" ;;
    *)
        echo "error: there is no \`$scenario\` in this group: busy, home or user" >&2
        exit 2
        ;;
    esac
done
