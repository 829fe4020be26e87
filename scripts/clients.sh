# Sourced by test.sh: real MCP clients, of the versions that tests/clients names, inside .tools.
#
# Afterwards PYEXEC_TEST_MCP_CURRENT and PYEXEC_TEST_MCP_HANDSHAKE are Pythons that have a generation of the SDK each, and
# PYEXEC_TEST_NODE_MODULES has the Inspector, and what counts tokens.

clients="$root/tests/clients"

# What something was made from lies beside it: another version here makes it anew.
for sdk in current handshake; do
    if ! cmp -s "$clients/sdk-$sdk.txt" "$tools/mcp-$sdk/made-from.txt"; then
        echo "installing $(cat "$clients/sdk-$sdk.txt") into .tools/mcp-$sdk" >&2
        rm -rf "$tools/mcp-$sdk"
        "$PYEXEC_UV" venv --quiet --python '>=3.10' "$tools/mcp-$sdk"
        "$PYEXEC_UV" pip install --quiet --compile-bytecode --python "$tools/mcp-$sdk/bin/python" \
            --requirements "$clients/sdk-$sdk.txt"
        cp "$clients/sdk-$sdk.txt" "$tools/mcp-$sdk/made-from.txt"
    fi
done
export PYEXEC_TEST_MCP_CURRENT="$tools/mcp-current/bin/python"
export PYEXEC_TEST_MCP_HANDSHAKE="$tools/mcp-handshake/bin/python"

if ! command -v npm >/dev/null; then
    echo "there is no npm here: install Node 20 or newer, for the tests with the MCP Inspector" >&2
else
    if ! cmp -s "$clients/package.json" "$tools/mcp-node/made-from.json"; then
        echo "installing the MCP Inspector into .tools/mcp-node" >&2
        rm -rf "$tools/mcp-node"
        mkdir -p "$tools/mcp-node"
        cp "$clients/package.json" "$tools/mcp-node/package.json"
        npm install --prefix "$tools/mcp-node" --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error >/dev/null
        cp "$clients/package.json" "$tools/mcp-node/made-from.json"
    fi
    export PYEXEC_TEST_NODE_MODULES="$tools/mcp-node/node_modules"
fi
