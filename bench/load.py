#!/usr/bin/env python3
"""pyexec with much to remember, much to do, many to serve, and nothing to do.

    python3 bench/load.py [PART ...] [--finished N] [--queued N] [--running N] [--clients N] [--rounds N] [--bin DIR]

Parts: history, queue, running, clients, idle, large; all of them where none is named. What is compared is run in turns in
one run, so that a noisy machine disturbs both alike; medians, 99th percentiles and ratios are printed. Exits with 1 when a
bound is missed. Every part uses throw-away homes, and stops the daemons it starts.
"""
import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
import uuid

from homes import MISSED, Gate, Home, activity, bound, in_turns, peak_mb, report, rss_mb, until_quiet, woken
from latency import resident_kib
from mcp import Session, percentile


def multiply_history(home, finished):
    """Makes finished jobs out of those that `home` has, until there are `finished`; its daemon must be stopped.

    Each gets an id of its own, a row that is a template's but for the id and the times, spread over the thirty days before,
    and a run directory: files that name the id (spec.json) are written anew, the others are hard links to the template's.
    How much each keeps is left to be measured. The templates stay the newest jobs.
    """
    database = home.database()
    columns = [row[1] for row in database.execute("PRAGMA table_info(jobs)")]
    templates = [dict(zip(columns, row)) for row in database.execute("SELECT * FROM jobs WHERE finished ORDER BY sequence")]
    missing = finished - len(templates)
    database.execute("UPDATE jobs SET sequence = sequence + ?", [missing + len(templates)])
    thirty_days = 30 * 24 * 3600 * 1_000_000
    insert = f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    jobs = f"{home.state}/jobs"
    for number in range(missing):
        row = dict(templates[number % len(templates)])
        template, fresh = row["id"], str(uuid.uuid4())
        earlier = thirty_days * (missing - number) // missing
        times = {name: row[name] - earlier for name in ("created_at", "started_at", "ended_at") if row[name]}
        row.update(times, id=fresh, sequence=number + 1, kept_bytes=None)
        database.execute(insert, [row[name] for name in columns])
        for place, _, files in os.walk(f"{jobs}/{template}"):
            copy = place.replace(template, fresh)
            os.mkdir(copy, 0o700)
            for name in files:
                with open(f"{place}/{name}", "rb") as file:
                    content = file.read()
                if template.encode() in content:
                    with open(f"{copy}/{name}", "wb") as file:
                        file.write(content.replace(template.encode(), fresh.encode()))
                else:
                    os.link(f"{place}/{name}", f"{copy}/{name}")
    database.commit()
    database.close()
    os.sync()


def some_history(home):
    """Twenty jobs as people leave them."""
    for number in range(5):
        home.run("run", "--no-uv", "-c", f"print('line\\n' * {number * 100})")
        home.run("run", "--no-uv", "--label", "nightly", "-c", "print('done')")
        home.run("run", "--no-uv", "-c", "raise SystemExit(3)", check=False)
        home.run("run", "--no-uv", "-c", "import os; open(os.environ['PYEXEC_ARTIFACTS'] + '/out', 'w').write('1' * 5000)")
    until_quiet(home.pid())


