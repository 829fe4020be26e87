"""Running scripts: what they are given, and what comes back."""

import os
import re
import signal
from pathlib import Path

from session import contains, holds, same


async def a_script_runs_in_a_directory(clients):
    work = Path.cwd()
    (work / "sub").mkdir()
    (work / "sub/show.py").write_text(
        "import os, sys\n"
        "print(sys.argv[1:], os.getcwd())\n"
        "print([os.environ.get(name) for name in ('CLIENT', 'FILE', 'CALL')])\n"
        "print('to stderr', file=sys.stderr)\n"
    )
    (work / "sub/.env").write_text("CLIENT=file\nFILE=file\nCALL=file\n")
    async with clients.session(CLIENT="client", FILE="client", CALL="client") as session:
        sub = str(work / "sub")
        for path in ("show.py", str(work / "sub/show.py")):
            ran = await session.fields(
                "py_run_script_in_dir",
                directory=sub,
                script_path=path,
                args=["a b", "ü", ""],
                env_file=".env",
                env_vars={"CALL": "call"},
                use_uv=False,
            )
            same(ran["stdout"], f"['a b', 'ü', ''] {sub}\n['file', 'file', 'call']\n")
            same(ran["stderr"], "to stderr\n")
            same((ran["exit_code"], ran["status"], ran["execution_strategy"]), (0, "completed", "system-python"))
            same(ran["resolved_dependencies"], [])
            holds(ran["elapsed_seconds"] > 0, ran)
            same((ran["stdout_bytes"], ran["stderr_bytes"]), (len(ran["stdout"].encode()), len("to stderr\n")))
        # Where the server was started is where a relative directory begins; the client's environment is the job's.
        ran = await session.fields("py_run_script_in_dir", directory="sub", script_path="show.py", use_uv=False)
        same(ran["stdout"], f"[] {sub}\n['client', 'client', 'client']\n")
        # Nothing of it is left in the directory.
        same(sorted(path.name for path in (work / "sub").iterdir()), [".env", "show.py"])

        text = await session.markdown("py_run_script_in_dir", directory=sub, script_path="show.py", use_uv=False)
        contains(text, "**Completed** · exit code 0 · ", f"stdout:\n```\n[] {sub}\n", "stderr:\n```\nto stderr\n```")


async def inline_code_gets_its_stdin_and_its_umask(clients):
    os.umask(0o027)
    code = "import os, sys; print(sys.stdin.read().upper(), sys.argv, oct(os.umask(0)))"
    async with clients.session() as session:
        ran = await session.run(code, stdin="grüße\n", args=["x"])
        same(ran["stdout"], "GRÜSSE\n ['script.py', 'x'] 0o27\n")
        # Without one, it has ended before it begins.
        same((await session.run("import sys; print(repr(sys.stdin.read()))"))["stdout"], "''\n")
        # Code that is too long for a command line.
        ran = await session.run("print('long')\n" + "#" * 200_000)
        same((ran["stdout"], ran["exit_code"]), ("long\n", 0))
        # A name without its prefix is another name for the same tool.
        ran = await session.run("print('old name')", tool="run_script_in_dir", job_label="labelled")
        same(ran["stdout"], "old name\n")
        listed = await session.fields("py_list_jobs", label_filter="labelled")
        same([job["id"] for job in listed["jobs"]], [ran["job_id"]])


async def a_script_that_fails_is_a_result(clients):
    async with clients.session() as session:
        ran = await session.run("import sys; print('so far'); sys.exit(3)")
        same((ran["exit_code"], ran["status"], ran["reason"], ran["stdout"]), (3, "failed", "exit", "so far\n"))

        ran = await session.run("1/0")
        same((ran["exit_code"], ran["status"]), (1, "failed"))
        contains(ran["stderr"], "ZeroDivisionError: division by zero")

        for number in (signal.SIGKILL, signal.SIGSEGV):
            ran = await session.run(f"import os; os.kill(os.getpid(), {int(number)})")
            same((ran["exit_code"], ran["status"], ran["reason"]), (-number, "failed", "signal"))

        ran = await session.run("import no_such_module_at_all")
        contains(ran["next_step"], "`no_such_module_at_all` is not installed", "auto_install_deps=true")

        text = await session.markdown(
            "py_run_script_in_dir", directory=".", script_content="raise SystemExit(3)", use_uv=False
        )
        contains(text, "**Failed** · exit code 3")


async def a_timeout_keeps_what_was_printed(clients):
    code = "import sys, time\nprint('before')\nprint('warned', end='', file=sys.stderr, flush=True)\ntime.sleep(600)"
    async with clients.session() as session:
        ran = await session.run(code, timeout_seconds=2)
        same((ran["status"], ran["reason"], ran["stdout"]), ("failed", "timed_out", "before\n"))
        same((ran["stderr"], ran["exit_code"]), ("warned\n[TIMEOUT]\n", -15))
        # The mark is made for the reader: it is neither in the log nor counted.
        same((ran["stderr_bytes"], ran["stdout_bytes"]), (6, 7))
        read = await session.fields("py_get_job_output", job_id=ran["job_id"])
        same((read["stderr"], read["next_stderr_cursor"], read["status"]), ("warned", 6, "finished"))
        status = await session.fields("py_job_status", job_id=ran["job_id"])
        same(status["job"]["result"], ran)
        same((status["job"]["status"], status["job"]["reason"]), ("failed", "timed_out"))

        text = await session.markdown("py_job_status", job_id=ran["job_id"])
        contains(text, "**Failed** (timed out) · exit code -15", "warned\n[TIMEOUT]\n```", "timeout_seconds")


async def output_is_bounded_and_says_how_to_read_the_rest(clients):
    code = "for line in range(2000): print(f'{line:06}')"
    everything = "".join(f"{line:06}\n" for line in range(2000))
    async with clients.session() as session:
        ran = await session.run(code, max_output_bytes=700)
        same(ran["stdout_bytes"], 14_000)
        holds(len(ran["stdout"]) < 1_000, ran)
        holds(ran["stdout"].startswith("000000\n") and ran["stdout"].endswith("001999\n"), ran["stdout"])
        contains(ran["next_step"], "py_get_job_output")
        gap = re.search(r"\[… (\d+) bytes left out: py_get_job_output\((.*)\) reads them …\]", ran["stdout"])
        holds(gap, ran["stdout"])
        left_out, arguments = int(gap[1]), dict(part.split("=") for part in gap[2].split(", "))
        same(arguments["job_id"], f'"{ran["job_id"]}"')
        cursor = int(arguments["stdout_cursor"])
        same(ran["stdout"][: gap.start()].rstrip("\n"), everything[:cursor].rstrip("\n"))
        same(ran["stdout"][gap.end() :].lstrip("\n"), everything[cursor + left_out :].lstrip("\n"))
        holds(len(everything) - left_out <= 700, ran)
        # The call that is named does read what is left out.
        read = await session.fields("py_get_job_output", job_id=ran["job_id"], stdout_cursor=cursor)
        same(read["stdout"][:left_out], everything[cursor : cursor + left_out])
        # By default it is 16 KiB, which this fits.
        same((await session.run(code))["stdout"], everything)


async def a_limit_reaches_the_job(clients):
    async with clients.session() as session:
        ran = await session.run("import os; print(os.nice(0))", limits={"nice": 7})
        # A job has no higher priority than its client.
        same(ran["stdout"], f"{max(7, os.nice(0))}\n")
