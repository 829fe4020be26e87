#!/usr/bin/env python3
"""What pyexec measures, beside what /usr/bin/time -v says of the very same runs.

    python3 bench/benchmark.py [--rounds N] [--bin DIR] [--python PYTHON]

The python3 that the jobs find is /usr/bin/time with the interpreter behind it: both measure one process, so that it does
not matter how busy the machine is. Prints medians of CPU and peak memory and of their ratios, and exits with 1 when one is
not within its bound: 3 % for a single process, 10 % of what a tree of four with 200 MB each really has. Where there is no
/usr/bin/time, getrusage(2) in a wrapper tells. Uses a throw-away home; the daemon it starts is stopped at the end.
"""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

from latency import clean_environment

SCRIPTS = {
    "1 s of CPU, all user": "import time\nwhile time.process_time() < 1: pass\n",
    "CPU and system calls": "import os\nf = open('/dev/zero', 'rb', buffering=0)\nfor _ in range(100): f.read(1 << 24)\nsum(range(30_000_000))\n",
    "200 MB in one process": "import time\nx = bytearray(b'x') * (200 << 20)\ntime.sleep(0.2)\nsum(range(40_000_000))\n",
    "nothing (pass)": "pass\n",
}
CHILD = "import sys; x = bytearray(b'x') * 200_000_000; print(1, flush=True); sys.stdin.read()"
TREE = f"""import subprocess, sys, time
pipe = subprocess.PIPE
children = [subprocess.Popen([sys.executable, '-c', {CHILD!r}], stdin=pipe, stdout=pipe) for _ in range(4)]
for child in children: child.stdout.readline()
time.sleep(1)
for child in children: child.communicate()
"""
TREE_NAME = "4 processes of 200 MB"
WRAPPER = """import os, resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
u = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as told:
    print(f"User time (seconds): {u.ru_utime}\\nSystem time (seconds): {u.ru_stime}", file=told)
    print(f"Maximum resident set size (kbytes): {u.ru_maxrss}", file=told)
sys.exit(code)
"""


def shim(home, python):
    """A python3 that writes down what its run took; (its directory, the file it writes)."""
    place, told = os.path.join(home, "bin"), os.path.join(home, "told")
    os.mkdir(place)
    if os.path.exists("/usr/bin/time"):
        command = f"exec /usr/bin/time -v -o '{told}' '{python}'"
    else:
        wrapper = os.path.join(home, "wrapper.py")
        with open(wrapper, "w") as file:
            file.write(WRAPPER)
        command = f"exec '{python}' '{wrapper}' '{told}' '{python}'"
    with open(os.path.join(place, "python3"), "w") as file:
        file.write(f'#!/bin/sh\n{command} "$@"\n')
    os.chmod(os.path.join(place, "python3"), 0o755)
    return place, told


def read(told):
    """(CPU seconds, peak MiB)"""
    with open(told) as file:
        said = file.read()
    cpu = sum(float(re.search(rf"{which} time \(seconds\): ([\d.]+)", said)[1]) for which in ("User", "System"))
    return cpu, int(re.search(r"Maximum resident set size \(kbytes\): (\d+)", said)[1]) / 1024


def measured(pyexec, script, environment):
    run = [pyexec, "bench", "--no-uv", "--runs", "1", "--warmup", "0", "--json", script]
    said = subprocess.run(run, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
    row = json.loads(said)["results"][0]["benchmark"]["measured"][0]
    return row["user_time_seconds"] + row["system_time_seconds"], row["peak_rss_mb"]


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--bin", default=os.path.join(root, "target", "release"), help="where pyexec and pyexecd are")
    options.add_argument("--python", default=sys.executable, help="the interpreter the scripts run with")
    chosen = options.parse_args()
    pyexec = os.path.join(os.path.abspath(chosen.bin), "pyexec")
    if not os.path.exists(pyexec):
        sys.exit(f"no {pyexec}: run `cargo build --release` first")
    home = tempfile.mkdtemp(prefix="pxb-", dir="/tmp")
    os.mkdir(f"{home}/run", 0o700)
    environment = clean_environment(home, os.path.realpath(chosen.python))
    place, told = shim(home, shutil.which("python3", path=environment["PATH"]))
    environment["PATH"] = os.pathsep.join([place, environment["PATH"]])
    other = "/usr/bin/time -v" if os.path.exists("/usr/bin/time") else "getrusage"
    print(f"{other}, Python {sys.version.split()[0]}, {os.cpu_count()} CPUs, medians of {chosen.rounds} runs\n")
    print(f"{'':26}{'CPU s':>9}{'pyexec':>9}{'ratio':>8}{'peak MiB':>11}{'pyexec':>9}{'ratio':>8}")
    good = True
    try:
        for name, text in {**SCRIPTS, TREE_NAME: TREE}.items():
            script = os.path.join(home, "script.py")
            with open(script, "w") as file:
                file.write(text)
            rows = []
            for _ in range(chosen.rounds):
                (our_cpu, our_peak), (cpu, peak) = measured(pyexec, script, environment), read(told)
                rows.append((cpu, our_cpu, our_cpu / cpu if cpu else 0.0, peak, our_peak, our_peak / peak))
            cpu, our_cpu, cpu_ratio, peak, our_peak, peak_ratio = map(statistics.median, zip(*rows))
            print(f"{name:26}{cpu:9.3f}{our_cpu:9.3f}{cpu_ratio:8.3f}{peak:11.1f}{our_peak:9.1f}{peak_ratio:8.3f}")
            # time tells hundredths of a second: of less there is nothing to compare.
            good &= cpu < 0.3 or abs(cpu_ratio - 1) <= 0.03
            if name == TREE_NAME:
                real = 4 * 200e6 / 2**20
                print(f"{'':26}of 800 MB ({real:.0f} MiB), pyexec {our_peak / real:.3f}, {other} {peak / real:.3f}")
                good &= abs(our_peak / real - 1) <= 0.10
            else:
                good &= abs(peak_ratio - 1) <= 0.03
    finally:
        subprocess.run([pyexec, "daemon", "stop"], env=environment, capture_output=True)
        shutil.rmtree(home)
    print("\nwithin 3 %, and 10 % of the tree" if good else "\nNOT within 3 %, or 10 % of the tree")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
