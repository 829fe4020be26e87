#!/usr/bin/env python3
"""What an environment costs: a warm run with dependencies, and making a new one, beside uv by hand.

    python3 bench/environments.py [--rounds N] [--bin DIR] [--python PYTHON] [--uv UV]

Interleaves the variants and prints medians and ratios of one run. Fetches numpy and pandas once, into a uv cache of its
own; uses a throw-away home, and stops the daemon it starts.
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

from latency import clean_environment, output, timed

REQUIREMENTS = ["numpy", "pandas"]
WITH = [word for name in REQUIREMENTS for word in ("--with", name)]


def report(title, times, base):
    print(f"\n{title} (milliseconds)\n")
    print(f"{'':52}{'median':>9}{'added':>9}{'ratio':>8}")
    reference = statistics.median(times[base])
    for name, sample in times.items():
        median = statistics.median(sample)
        print(f"{name:52}{median:9.1f}{median - reference:9.1f}{median / reference:8.2f}")


def warm(pyexec, uv, environment, rounds):
    run = [pyexec, "run", *WITH, "-c", "pass"]
    subprocess.run(run, env=environment, check=True, capture_output=True)
    own = json.loads(output(pyexec, environment, "env", "list", "--json"))["environments"][0]["id"]
    python = os.path.join(environment["XDG_CACHE_HOME"], "pyexec", "environments", own, "bin", "python")
    by_hand = [uv, "run", "--no-project", *WITH, "python", "-c", "pass"]
    offline = [uv, "run", "--offline", "--no-project", *WITH, "python", "-c", "pass"]
    variants = {
        "the environment's own python -c pass": [python, "-c", "pass"],
        "pyexec run --with numpy --with pandas": run,
        "uv run --offline --with numpy --with pandas": offline,
        "uv run --with numpy --with pandas (online)": by_hand,
    }
    times = {name: [] for name in variants}
    for command in variants.values():
        subprocess.run(command, env=environment, check=True, capture_output=True)
    for _ in range(rounds):
        for name, command in variants.items():
            start = time.perf_counter()
            subprocess.run(command, env=environment, check=True, stdin=subprocess.DEVNULL, capture_output=True)
            times[name].append((time.perf_counter() - start) * 1000)
    report(f"A warm run, median of {rounds}", times, "the environment's own python -c pass")
    return python


def creation(pyexec, uv, python, environment, rounds, home):
    """From a warm uv cache; both resolve offline, so that the network does not decide."""
    offline = {**environment, "UV_OFFLINE": "1"}
    cache = os.path.join(environment["XDG_CACHE_HOME"], "pyexec")
    interpreter = os.path.realpath(python)
    times = {"uv pip compile + uv venv + uv pip sync by hand": [], "pyexec run --with …, nothing built": []}
    bare = []
    for _ in range(rounds):
        place = os.path.join(home, "by-hand")
        lock = os.path.join(home, "lock.txt")
        # What was deleted before is not to be paid for by who comes next.
        os.sync()
        start = time.perf_counter()
        compiled = subprocess.run(
            [uv, "pip", "compile", "--no-header", "--no-annotate", "--generate-hashes", "--python", interpreter, "-"],
            env=offline, input="\n".join(REQUIREMENTS).encode(), capture_output=True, check=True,
        )
        with open(lock, "wb") as file:
            file.write(compiled.stdout)
        subprocess.run([uv, "venv", "--quiet", "--relocatable", "--no-project", "--python", interpreter, place], env=offline, check=True)
        subprocess.run([uv, "pip", "sync", "--python", f"{place}/bin/python", lock], env=offline, capture_output=True, check=True)
        times["uv pip compile + uv venv + uv pip sync by hand"].append((time.perf_counter() - start) * 1000)
        bare.append(timed([f"{place}/bin/python", "-c", "pass"], offline))
        shutil.rmtree(place)
        for part in ("environments", "resolutions"):
            shutil.rmtree(os.path.join(cache, part), ignore_errors=True)
        os.sync()
        start = time.perf_counter()
        subprocess.run([pyexec, "run", *WITH, "-c", "pass"], env=offline, stdin=subprocess.DEVNULL, capture_output=True, check=True)
        times["pyexec run --with …, nothing built"].append((time.perf_counter() - start) * 1000)
    report(f"A new environment from a warm uv cache, median of {rounds}", times, "uv pip compile + uv venv + uv pip sync by hand")
    print(f"(the run itself, a bare interpreter's start of {statistics.median(bare):.1f} ms, is part of pyexec's figure)")


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--bin", default=os.path.join(root, "target", "release"), help="where pyexec and pyexecd are")
    options.add_argument("--python", default=sys.executable, help="the interpreter environments are made with")
    options.add_argument("--uv", default=os.environ.get("PYEXEC_UV") or shutil.which("uv"))
    chosen = options.parse_args()
    pyexec = os.path.join(os.path.abspath(chosen.bin), "pyexec")
    # On the disk where caches are, so that hard links work as they would: not a memory file system.
    home = tempfile.mkdtemp(prefix="pxb-", dir="/tmp")
    os.mkdir(f"{home}/run", 0o700)
    environment = clean_environment(home, os.path.realpath(chosen.python))
    # How this machine reaches the package index.
    reach = ("UV_", "SSL_", "HTTP_", "HTTPS_", "ALL_", "NO_", "http", "no_proxy")
    environment.update({name: value for name, value in os.environ.items() if name.startswith(reach)})
    environment.update(PYEXEC_UV=chosen.uv, UV_CACHE_DIR=f"{home}/uv-cache")
    print(subprocess.run([chosen.uv, "--version"], capture_output=True, text=True).stdout.strip(), f"{os.cpu_count()} CPUs")
    try:
        python = warm(pyexec, chosen.uv, environment, chosen.rounds)
        creation(pyexec, chosen.uv, python, environment, chosen.rounds, home)
    finally:
        subprocess.run([pyexec, "daemon", "stop"], env=environment, capture_output=True)
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
