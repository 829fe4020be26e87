#!/usr/bin/env python3
"""What pyexec adds to a bare interpreter, side by side in one run.

    python3 bench/latency.py [--rounds N] [--bin DIR] [--python PYTHON]

Interleaves the variants, so that a noisy machine disturbs them alike, and prints medians and ratios. Uses a throw-away
home; the daemon it starts is stopped at the end.
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


def clean_environment(home, python):
    """No leftovers of the caller: PYTHONDONTWRITEBYTECODE alone makes imports several times slower."""
    return {
        "HOME": home,
        "PATH": os.pathsep.join([os.path.dirname(python), "/usr/local/bin", "/usr/bin", "/bin"]),
        "LANG": "C.UTF-8",
        "XDG_STATE_HOME": f"{home}/state",
        "XDG_DATA_HOME": f"{home}/data",
        "XDG_CACHE_HOME": f"{home}/cache",
        "XDG_CONFIG_HOME": f"{home}/config",
        "XDG_RUNTIME_DIR": f"{home}/run",
    }


def timed(command, environment):
    start = time.perf_counter()
    subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - start) * 1000


def output(pyexec, environment, *words):
    run = [pyexec, *words]
    return subprocess.run(run, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout


def resident_kib(pid):
    """(RSS, PSS) of a process, in KiB."""
    fields = {}
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        for line in rollup.readlines()[1:]:
            name, value = line.split(":")
            fields[name] = int(value.split()[0])
    return fields["Rss"], fields["Pss"]


def latency(pyexec, python, environment, rounds):
    variants = {
        "python3 -c pass": [python, "-c", "pass"],
        "pyexec run --no-uv -c pass": [pyexec, "run", "--no-uv", "-c", "pass"],
        "pyexec jobs": [pyexec, "jobs"],
        "true": ["/bin/true"],
    }
    times = {name: [] for name in variants}
    for command in variants.values():
        timed(command, environment)
    for _ in range(rounds):
        for name, command in variants.items():
            times[name].append(timed(command, environment))
    bare = statistics.median(times["python3 -c pass"])
    print(f"\nOne call, median of {rounds} (milliseconds)\n")
    print(f"{'':34}{'median':>8}{'p90':>8}{'added':>8}{'ratio':>8}")
    for name, sample in times.items():
        median = statistics.median(sample)
        p90 = sorted(sample)[int(len(sample) * 0.9)]
        print(f"{name:34}{median:8.2f}{p90:8.2f}{median - bare:8.2f}{median / bare:8.2f}")
    return bare


def sequence(pyexec, python, environment, rounds, bare):
    totals = []
    for _ in range(max(3, rounds // 5)):
        totals.append(sum(timed([pyexec, "run", "--no-uv", "-c", "pass"], environment) for _ in range(10)))
    total = statistics.median(totals)
    print(f"\n10 jobs one after the other: {total:.1f} ms; 10 × (bare + 5 ms) would be {10 * (bare + 5):.1f} ms")


def memory(pyexec, environment):
    sleep = ["run", "--no-uv", "-d", "-c", "import time; time.sleep(60)"]
    ids = [output(pyexec, environment, *sleep).strip() for _ in range(20)]
    # A supervisor is named after its job.
    names = {f"pyexec-{job[:8]}" for job in ids}
    for job in ids:
        while json.loads(output(pyexec, environment, "show", "--json", job))["job"]["status"] == "pending":
            pass
    supervisors = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/comm") as comm:
                if comm.read().strip() in names:
                    supervisors.append(resident_kib(entry))
        except OSError:
            continue
    rss, pss = (statistics.median(column) for column in zip(*supervisors))
    print(f"\nSupervisors, {len(supervisors)} at once: RSS {rss:.0f} KiB, PSS {pss:.0f} KiB each (median)")
    subprocess.run([pyexec, "kill", "--now", *ids], env=environment, stdout=subprocess.DEVNULL, check=True)


def start_up(pyexec, daemon, environment, rounds):
    times = []
    for _ in range(max(3, rounds // 4)):
        subprocess.run([pyexec, "daemon", "stop"], env=environment, capture_output=True, check=True)
        times.append(timed([pyexec, "daemon", "start"], environment))
    print(f"\nDaemon: from nothing to listening {statistics.median(times):.1f} ms (`pyexec daemon start`, whole process)")
    rss, pss = resident_kib(json.loads(output(pyexec, environment, "daemon", "status", "--json"))["pid"])
    print(f"Daemon, idle: RSS {rss} KiB, PSS {pss} KiB")
    print(f"Binaries: pyexec {os.path.getsize(pyexec) / 1e6:.2f} MB, pyexecd {os.path.getsize(daemon) / 1e6:.2f} MB")


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=30)
    options.add_argument("--bin", default=os.path.join(root, "target", "release"), help="where pyexec and pyexecd are")
    options.add_argument("--python", default=sys.executable, help="the interpreter jobs run with")
    chosen = options.parse_args()
    pyexec, daemon = (os.path.join(os.path.abspath(chosen.bin), name) for name in ("pyexec", "pyexecd"))
    if not os.path.exists(daemon):
        sys.exit(f"no {daemon}: run `cargo build --release` first")
    # A short path: sockets have room for 107 bytes.
    home = tempfile.mkdtemp(prefix="pxb-", dir="/tmp")
    os.mkdir(f"{home}/run", 0o700)
    environment = clean_environment(home, os.path.realpath(chosen.python))
    # `python3` as jobs will find it.
    python = shutil.which("python3", path=environment["PATH"])
    print(f"{python}, {subprocess.run([python, '--version'], capture_output=True, text=True).stdout.strip()}, {os.cpu_count()} CPUs")
    try:
        bare = latency(pyexec, python, environment, chosen.rounds)
        sequence(pyexec, python, environment, chosen.rounds, bare)
        memory(pyexec, environment)
        start_up(pyexec, daemon, environment, chosen.rounds)
    finally:
        subprocess.run([pyexec, "daemon", "stop"], env=environment, capture_output=True)
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
