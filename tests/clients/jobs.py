"""Jobs that outlive the call that started them, the server, and the daemon."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from session import contains, holds, same, until, whatever_happens

# Says where it has got to, and waits for a file.
WAITS = """
import os, sys, time
print('begun', flush=True)
while not os.path.exists({file!r}): time.sleep(0.005)
print('went on')
print('to stderr', file=sys.stderr)
sys.exit(4)
"""


def pid_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"


def kill_server():
    """The one of this client: its only child."""
    mine = [task / "children" for task in Path("/proc/self/task").iterdir()]
    children = [int(pid) for file in mine for pid in file.read_text().split()]
    servers = [pid for pid in children if b"pyexec-mcp" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    same(len(servers), 1, "servers")
    os.kill(servers[0], signal.SIGKILL)


async def kill_daemon():
    status = subprocess.run(
        [os.environ["PYEXEC_TEST_CLI"], "daemon", "status", "--json"], stdout=subprocess.PIPE, check=True
    )
    pid = json.loads(status.stdout)["pid"]
    os.kill(pid, signal.SIGKILL)

    async def gone():
        return not pid_alive(pid)

    await until("the daemon is gone", gone)


async def printed(session, job_id):
    """Returns once it has printed something; what `py_job_status` says then."""
    return await session.fields("py_job_status", job_id=job_id, until="output", cursor="0.0", wait_seconds=45)


async def a_job_is_started_without_waiting(clients):
    code = WAITS.format(file="go")
    async with clients.session() as session:
        started = await session.run(code, tool="py_run_script_in_dir_async", job_label="async")
        same((started["status"], started["execution_strategy"]), ("started", "system-python"))
        same((started["python_version_used"], started["resolved_dependencies"]), (None, []))
        submitted = await session.run(code, async_mode=True)
        holds(submitted["status"] in ("pending", "running"), submitted)
        contains(submitted["message"], f'py_job_status(job_id="{submitted["job_id"]}"')
        text = await session.markdown(
            "py_run_script_in_dir_async", directory=".", script_content="pass", use_uv=False, stream=False
        )
        contains(text, "**Started** · job `", "**Next:** py_job_status(job_id=")

        for job_id in (started["job_id"], submitted["job_id"]):
            status = await printed(session, job_id)
            same((status["job"]["status"], status["job"]["result"]), ("running", None))
            same((status["new_stdout"], status["new_stderr"]), ("begun\n", ""))
        Path("go").touch()
        for job_id in (started["job_id"], submitted["job_id"]):
            job = (await session.finished(job_id))["job"]
            same((job["status"], job["reason"], job["exit_code"]), ("failed", "exit", 4))
            same((job["result"]["stdout"], job["result"]["stderr"]), ("begun\nwent on\n", "to stderr\n"))


async def a_job_over_the_budget_goes_on_and_its_result_is_what_inline_would_have_been(clients):
    arguments = {"code": WAITS.format(file="go"), "job_label": "promoted"}
    async with clients.session(SMART_ASYNC_TIMEOUT_SECONDS="0.5") as session:
        begun = time.monotonic()
        promoted = await session.run(**arguments)
        holds(time.monotonic() - begun >= 0.5, "it was not waited for")
        job_id, status = promoted["job_id"], promoted["status"]
        # Python has begun by then, unless the machine is very busy.
        holds((status, promoted["stdout"]) in (("running", "begun\n"), ("running", ""), ("pending", "")), promoted)
        contains(promoted["message"], f"still {status}", "after 0.50 s", f'py_job_status(job_id="{job_id}", wait_seconds=45)')
        await printed(session, job_id)
        running = (await session.fields("py_list_running_jobs"))["jobs"]
        same([(job["job_id"], job["running"], job["label"]) for job in running], [(job_id, True, "promoted")])
        pid = running[0]["pid"]
        holds(pid_alive(pid), "the process has gone")
        text = await session.markdown(
            "py_run_script_in_dir", directory=".", script_content=arguments["code"], use_uv=False
        )
        contains(text, "**Still ", " after 0.50 s · job `", "goes on in the background", "**Next:** py_job_status(")
        # The same process, all the time.
        same((await session.fields("py_job_status", job_id=job_id))["job"]["status"], "running")
        same((await session.fields("py_list_running_jobs"))["jobs"][-1]["pid"], pid)

        Path("go").touch()
        status = await session.finished(job_id)
    # One that ends in time is answered inline.
    async with clients.session() as session:
        inline = await session.run(**arguments)
    result = status["job"]["result"]
    own = ("job_id", "elapsed_seconds", "wall_time_seconds", "cpu_time_seconds", "peak_rss_mb")
    same(result.keys(), inline.keys(), "fields of a result")
    same(*({name: value for name, value in fields.items() if name not in own} for fields in (result, inline)))
    same((result["job_id"], result["exit_code"], result["stdout"]), (job_id, 4, "begun\nwent on\n"))
    holds(result["elapsed_seconds"] >= 0.5, result)


async def a_result_is_the_same_after_everything_was_killed(clients):
    code = "import sys; print('grüße ✓'); print('err', file=sys.stderr); sys.exit(5)"
    waiting = WAITS.format(file="go")
    async with whatever_happens():
        async with clients.session() as session:
            inline = await session.run(code, job_label="kept")
            before = await session.raw("py_job_status", job_id=inline["job_id"])
            text_before = await session.markdown("py_job_status", job_id=inline["job_id"])
            same(json.loads(before)["job"]["result"], inline)
            survivor = await session.start(waiting)
            await printed(session, survivor)
            pid = (await session.fields("py_list_running_jobs"))["jobs"][0]["pid"]
            kill_server()
    await kill_daemon()
    async with clients.session() as session:
        same(await session.raw("py_job_status", job_id=inline["job_id"]), before)
        same(await session.markdown("py_job_status", job_id=inline["job_id"]), text_before)
        # What ran, runs.
        running = (await session.fields("py_list_running_jobs"))["jobs"]
        same([(job["job_id"], job["pid"]) for job in running], [(survivor, pid)])
        Path("go").touch()
        job = (await session.finished(survivor))["job"]
        same((job["exit_code"], job["result"]["stdout"]), (4, "begun\nwent on\n"))


async def what_is_new_is_told_once(clients):
    code = (
        "import sys\n"
        "for line in sys.stdin:\n"
        "    print('got', line.strip(), flush=True)\n"
        "    print('err', line.strip(), file=sys.stderr, flush=True)\n"
    )
    async with clients.session() as session:
        job_id = await session.start(code, open_stdin=True)

        async def news(cursor, expected):
            """Of one line: both streams, which need not come at once."""
            seen = ["", ""]
            while seen != expected:
                holds(all(whole.startswith(part) for whole, part in zip(expected, seen)), (seen, expected))
                status = await session.fields(
                    "py_job_status", job_id=job_id, until="output", cursor=cursor, wait_seconds=45
                )
                same(status["job"]["status"], "running")
                seen[0] += status["new_stdout"]
                seen[1] += status["new_stderr"]
                cursor = status["next_cursor"]
            return cursor

        async def send(text, **arguments):
            sent = await session.fields("py_send_input", job_id=job_id, text=text, **arguments)
            same((sent["job_id"], sent["bytes_written"]), (job_id, len(text.encode())))

        await send("eins\n")
        cursor = await news("0.0", ["got eins\n", "err eins\n"])
        same(cursor, "9.9")
        # There is nothing new.
        status = await session.fields("py_job_status", job_id=job_id, cursor=cursor)
        same((status["new_stdout"], status["new_stderr"], status["next_cursor"]), ("", "", "9.9"))
        await send("zwei ü\n")
        cursor = await news(cursor, ["got zwei ü\n", "err zwei ü\n"])
        # Without a cursor, the end of what there is.
        status = await session.fields("py_job_status", job_id=job_id)
        same(status["new_stdout"], "got eins\ngot zwei ü\n")
        same(status["next_cursor"], cursor)
        status = await session.fields("py_job_status", job_id=job_id, incremental=False)
        holds("new_stdout" not in status and "next_cursor" not in status, status)
        same((status["job"]["result"], status["job"]["progress"]), (None, None))
        text = await session.markdown("py_job_status", job_id=job_id[:8], cursor=cursor)
        contains(text, "**Running** · ", f"job `{job_id}`", "No new output.", f'cursor="{cursor}"')

        await send("", close=True)
        status = await session.finished(job_id, cursor=cursor)
        same((status["new_stdout"], status["job"]["status"]), ("", "completed"))
        same(status["job"]["result"]["stdout"], "got eins\ngot zwei ü\n")
        await session.refused("py_send_input", "py_job_status", job_id=job_id, text="more")
        await session.refused("py_job_status", 'invalid `cursor` "next"', job_id=job_id, cursor="next")


async def input_is_for_jobs_that_were_started_with_it(clients):
    async with clients.session() as session:
        job_id = await session.start(WAITS.format(file="go"))
        await session.refused("py_send_input", "open_stdin=true", job_id=job_id, text="hello")
        Path("go").touch()
        await session.finished(job_id)
        await session.refused("py_send_input", job_id=job_id, text="hello")
        await session.refused(
            "py_run_script_in_dir",
            "stdin and open_stdin are both given",
            directory=".",
            script_content="pass",
            stdin="x",
            open_stdin=True,
        )
        job_id = await session.start("import sys; print(sys.stdin.read()[::-1])", open_stdin=True)
        text = await session.markdown("py_send_input", job_id=job_id, text="abc", close=True)
        contains(text, f"Wrote 3 of 3 bytes to job `{job_id}`. Its stdin is closed.")
        same((await session.finished(job_id))["job"]["result"]["stdout"], "cba\n")


async def jobs_are_listed_by_status_and_label_page_by_page(clients):
    async with clients.session() as session:
        same(await session.fields("py_list_jobs"), {"jobs": [], "total": 0, "next_page": None})
        same(await session.fields("py_list_running_jobs"), {"jobs": []})
        made = []
        for number in range(5):
            ran = await session.run(f"raise SystemExit({number % 2})", job_label=f"label {number % 2}")
            made.insert(0, ran["job_id"])
        waiting = await session.start(WAITS.format(file="go"), job_label="waits")
        await printed(session, waiting)
        made.insert(0, waiting)

        async def ids(**filters):
            listed = await session.fields("py_list_jobs", **filters)
            same(listed["total"], len(listed["jobs"]))
            same(listed["next_page"], None)
            return [job["id"] for job in listed["jobs"]]

        same(await ids(), made)
        same(await ids(status_filter="running"), made[:1])
        same(await ids(status_filter="failed"), [made[2], made[4]])
        same(await ids(status_filter="completed"), [made[1], made[3], made[5]])
        same(await ids(label_filter="label 1", status_filter="failed"), [made[2], made[4]])
        same(await ids(label_filter="label 1", status_filter="completed"), [])

        # Page by page everything comes once; the total is of all of it.
        seen, page = [], {}
        for expected in (4, 2):
            listed = await session.fields("py_list_jobs", limit=4, **page)
            same((len(listed["jobs"]), listed["total"]), (expected, 6))
            seen += [job["id"] for job in listed["jobs"]]
            page = {"page": listed["next_page"]}
        same((seen, page), (made, {"page": None}))

        job = listed["jobs"][-1]
        same((job["label"], job["status"], job["exit_code"], job["directory"]), ("label 0", "completed", 0, os.getcwd()))
        for name in ("created_at", "started_at", "completed_at"):
            holds(job[name].endswith("Z") and "T" in job[name], job)

        running = (await session.fields("py_list_running_jobs"))["jobs"]
        same(len(running), 1)
        job = running[0]
        same((job["job_id"], job["running"], job["exit_code"], job["stream"]), (waiting, True, None, True))
        same((job["stdout_bytes"], job["stderr_bytes"], job["label"], job["progress"]), (6, 0, "waits", None))
        holds(pid_alive(job["pid"]) and job["elapsed_seconds"] >= 0, job)
        contains(await session.markdown("py_list_running_jobs"), waiting, "| waits |")
        text = await session.markdown("py_list_jobs", limit=2)
        contains(text, "2 of 6 jobs.", waiting, "**Next:** py_list_jobs(limit=2, page=")
        Path("go").touch()
        await session.finished(waiting)


async def jobs_are_cancelled_and_killed(clients):
    stubborn = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('begun')\ntime.sleep(600)"
    async with clients.session() as session:

        async def begun(code):
            job_id = await session.start(code)
            await printed(session, job_id)
            return job_id

        for tool, code, arguments, status, exit_code in (
            ("py_cancel_job", WAITS.format(file="never"), {}, "cancelled", -15),
            ("py_cancel_job", stubborn, {"grace_seconds": 0.2}, "cancelled", -9),
            ("py_kill_job", stubborn, {}, "killed", -9),
        ):
            job_id = await begun(code)
            stopped = await session.fields(tool, job_id=job_id, **arguments)
            same(stopped, {"job_id": job_id, "status": status, "exit_code": exit_code})
            job = (await session.fields("py_job_status", job_id=job_id))["job"]
            same((job["status"], job["exit_code"], job["result"]["stdout"]), ("cancelled", exit_code, "begun\n"))
            for tool in ("py_cancel_job", "py_kill_job"):
                stopped = await session.fields(tool, job_id=job_id)
                same(stopped, {"job_id": job_id, "status": "already-finished", "exit_code": exit_code})
        ran = await session.run("raise SystemExit(3)")
        stopped = await session.fields("py_cancel_job", job_id=ran["job_id"])
        same((stopped["status"], stopped["exit_code"]), ("already-finished", 3))

        job_id = await begun(WAITS.format(file="never"))
        contains(await session.markdown("py_cancel_job", job_id=job_id), f"**Cancelled** · exit code -15 · job `{job_id}`")
        contains(await session.markdown("py_kill_job", job_id=job_id), "**Already finished** (cancelled)")


async def finished_jobs_are_forgotten_when_asked(clients):
    async with clients.session() as session:
        good = await session.run("print('good')")
        bad = await session.run("raise SystemExit(1)")
        waiting = await session.start(WAITS.format(file="go"))
        await printed(session, waiting)

        # Nothing is a day old.
        pruned = await session.fields("py_prune_jobs")
        same((pruned["removed"], pruned["remaining"], pruned["bytes_freed"]), (0, 3, 0))
        would = await session.fields("py_prune_jobs", max_age_hours=0, dry_run=True)
        same((would["removed"], would["remaining"]), (2, 1))
        holds(would["bytes_freed"] > 0, would)
        same((await session.fields("py_list_jobs"))["total"], 3)
        contains(await session.markdown("py_prune_jobs", max_age_hours=0, dry_run=True), "Would remove 2 jobs")

        pruned = await session.fields("py_prune_jobs", max_age_hours=0, keep_failed=True)
        same((pruned["removed"], pruned["remaining"]), (1, 2))
        await session.refused("py_job_status", f"no job `{good['job_id']}`", "py_list_jobs", job_id=good["job_id"])
        pruned = await session.fields("py_prune_jobs", max_age_hours=0, keep_completed=True)
        same((pruned["removed"], pruned["remaining"]), (1, 1))
        await session.refused("py_get_job_output", "no job", job_id=bad["job_id"])
        Path("go").touch()
        await session.finished(waiting)
