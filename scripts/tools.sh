# Sourced by the other scripts: provides what a fresh machine lacks, inside the checkout, and nothing anywhere else.
#
# Afterwards PYEXEC_UV names a uv, and PATH has every Python that pyenv keeps, for uv to choose from.

tools="$root/.tools"

# uv: the one there is, or one from PyPI.
if [ -z "${PYEXEC_UV:-}" ]; then
    if command -v uv >/dev/null; then
        PYEXEC_UV=$(command -v uv)
    else
        if [ ! -x "$tools/uv/bin/uv" ]; then
            echo "installing uv into .tools/uv" >&2
            python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$tools/uv" uv >&2 ||
                { python3 -m venv "$tools/uv" && "$tools/uv/bin/python" -m pip install --quiet uv >&2; }
        fi
        PYEXEC_UV="$tools/uv/bin/uv"
    fi
    export PYEXEC_UV
fi

# pyenv's `python3` is a shell script that looks for the real one at every call: put the real ones in front of it, the
# one it would choose first.
if command -v pyenv >/dev/null; then
    chosen=$(dirname "$(pyenv which python3)")
    for directory in "$(pyenv root)"/versions/*/bin; do
        PATH="$directory:$PATH"
    done
    export PATH="$chosen:$PATH"
fi
