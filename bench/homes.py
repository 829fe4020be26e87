"""Throw-away homes, each with a daemon of its own, and what can be seen of that daemon from outside. `load.py` runs it."""
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

from latency import clean_environment
from mcp import percentile

MISSED = []


def bound(what, value, most, unit):
    """Says whether a figure is within its bound, and remembers if not."""
    print(f"{'within' if value <= most else 'MISSED'}: {what}: {value:.2f} {unit}, the bound is {most}")
    if value > most:
        MISSED.append(what)


class Home:
    """A throw-away home with a daemon of its own, which is started by whoever asks first."""

    def __init__(self, binaries, **settings):
        # A short path: sockets have room for 107 bytes.
        self.path = tempfile.mkdtemp(prefix="pxl-", dir="/tmp")
        os.mkdir(f"{self.path}/run", 0o700)
        self.environment = clean_environment(self.path, os.path.realpath(sys.executable))
        self.pyexec, self.adapter = (os.path.join(binaries, name) for name in ("pyexec", "pyexec-mcp"))
        self.state = f"{self.path}/state/pyexec"
        self.set(**settings)

    def set(self, **settings):
        self.environment.update({f"PYEXEC_{name.upper()}": str(value) for name, value in settings.items()})

    def run(self, *words, check=True, **stdio):
        stdio = {"stdin": subprocess.DEVNULL, **stdio}
        return subprocess.run([self.pyexec, *words], env=self.environment, capture_output=True, text=True, check=check, **stdio).stdout

    def json(self, *words):
        return json.loads(self.run(*words, "--json"))

    def timed(self, *words):
        """Milliseconds from the start of the process to its end."""
        start = time.perf_counter()
        self.run(*words)
        return (time.perf_counter() - start) * 1000

    def pid(self):
        return self.json("daemon", "status")["pid"]

    def stop(self):
        self.run("daemon", "stop", check=False)

    def total(self, *words):
        return self.json("jobs", "-n", "1", *words)["total"]

    def database(self):
        return sqlite3.connect(f"{self.state}/jobs.sqlite3")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.path, ignore_errors=True)


class Gate:
    """What a job waits for without time passing for it: a byte from a named pipe."""

    def __init__(self, home):
        self.path = f"{home.path}/gate"
        os.mkfifo(self.path)
        self.code = f"open({self.path!r}, 'rb', buffering=0).read(1)"

    def open(self, jobs):
        """Lets so many through. Returns what has to stay open until they are."""
        writer = os.open(self.path, os.O_RDWR)
        os.write(writer, b"." * jobs)
        return writer


def status_field(pid, name):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(f"{name}:"))


def rss_mb(pid):
    return status_field(pid, "VmRSS") * 1024 / 1e6


def peak_mb(pid):
    """The most it had since this was last asked."""
    peak = status_field(pid, "VmHWM") * 1024 / 1e6
    with open(f"/proc/{pid}/clear_refs", "w") as forget:
        forget.write("5")
    return peak


def activity(pid):
    """(CPU ticks, context switches of threads that are there, their ids)"""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    switches = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/status") as status:
                lines = [line.split() for line in status]
        except OSError:
            continue
        switches[thread] = sum(int(words[1]) for words in lines if words[0].endswith("ctxt_switches:"))
    return int(fields[11]) + int(fields[12]), switches


def woken(before, after):
    """Context switches between two looks, of the threads that both saw; how many threads have come or gone."""
    both = before[1].keys() & after[1].keys()
    return sum(after[1][thread] - before[1][thread] for thread in both), len(before[1].keys() ^ after[1].keys())


def until_quiet(pid, seconds=3):
    """Until it has done nothing for so long."""
    last, since = activity(pid), time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(0.25)
        now = activity(pid)
        if now != last:
            last, since = now, time.monotonic()


def in_turns(rounds, variants):
    """Each of `variants` (name: what takes milliseconds), so many times, one after the other, the order turned each time."""
    times = {name: [] for name in variants}
    order = list(variants.items())
    for _, measure in order:
        measure()
    for _ in range(rounds):
        for name, measure in order:
            times[name].append(measure())
        order.reverse()
    return times


def report(title, times, base=None):
    print(f"\n{title}\n\n{'':52}{'rounds':>7}{'median':>9}{'p99':>9}{'ratio':>8}")
    for name, sample in times.items():
        median = statistics.median(sample)
        ratio = f"{median / statistics.median(times[base(name)]):8.2f}" if base and base(name) else ""
        print(f"{name:52}{len(sample):7}{median:9.2f}{percentile(sample, 0.99):9.2f}{ratio}")