def history(chosen):
    with Home(chosen.bin) as full, Home(chosen.bin) as empty:
        some_history(full)
        full.stop()
        start = time.perf_counter()
        multiply_history(full, chosen.finished)
        print(f"\n# {chosen.finished} finished jobs (made of 20 in {time.perf_counter() - start:.0f} s)")
        rows, directories = full.total(), len(os.listdir(f"{full.state}/jobs"))
        if not rows == directories == chosen.finished:
            sys.exit(f"{rows} rows and {directories} run directories are not {chosen.finished}")
        full.stop()
        oldest = full.database().execute("SELECT id FROM jobs ORDER BY sequence LIMIT 1").fetchone()[0]

        memory = []

        def note(when, pid, quiet=True):
            if quiet:
                until_quiet(pid)
            memory.append((when, rss_mb(pid), peak_mb(pid)))

        empty.run("daemon", "start")
        note("an empty history: start", empty.pid())
        begun = time.perf_counter()
        full.run("daemon", "start")
        pid = full.pid()
        note("just started", pid, quiet=False)
        while_measuring = [full.timed("jobs") for _ in range(chosen.rounds)]
        until_quiet(pid)
        took = time.perf_counter() - begun - 3
        note("first start: every run directory has been measured", pid, quiet=False)
        full.stop()
        full.run("daemon", "start")
        pid = full.pid()
        note("second start: compared, bounded", pid)

        both = {"full": full, "empty": empty}
        listing = in_turns(chosen.rounds, {
            f"pyexec jobs, {name}": lambda home=home: home.timed("jobs") for name, home in both.items()
        })
        listing["pyexec jobs, full, while all are being measured"] = while_measuring
        base = lambda name: name.rpartition(",")[0] + ", empty" if name.endswith((", full", ", empty")) else None
        report(f"Looking (milliseconds, process start to exit); background measuring took {took:.1f} s", listing, base)
        note("pyexec jobs", pid)
        looks = {
            "pyexec jobs --json": ("jobs", "--json"),
            "pyexec jobs --status failed": ("jobs", "--status", "failed"),
            "pyexec jobs --label nightly": ("jobs", "--label", "nightly"),
            "pyexec jobs --status failed --label nightly": ("jobs", "--status", "failed", "--label", "nightly"),
            "pyexec jobs -n 1000": ("jobs", "-n", "1000"),
            "pyexec show of the oldest": ("show", oldest),
            "pyexec logs of the oldest": ("logs", oldest),
            "pyexec daemon status": ("daemon", "status"),
        }
        times = in_turns(max(5, chosen.rounds // 4), {n: lambda w=w: full.timed(*w) for n, w in looks.items()})
        note("--json, --status, --label, -n 1000, show, logs", pid)
        few = max(3, chosen.rounds // 40)
        for name, words in {
            "pyexec jobs --all --json, to the end": ("jobs", "--all", "--json"),
            "pyexec prune --dry-run --older-than 1h": ("prune", "--dry-run", "--older-than", "1h"),
        }.items():
            times[name] = [full.timed(*words) for _ in range(few)]
            note(name, pid)
        report("Other looks", times)

        submit = {}
        for what, words in {
            "pyexec run -d --no-uv": ("run", "-d", "--no-uv", "-c", "pass"),
            "pyexec run --no-uv -c pass": ("run", "--no-uv", "-c", "pass"),
        }.items():
            # Not both in turns: a detached job would run into the next call, and always into the same.
            submit |= in_turns(chosen.rounds, {
                f"{what}, {name}": lambda home=home: home.timed(*words) for name, home in both.items()
            })
            until_quiet(pid, 1)
        report("Submitting", submit, base)
        note("submissions", pid)

        def start_again(home):
            home.stop()
            return home.timed("daemon", "start")

        starts = in_turns(max(5, chosen.rounds // 10), {
            f"pyexec daemon start, {name}": lambda home=home: start_again(home) for name, home in both.items()
        })
        report("Starting", starts, base)

        # A history that is too long by a tenth.
        full.stop()
        full.set(retention_max_jobs=chosen.finished * 9 // 10, retention_min_age="0s")
        full.run("daemon", "start")
        pid, begun = full.pid(), time.perf_counter()
        meanwhile = []
        while full.total() > chosen.finished * 9 // 10:
            meanwhile.append(full.timed("jobs"))
        took = time.perf_counter() - begun
        report(f"A tenth is forgotten, in {took:.1f} s", {"pyexec jobs meanwhile": meanwhile or [0.0]})
        note("a tenth forgotten", pid)

        print(f"\n{'Memory of the daemon':60}{'RSS MB':>9}{'peak MB':>9}\n")
        for when, rss, peak in memory:
            print(f"{when:60}{rss:9.1f}{peak:9.1f}")
        print()
        median = {name: statistics.median(sample) for name, sample in {**listing, **submit}.items()}
        bound("pyexec jobs, median", median["pyexec jobs, full"], 20, "ms")
        bound("pyexec jobs, p99", percentile(listing["pyexec jobs, full"], 0.99), 20, "ms")
        bound("RSS", max(rss for when, rss, _ in memory), 40, "MB")
        for what in ("pyexec run -d --no-uv", "pyexec run --no-uv -c pass"):
            bound(f"{what} against none", median[f"{what}, full"] / median[f"{what}, empty"], 1.2, "times")


def queue(chosen):
    with Home(chosen.bin, max_running=2) as home:
        gate, done = Gate(home), f"{home.path}/done"
        print(f"\n# {chosen.queued} queued jobs, two that run hold them up")
        blockers = [home.run("run", "-d", "--no-uv", "-c", gate.code).strip() for _ in range(2)]
        pid = home.pid()
        until_quiet(pid)
        before = rss_mb(pid)
        code = f"import os, sys; os.write(os.open({done!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT), sys.argv[1].encode() + b'\\n')"
        ids, submits, controls = [], [], []
        for number in range(chosen.queued):
            start = time.perf_counter()
            ids.append(home.run("run", "-d", "--no-uv", "-c", code, str(number)).strip())
            submits.append((time.perf_counter() - start) * 1000)
            controls.append(home.timed("--version"))
        part = max(1, chosen.queued // 10)
        report("Submitting, pyexec run -d --no-uv; beside each, pyexec --version", {
            "the first tenth": submits[:part], "the last tenth": submits[-part:],
            "pyexec --version, the first tenth": controls[:part], "pyexec --version, the last tenth": controls[-part:],
        }, lambda name: {"the last tenth": "the first tenth"}.get(name))
        middle = chosen.queued // 2
        times = in_turns(max(10, chosen.rounds // 4), {
            "pyexec jobs": lambda: home.timed("jobs"),
            "pyexec show of the last": lambda: home.timed("show", ids[-1]),
        })
        times["pyexec kill, in the middle"] = [home.timed("kill", ids[number]) for number in range(middle, middle + 10)]
        cancelled = set(range(middle, middle + 10))
        for number in cancelled:
            assert home.json("show", ids[number])["job"]["status"] == "cancelled", number
        report(f"With {chosen.queued} queued", times)
        until_quiet(pid)
        print(f"\nRSS {before:.1f} MB before, {rss_mb(pid):.1f} MB with them queued, peak {peak_mb(pid):.1f} MB")

        os.kill(pid, signal.SIGKILL)
        started = home.timed("daemon", "start")
        shown = home.timed("show", ids[-1])
        pid, pending = home.pid(), home.total("--status", "pending")
        assert pending == chosen.queued - len(cancelled), pending
        until_quiet(pid)
        print(f"\nDaemon killed (-9): start {started:.1f} ms, the first `pyexec show` after it {shown:.1f} ms; {pending} wait again;"
              f" RSS {rss_mb(pid):.1f} MB, peak {peak_mb(pid):.1f} MB")

        begun = time.perf_counter()
        writer = gate.open(len(blockers))
        meanwhile = []
        while home.total("--status", "pending", "--status", "running") > 0:
            meanwhile.append(home.timed("jobs"))
            time.sleep(0.1)
        took = time.perf_counter() - begun
        os.close(writer)
        with open(done) as file:
            ran = sorted(int(line) for line in file)
        assert ran == [number for number in range(chosen.queued) if number not in cancelled], "not each exactly once"
        report(f"All run to their end, each once: {len(ran)} in {took:.1f} s, {len(ran) / took:.0f} a second, 2 at a time",
               {"pyexec jobs meanwhile": meanwhile})
        most = peak_mb(pid)
        until_quiet(pid)
        print(f"\nRSS {rss_mb(pid):.1f} MB after all, peak {most:.1f} MB")
        grown = [statistics.median(times[-part:]) / statistics.median(times[:part]) for times in (submits, controls)]
        bound("the last submissions against the first, beside the same of pyexec --version", grown[0] / grown[1], 1.2, "times")


def supervisors(home, ids):
    """The pids of the supervisors of these jobs. A supervisor is named after its job."""
    names, found = {f"pyexec-{job[:8]}" for job in ids}, []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/comm") as comm:
                if comm.read().strip() in names:
                    found.append(int(entry))
        except OSError:
            continue
    return found


def running(chosen):
    with Home(chosen.bin, max_running=chosen.running) as home:
        gate = Gate(home)
        print(f"\n# {chosen.running} jobs that run at once, each waiting at a pipe")
        home.run("daemon", "start")
        pid = home.pid()
        until_quiet(pid)
        before = rss_mb(pid)
        begun = time.perf_counter()
        ids = [home.run("run", "-d", "--no-uv", "-c", gate.code).strip() for _ in range(chosen.running)]
        while home.total("--status", "running") < chosen.running:
            time.sleep(0.1)
        print(f"all run after {time.perf_counter() - begun:.1f} s")
        theirs = supervisors(home, ids)
        assert len(theirs) == chosen.running, len(theirs)
        until_quiet(pid, 12)
        rss, pss = (sum(column) / 1000 * 1.024 for column in zip(*map(resident_kib, theirs)))
        print(f"daemon: RSS {before:.1f} MB before, {rss_mb(pid):.1f} MB with them, peak {peak_mb(pid):.1f} MB")
        print(f"{len(theirs)} supervisors: PSS {pss:.1f} MB together, {pss / len(theirs):.2f} each; RSS {rss / len(theirs):.1f} each")

        looks = {process: activity(process) for process in [pid, *theirs]}
        time.sleep(20)
        after = {process: activity(process) for process in looks}
        ticks = {process: after[process][0] - looks[process][0] for process in looks}
        switches = {process: woken(looks[process], after[process])[0] for process in looks}
        for name, processes in (("the daemon", [pid]), ("its supervisors together", theirs)):
            bound(f"20 s of silence, CPU ticks of {name}", sum(ticks[process] for process in processes), 0, "ticks")
            bound(f"20 s of silence, context switches of {name}", sum(switches[process] for process in processes), 0, "switches")

        report(f"With {chosen.running} running", in_turns(max(10, chosen.rounds // 4), {
            "pyexec jobs": lambda: home.timed("jobs"),
            f"pyexec jobs -n {chosen.running}": lambda: home.timed("jobs", "-n", str(chosen.running)),
            "pyexec show": lambda: home.timed("show", ids[chosen.running // 2]),
        }))
        begun = time.perf_counter()
        writer = gate.open(chosen.running)
        while home.total("--status", "running") > 0:
            time.sleep(0.05)
        print(f"\nAll have ended {time.perf_counter() - begun:.1f} s after they could")
        os.close(writer)
        assert home.total("--status", "completed") == chosen.running
        until_quiet(pid, 12)
        print(f"daemon: RSS {rss_mb(pid):.1f} MB after all, peak {peak_mb(pid):.1f} MB")


def at_once(clients, calls, call):
    """`call(client, number)`, `calls` times by each of so many threads: (calls a second, each call's milliseconds)."""
    times, failures = [], []

    def client(which):
        for number in range(calls):
            start = time.perf_counter()
            try:
                call(which, number)
            except Exception as failure:
                failures.append(failure)
                return
            times.append((time.perf_counter() - start) * 1000)

    threads = [threading.Thread(target=client, args=[which]) for which in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        sys.exit(f"{len(failures)} of {clients} clients failed, the first with: {failures[0]!r}")
    return clients * calls / (time.perf_counter() - start), times


def clients(chosen):
    with Home(chosen.bin) as home:
        python = shutil.which("python3", path=home.environment["PATH"])
        print(f"\n# {chosen.clients} clients at once")
        home.run("daemon", "start")
        pid = home.pid()

        def expect(said, which, number):
            if f"{which}-{number}" not in said:
                raise ValueError(f"client {which} was answered {said!r}")

        def bare(which, number):
            command = [python, "-c", f"print('{which}-{number}')"]
            expect(subprocess.run(command, env=home.environment, capture_output=True, text=True, check=True).stdout, which, number)

        def run(which, number):
            expect(home.run("run", "--no-uv", "-c", f"print('{which}-{number}')"), which, number)

        sessions = [Session([home.adapter], home.environment) for _ in range(chosen.clients)]

        def tool(which, number):
            arguments = {"directory": home.path, "script_content": f"print('{which}-{number}')", "use_uv": False}
            answer = sessions[which].ask("tools/call", {"name": "py_run_script_in_dir", "arguments": arguments})
            if answer.get("isError"):
                raise ValueError(answer)
            expect(json.dumps(answer), which, number)

        kinds = {"python3 -c, no pyexec at all": bare, "pyexec run --no-uv (a process a call)": run, "pyexec-mcp (a session each)": tool}
        rates = {(name, many): [] for name in kinds for many in (1, chosen.clients)}
        times = {key: [] for key in rates}
        turns = max(3, chosen.rounds // 60)
        for _ in range(turns):
            for name, call in kinds.items():
                for many, calls in ((1, 40), (chosen.clients, 5)):
                    rate, took = at_once(many, calls, call)
                    rates[name, many].append(rate)
                    times[name, many] += took
        print(f"\n{turns} turns; milliseconds\n\n{'':40}{'clients':>8}{'calls':>7}{'a second':>9}{'of one':>8}{'median':>9}{'p99':>9}")
        for (name, many), sample in rates.items():
            rate, one, took = statistics.median(sample), statistics.median(rates[name, 1]), times[name, many]
            print(f"{name:40}{many:8}{len(took):7}{rate:9.1f}{rate / one:8.2f}{statistics.median(took):9.1f}{percentile(took, 0.99):9.1f}")
        rss, pss = (statistics.median(column) / 1000 * 1.024 for column in zip(*(resident_kib(s.process.pid) for s in sessions)))
        print(f"\nno call failed; an adapter has RSS {rss:.1f} MB, PSS {pss:.1f} MB (median of {chosen.clients})")
        most, connected = peak_mb(pid), rss_mb(pid)
        for session in sessions:
            session.close()
        until_quiet(pid, 12)
        print(f"daemon: peak {most:.1f} MB, RSS {connected:.1f} MB with {chosen.clients} adapters, {rss_mb(pid):.1f} MB when they have left")


def written(home, pid):
    """What the daemon has written, and when any file of its state was changed."""
    with open(f"/proc/{pid}/io") as file:
        counters = dict(line.split(": ") for line in file)
    changed = {}
    for place, _, files in os.walk(home.state):
        for name in files:
            changed[f"{place}/{name}"] = os.stat(f"{place}/{name}").st_mtime_ns
    return (int(counters["wchar"]), int(counters["write_bytes"])), changed


def still(home, when, seconds):
    pid = home.pid()
    # Threads for work on files leave 10 s after the last of it.
    until_quiet(pid, 15)
    rss, _ = resident_kib(pid)
    look, files = activity(pid), written(home, pid)
    time.sleep(seconds)
    after, files_after = activity(pid), written(home, pid)
    switches, threads = woken(look, after)
    print(f"\n{when}, {seconds} s: RSS {rss * 1.024 / 1000:.1f} MB, {after[0] - look[0]} CPU ticks, {switches} context switches in"
          f" {len(after[1])} threads ({threads} came or went), {files_after[0][0] - files[0][0]} bytes written,"
          f" {sum(files[1].get(name) != at for name, at in files_after[1].items())} files changed")
    bound(f"RSS {when}", rss * 1.024 / 1000, 12, "MB")
    bound(f"ticks, switches, threads, bytes, files {when}", after[0] - look[0] + switches + threads + (files != files_after), 0, "together")


def idle(chosen):
    with Home(chosen.bin) as home:
        print("\n# Idle")
        home.run("daemon", "start")
        still(home, "after start", chosen.seconds)
        for number in range(50):
            home.run("run", "--no-uv", "-c", f"print({number})")
            home.run("jobs")
        still(home, "after 50 jobs", chosen.seconds)


def large(chosen):
    with Home(chosen.bin) as home:
        print("\n# Scripts of 15 MB, through stdin")
        home.run("daemon", "start")
        pid = home.pid()
        until_quiet(pid)
        print(f"RSS {rss_mb(pid):.1f} MB before")
        script = f"{home.path}/script"
        with open(script, "w") as file:
            file.write("#" * (15 << 20) + "\nprint('done')\n")
        for number in range(5):
            with open(script) as code:
                assert home.run("run", "--no-uv", "-", stdin=code) == "done\n"
            ended = rss_mb(pid)
            until_quiet(pid)
            print(f"RSS {ended:.1f} MB when job {number + 1} has ended, {rss_mb(pid):.1f} MB later, peak {peak_mb(pid):.1f} MB")
        home.run("jobs")
        home.run("show", home.json("jobs")["jobs"][0]["id"])
        until_quiet(pid, 12)
        print(f"RSS {rss_mb(pid):.1f} MB after jobs and show, peak {peak_mb(pid):.1f} MB")
        bound("RSS after large scripts", rss_mb(pid), 40, "MB")


PARTS = {part.__name__: part for part in (history, queue, running, clients, idle, large)}


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("parts", nargs="*", metavar="PART", help="of " + ", ".join(PARTS))
    options.add_argument("--finished", type=int, default=100_000, help="jobs in the history")
    options.add_argument("--queued", type=int, default=2_000)
    options.add_argument("--running", type=int, default=200)
    options.add_argument("--clients", type=int, default=64)
    options.add_argument("--seconds", type=int, default=60, help="how long an idle daemon is watched")
    options.add_argument("--rounds", type=int, default=200)
    options.add_argument("--bin", default=os.path.join(root, "target", "release"), help="where pyexec, pyexecd and pyexec-mcp are")
    chosen = options.parse_args()
    chosen.bin = os.path.abspath(chosen.bin)
    for part in chosen.parts:
        if part not in PARTS:
            options.error(f"there is no part {part}: there are {', '.join(PARTS)}")
    for program in ("pyexec", "pyexecd", "pyexec-mcp"):
        if not os.path.exists(os.path.join(chosen.bin, program)):
            sys.exit(f"no {os.path.join(chosen.bin, program)}: run `cargo build --release` first")
    # What has been found is shown before 100,000 directories are taken away again.
    sys.stdout.reconfigure(line_buffering=True)
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs, {chosen.rounds} rounds")
    for part in chosen.parts or PARTS:
        PARTS[part](chosen)
    print(f"\nmissed: {', '.join(MISSED)}" if MISSED else "\nall within their bounds")
    sys.exit(1 if MISSED else 0)


if __name__ == "__main__":
    main()
