#!/usr/bin/env python3
"""Two builds of pyexec beside each other, in interleaved pairs: whether the new one is no slower.

    python3 bench/pairs.py OLD NEW [--pairs N] [--starts N]

OLD and NEW are folders with pyexec, pyexecd and pyexec-mcp. Each build has a home and a daemon of its own; in every pair both
are measured, in an order that changes. What is compared is the ratio of the medians, with the 95 % interval of 2,000
bootstrap samples of the pairs. Exits with 1 when the upper end of an interval is beyond its bound.
"""
import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

from homes import Home
from mcp import Session

RUN, CALL, START = "pyexec run --no-uv -c pass", "MCP print(1)", "adapter to first answer, no daemon running"
BOUNDS = {RUN: 1.05, CALL: 1.05, START: 1.10}
SAMPLES = 2000


class Build:
    def __init__(self, binaries):
        self.home = Home(os.path.realpath(binaries))
        self.work = tempfile.mkdtemp(prefix="pxl-", dir="/tmp")
        self.session = None

    def open(self):
        self.home.run("run", "--no-uv", "-c", "pass")
        self.session = Session([self.home.adapter], self.home.environment)

    def run(self):
        return self.home.timed("run", "--no-uv", "-c", "pass")

    def call(self):
        arguments = {"directory": self.work, "script_content": "print(1)", "use_uv": False}
        begin = time.perf_counter()
        self.session.ask("tools/call", {"name": "py_run_script_in_dir", "arguments": arguments})
        return (time.perf_counter() - begin) * 1000

    def start(self):
        """From the start of the adapter to the answer of a call that needs a daemon, which is not there."""
        self.home.stop()
        begin = time.perf_counter()
        session = Session([self.home.adapter], self.home.environment)
        session.ask("tools/call", {"name": "py_list_jobs", "arguments": {}})
        took = (time.perf_counter() - begin) * 1000
        session.process.stdin.close()
        session.process.wait()
        return took

    def close(self):
        if self.session:
            self.session.process.stdin.close()
            self.session.process.wait()
        self.home.stop()
        for directory in (self.home.path, self.work):
            subprocess.run(["rm", "-rf", directory])


def interval(pairs):
    """Ratio of the medians, and its 95 % interval."""
    def ratio(sample):
        return statistics.median(new for _, new in sample) / statistics.median(old for old, _ in sample)

    samples = sorted(ratio(random.choices(pairs, k=len(pairs))) for _ in range(SAMPLES))
    return ratio(pairs), samples[int(SAMPLES * 0.025)], samples[int(SAMPLES * 0.975)]


def compare(name, old, new, measure, count):
    for build in (old, new):
        for _ in range(5):
            measure(build)
    pairs = []
    for number in range(count):
        if number % 2:
            second = measure(new)
            first = measure(old)
        else:
            first = measure(old)
            second = measure(new)
        pairs.append((first, second))
    ratio, low, high = interval(pairs)
    medians = [statistics.median(column) for column in zip(*pairs)]
    verdict = "within" if high <= BOUNDS[name] else "MISSED"
    print(f"{verdict}: {name}: {medians[0]:.2f} ms before, {medians[1]:.2f} ms now, ratio {ratio:.3f} "
          f"({low:.3f} to {high:.3f}), {count} pairs, the bound is {BOUNDS[name]}", flush=True)
    return high <= BOUNDS[name]


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("old")
    options.add_argument("new")
    options.add_argument("--pairs", type=int, default=400)
    options.add_argument("--starts", type=int, default=300)
    options = options.parse_args()
    old, new = Build(options.old), Build(options.new)
    try:
        for build in (old, new):
            build.open()
        good = [
            compare(RUN, old, new, Build.run, options.pairs),
            compare(CALL, old, new, Build.call, options.pairs),
            compare(START, old, new, Build.start, options.starts),
        ]
    finally:
        for build in (old, new):
            build.close()
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
