# Sourced by the other scripts: provides what a fresh machine lacks, for all checkouts of this user, and nothing anywhere
# else.
#
# Afterwards PYEXEC_UV names a uv, and PATH has every Python that pyenv keeps, for uv to choose from. `provide` installs more
# beside it, in $tools.

# Another version of anything in these files is another directory: no checkout changes what another one uses.
tools=$(cd "$root" && cat scripts/tools.txt tests/clients/sdk-*.txt tests/clients/package.json | sha256sum | cut -c 1-16)
tools="${XDG_CACHE_HOME:-$HOME/.cache}/pyexec-test-tools/$tools"

# provide NAME COMMAND…: unless it is there, makes $tools/NAME by a command that is given a directory to fill as its last
# argument. It gets its name when it is whole; one of several that want it at the same time makes it.
provide() {
    local name=$1
    shift
    [ ! -d "$tools/$name" ] || return 0
    mkdir -p "$tools"
    (
        flock 9
        [ ! -d "$tools/$name" ] || exit 0
        echo "installing $name into $tools" >&2
        rm -rf "$tools/$name.unfinished"
        "$@" "$tools/$name.unfinished" >&2 && mv "$tools/$name.unfinished" "$tools/$name"
    ) 9> "$tools/lock"
}

# The lines of scripts/tools.txt that say which version of a package is to be installed.
version_of() {
    grep "^$1==" "$root/scripts/tools.txt"
}

install_uv() {
    local pip="-m pip install --quiet --disable-pip-version-check"
    python3 $pip --root-user-action=ignore --target "$1" "$(version_of uv)" ||
        { rm -rf "$1" && python3 -m venv "$1" && "$1/bin/python" $pip "$(version_of uv)"; }
}

# uv: the one there is, or one from PyPI.
if [ -z "${PYEXEC_UV:-}" ]; then
    if command -v uv > /dev/null; then
        PYEXEC_UV=$(command -v uv)
    else
        provide uv install_uv
        PYEXEC_UV="$tools/uv/bin/uv"
    fi
    export PYEXEC_UV
fi

# pyenv's `python3` is a shell script that looks for the real one at every call: put the real ones in front of it, the
# one it would choose first.
if command -v pyenv > /dev/null; then
    chosen=$(dirname "$(pyenv which python3)")
    for directory in "$(pyenv root)"/versions/*/bin; do
        PATH="$directory:$PATH"
    done
    export PATH="$chosen:$PATH"
fi
