#!/usr/bin/env python3
"""pyexec-mcp beside a hello-world FastMCP server and beside a bare interpreter, in one run.

    python3 bench/mcp.py [--rounds N] [--bin DIR] [--python PYTHON] [--fastmcp PYTHON]

`--fastmcp` names an interpreter that has fastmcp installed; without it, one is made with uv (PYEXEC_UV, or from PATH) in a
directory that is kept under `.tools`. Variants are interleaved. Uses a throw-away home; the daemon it starts is stopped.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from latency import clean_environment, resident_kib, timed

FASTMCP = """
from fastmcp import FastMCP
server = FastMCP("hello")

@server.tool
def run(code: str) -> str:
    return "1"

server.run(show_banner=False)
"""

GREETING = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "0"},
}


class Session:
    """A server on pipes, spoken to line by line."""

    def __init__(self, command, environment):
        begin = time.perf_counter()
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.last = 0
        self.ask("initialize", GREETING)
        self.first_answer = (time.perf_counter() - begin) * 1000
        self.say({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def say(self, message):
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, method, params):
        self.last += 1
        self.say({"jsonrpc": "2.0", "id": self.last, "method": method, "params": params})
        while True:
            answer = json.loads(self.process.stdout.readline())
            if answer.get("id") == self.last:
                return answer["result"]

    def call(self, tool, arguments):
        begin = time.perf_counter()
        result = self.ask("tools/call", {"name": tool, "arguments": arguments})
        took = (time.perf_counter() - begin) * 1000
        if result.get("isError"):
            sys.exit(f"{tool} failed: {result}")
        return took

    def close(self):
        begin = time.perf_counter()
        self.process.stdin.close()
        self.process.wait()
        return (time.perf_counter() - begin) * 1000


def fastmcp_python(root, given):
    """An interpreter that can import fastmcp."""
    if given:
        return given
    directory = os.path.join(root, ".tools", "fastmcp")
    python = os.path.join(directory, "bin", "python")
    if not os.path.exists(python):
        uv = os.environ.get("PYEXEC_UV") or shutil.which("uv")
        if not uv:
            sys.exit("no uv on PATH, and PYEXEC_UV names none: install one, or name an interpreter with --fastmcp")
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, directory], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "fastmcp"], check=True)
    return python


def percentile(sample, share):
    return sorted(sample)[min(len(sample) - 1, int(len(sample) * share))]


def row(name, sample, bare=None):
    median = statistics.median(sample)
    added = "" if bare is None else f"{median - bare:9.2f}"
    print(f"{name:46}{median:9.2f}{percentile(sample, 0.99):9.2f}{added}")
    return median


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=200)
    options.add_argument("--bin", default=os.path.join(root, "target", "release"))
    options.add_argument("--python", default=sys.executable)
    options.add_argument("--fastmcp", help="an interpreter that has fastmcp installed")
    options = options.parse_args()
    ours = os.path.join(options.bin, "pyexec-mcp")
    if not os.path.exists(ours):
        sys.exit(f"no {ours}: cargo build --release makes it")
    fastmcp = fastmcp_python(root, options.fastmcp)
    home = tempfile.mkdtemp(prefix="pyexec-bench-")
    environment = clean_environment(home, options.python)
    hello = os.path.join(home, "hello.py")
    with open(hello, "w") as script:
        script.write(FASTMCP)
    theirs = [fastmcp, hello]
    try:
        starts = {"pyexec-mcp": [], "FastMCP": []}
        leaves = []
        Session(theirs, environment).close()
        for _ in range(max(5, options.rounds // 20)):
            for name, command in (("pyexec-mcp", [ours]), ("FastMCP", theirs)):
                session = Session(command, environment)
                starts[name].append(session.first_answer)
                left = session.close()
                if name == "pyexec-mcp":
                    leaves.append(left)
        print(f"\nFrom the start of the process to its first answer, {len(leaves)} rounds (milliseconds)\n")
        print(f"{'':46}{'median':>9}{'p99':>9}")
        ratio = row("FastMCP, hello world", starts["FastMCP"]) / row("pyexec-mcp", starts["pyexec-mcp"])
        row("pyexec-mcp, from the end of its stdin to its own", leaves)
        print(f"\nFastMCP takes {ratio:.0f} times as long.")

        arguments = {"directory": home, "script_content": "print(1)", "use_uv": False}
        mine, other = Session([ours], environment), Session(theirs, environment)
        bare_command = [options.python, "-c", "print(1)"]
        for _ in range(3):
            mine.call("py_run_script_in_dir", arguments)
            other.call("run", {"code": "print(1)"})
            timed(bare_command, environment)
        times = {name: [] for name in ("bare", "run", "list", "hello")}
        for _ in range(options.rounds):
            times["bare"].append(timed(bare_command, environment))
            times["run"].append(mine.call("py_run_script_in_dir", arguments))
            times["list"].append(mine.call("py_list_jobs", {"limit": 1}))
            times["hello"].append(other.call("run", {"code": "print(1)"}))
        print(f"\nOne call on an open connection, {options.rounds} rounds, interleaved (milliseconds)\n")
        print(f"{'':46}{'median':>9}{'p99':>9}{'added':>9}")
        bare = row("python3 -c 'print(1)', bare", times["bare"])
        row("py_run_script_in_dir print(1), use_uv=false", times["run"], bare)
        row("py_list_jobs", times["list"])
        row("FastMCP, a tool that does nothing", times["hello"])
        rss, pss = resident_kib(mine.process.pid)
        their_rss, _ = resident_kib(other.process.pid)
        print(f"\nMemory after {mine.last} calls: pyexec-mcp RSS {rss} KiB (PSS {pss} KiB), FastMCP RSS {their_rss} KiB")
        print(f"Binary: pyexec-mcp {os.path.getsize(ours) / 1e6:.2f} MB")
        mine.close()
        other.close()
    finally:
        subprocess.run([os.path.join(options.bin, "pyexec"), "daemon", "stop"], env=environment, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
