# Sourced by test.sh after tools.sh: real MCP clients, of the versions that tests/clients names.
#
# Afterwards PYEXEC_TEST_MCP_CURRENT and PYEXEC_TEST_MCP_HANDSHAKE are Pythons that have a generation of the SDK each, and
# PYEXEC_TEST_NODE_MODULES has the Inspector, and what counts tokens.

install_sdk() {
    "$PYEXEC_UV" venv --quiet --python '>=3.10' "$2" &&
        "$PYEXEC_UV" pip install --quiet --compile-bytecode --python "$2/bin/python" \
            --requirements "$root/tests/clients/sdk-$1.txt"
}

install_node_modules() {
    mkdir -p "$1" && cp "$root/tests/clients/package.json" "$1/package.json" &&
        npm install --prefix "$1" --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error
}

provide mcp-current install_sdk current
provide mcp-handshake install_sdk handshake
export PYEXEC_TEST_MCP_CURRENT="$tools/mcp-current/bin/python"
export PYEXEC_TEST_MCP_HANDSHAKE="$tools/mcp-handshake/bin/python"

if ! command -v npm > /dev/null; then
    echo "there is no npm here: install Node 20 or newer, for the tests with the MCP Inspector" >&2
else
    provide mcp-node install_node_modules
    export PYEXEC_TEST_NODE_MODULES="$tools/mcp-node/node_modules"
fi
