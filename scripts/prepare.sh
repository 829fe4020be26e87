# Sourced by test.sh and its groups, with $root set: everything that tests need of this machine.
. "$root/scripts/tools.sh"
export PYEXEC_TEST_UV="$PYEXEC_UV"

# python-dotenv itself says what a .env file means.
install_oracle() {
    "$PYEXEC_UV" venv --quiet "$1" && "$PYEXEC_UV" pip install --quiet --python "$1/bin/python" "$(version_of python-dotenv)"
}
provide oracle install_oracle
export PYEXEC_TEST_DOTENV_PYTHON="$tools/oracle/bin/python"
. "$root/scripts/clients.sh"

# Some tests choose between versions of Python: where there is but one, uv may be able to get another.
if [ "$("$PYEXEC_UV" python list --only-installed 2> /dev/null | sed 's/^[a-z]*-\(3\.[0-9]*\).*/\1/' | sort -u | wc -l)" -lt 2 ]; then
    "$PYEXEC_UV" python install --install-dir "$tools/pythons" 3.12 3.13 ||
        echo "there is only one Python here: the tests that choose between several will say so" >&2
    for directory in "$tools"/pythons/*/bin; do
        PATH="$PATH:$directory"
    done
    export PATH
fi
# Not for what is under test: the first makes printing slower, the second imports.
unset PYTHONUNBUFFERED PYTHONDONTWRITEBYTECODE
