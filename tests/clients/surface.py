"""What the server offers, and how it refuses."""

from pathlib import Path

import anyio

from jobs import WAITS
from session import PATIENCE, Refused, contains, holds, same, until

CORE = [
    "py_run_script_in_dir",
    "py_run_script_with_dependencies",
    "py_job_status",
    "py_list_jobs",
    "py_get_job_output",
    "py_cancel_job",
]
RUN = [
    "py_run_script_in_dir",
    "py_run_script_with_dependencies",
    "py_benchmark_script",
    "py_profile_script",
    "py_run_script_in_dir_async",
    "py_run_script_with_dependencies_async",
    "py_run_saved_script",
]
READ = [
    "py_job_status",
    "py_list_jobs",
    "py_list_running_jobs",
    "py_get_job_output",
    "py_list_environments",
    "py_list_scripts",
    "py_view_script",
]
CHANGE = [
    "py_send_input",
    "py_cancel_job",
    "py_kill_job",
    "py_prune_jobs",
    "py_create_environment",
    "py_save_script",
]


async def tools_say_what_they_are(clients):
    async with clients.session() as session:
        # The stateless version, or the last one with a handshake.
        same(session.version, "2026-07-28" if clients.is_stateless else "2025-11-25")
        same(session.server_name, "pyexec")
        for capability in ("tools", "resources", "prompts", "completions"):
            holds(capability in session.capabilities, session.capabilities)
        same(session.capabilities["resources"]["subscribe"], True)
        tools = await session.tools()
        same(await session.tools(), tools, "the list of tools, twice")
        names = [tool["name"] for tool in tools]
        missing = {*RUN, *READ, *CHANGE} - {*names}
        same(missing, set(), "missing tools")
        same(len(names), len({*names}))
        for tool in tools:
            name, hints = tool["name"], tool["annotations"]
            holds(tool["title"] and tool["description"], name)
            same(tool["inputSchema"]["type"], "object", name)
            holds("markdown_output" in tool["inputSchema"]["properties"], name)
            same("outputSchema" in tool, clients.structured, f"{name} declares an output schema")
            same(hints["readOnlyHint"], name in READ, f"{name} only reads")
            same(hints["openWorldHint"], name not in READ and name not in CHANGE, f"{name} reaches out")
            same(sorted(hints), ["destructiveHint", "idempotentHint", "openWorldHint", "readOnlyHint"], name)
    async with clients.session("--toolset", "core") as session:
        core = await session.tools()
        same([tool["name"] for tool in core], [name for name in names if name in CORE])
        same(core, [tool for tool in tools if tool["name"] in CORE])
        await unknown(session, "py_kill_job")


async def unknown(session, name):
    try:
        answered = await session.result(name, {})
    except Refused as error:
        same(error.code, -32602)
        contains(error.message, name)
        return
    holds(False, f"{name} is no tool, and was answered with {answered}")


async def a_call_that_makes_no_sense_says_what_and_what_next(clients):
    run = {"directory": ".", "use_uv": False}
    async with clients.session() as session:
        await unknown(session, "py_no_such_tool")
        await unknown(session, "py_py_job_status")
        imagined = "01234567-89ab-4cde-8f01-23456789abcd"
        for tool, arguments, parts in (
            ("py_run_script_in_dir", run | {"script_path": "a.py", "script_content": "1"}, ["are both given"]),
            ("py_run_script_in_dir", run, ["neither script_path nor script_content"]),
            ("py_run_script_in_dir_async", run, ["neither script_path nor script_content"]),
            ("py_run_script_with_dependencies", {}, ["neither script_path nor script_content"]),
            ("py_run_script_in_dir", {"script_content": "1"}, ["`directory` is missing"]),
            ("py_run_script_in_dir", {"directory": "/no/such", "script_content": "1"}, ["/no/such", "directory"]),
            ("py_run_script_in_dir", run | {"script_path": "missing.py"}, ["missing.py", "script_content"]),
            ("py_run_script_in_dir", run | {"script_content": "1", "env_file": "no.env"}, ["no.env", "env_file"]),
            ("py_run_script_in_dir", run | {"script_content": 1}, ["`script_content` is 1, not text"]),
            ("py_run_script_in_dir", run | {"script_content": "1", "args": "x"}, ['`args` is "x"', "a list"]),
            ("py_run_script_in_dir", run | {"script_content": "1", "timeout_seconds": "soon"}, ["timeout_seconds"]),
            ("py_run_script_in_dir", run | {"script_content": "1", "tiemout_seconds": 1}, ["`timeout_seconds`?"]),
            ("py_run_script_in_dir", run | {"script_content": "1", "env_vars": {"A": 1}}, ["`A`", "quotes"]),
            ("py_run_script_in_dir", run | {"script_content": "1", "limits": {"speed": 1}}, ["limits.speed"]),
            ("py_job_status", {"job_id": imagined}, [f"no job `{imagined}`", "py_list_jobs"]),
            ("py_job_status", {"job_id": "my job"}, ["my job", "py_list_jobs"]),
            ("py_job_status", {"job_id": imagined, "until": "end"}, ["exit, output"]),
            ("py_job_status", {"job_id": imagined, "wait_seconds": 46}, ["`wait_seconds` is 46", "45"]),
            ("py_get_job_output", {"job_id": imagined}, [imagined, "py_list_jobs"]),
            ("py_send_input", {"job_id": imagined, "text": ""}, [imagined, "py_list_jobs"]),
            ("py_cancel_job", {"job_id": imagined}, [imagined, "py_list_jobs"]),
            ("py_kill_job", {"job_id": imagined}, [imagined, "py_list_jobs"]),
            ("py_list_jobs", {"status_filter": "done"}, ["pending, running, completed, failed, cancelled"]),
            ("py_list_jobs", {"page": "two"}, ["page", "two"]),
            ("py_list_jobs", {"limit": 0}, ["`limit` is 0"]),
            ("py_prune_jobs", {"max_age_hours": -1}, ["`max_age_hours` is -1"]),
            ("py_list_environments", {"name": "x"}, ["no parameter `name`"]),
        ):
            await session.refused(tool, *parts, **arguments)
        Path("bad.env").write_text("GOOD=1\n=x\n")
        await session.refused(
            "py_run_script_in_dir", "bad.env", "line 2", script_content="1", env_file="bad.env", **run
        )
        same((await session.fields("py_list_jobs"))["total"], 0, "what is refused is no job")


async def prompts_are_filled_in_and_ids_completed(clients):
    async with clients.session() as session:
        ran = await session.run("print('got so far'); raise ValueError('wrong')")
        other = await session.run("pass")
        prompts = await session.prompts()
        same(
            [(prompt["name"], [(a["name"], a["required"]) for a in prompt["arguments"]]) for prompt in prompts],
            [
                ("debug_failed_job", [("job_id", True)]),
                ("write_script", [("task", True), ("script_name", False)]),
            ],
        )
        text = await session.prompt("debug_failed_job", job_id=ran["job_id"])
        contains(text, ran["job_id"], "print('got so far')", "ValueError: wrong", "**Failed** · exit code 1")
        text = await session.prompt("write_script", task="count the words", script_name="words.py")
        contains(text, "count the words", "# /// script", 'py_save_script(script_name="words.py")')
        for name, arguments in (("debug_failed_job", {}), ("debug_failed_job", {"job_id": "ffff"}), ("none", {})):
            try:
                text = await session.prompt(name, **arguments)
            except Refused as error:
                same(error.code, -32602)
            else:
                holds(False, f"{name} {arguments} gave {text}")

        ids = [other["job_id"], ran["job_id"]]
        same(await completed(session.complete_template("job-stream://{job_id}", "")), ids)
        same(await completed(session.complete_template("job-stream://{job_id}", ids[1][:13])), ids[1:])
        same(await completed(session.complete_prompt("debug_failed_job", ids[0])), ids[:1])
        same(await completed(session.complete_prompt("debug_failed_job", "no id")), [])


async def completed(request):
    completion = await request
    same((completion["total"], completion["hasMore"]), (len(completion["values"]), False))
    return completion["values"]


async def progress_is_told_while_a_call_waits(clients):
    told = []

    async def progress(so_far, total, message):
        told.append((so_far, total, message))
        if len(told) > 1 and message == "running, 6 bytes on stdout, 0 on stderr":
            Path("go").touch()

    async with clients.session() as session:
        ran = await session.run(WAITS.format(file="go"), progress=progress)
        same((ran["stdout"], ran["exit_code"]), ("begun\nwent on\n", 4))
    holds(len(told) >= 2, told)
    amounts = [so_far for so_far, _, _ in told]
    same(amounts, sorted(set(amounts)), "it only grows")
    same({total for _, total, _ in told}, {20.0})


async def a_call_that_is_taken_back_cancels_its_job(clients):
    async with clients.session() as session:
        with anyio.fail_after(PATIENCE):
            given = {"directory": ".", "script_content": WAITS.format(file="never"), "use_uv": False}

            async def runs():
                async def listed():
                    return (await session.fields("py_list_jobs", status_filter="running"))["jobs"]

                return await until("the job runs", listed)

            await session.give_up("py_run_script_in_dir", given, runs)
        listed = (await session.fields("py_list_jobs"))["jobs"]
        same(len(listed), 1)
        job = (await session.finished(listed[0]["id"]))["job"]
        same((job["status"], job["exit_code"]), ("cancelled", -15))
        # The session is none the worse for it.
        same((await session.run("print('next')"))["stdout"], "next\n")


async def a_client_that_leaves_leaves_its_jobs(clients):
    async with clients.session() as session:
        job_id = await session.start(WAITS.format(file="go"))
    async with clients.session() as session:
        same((await session.fields("py_job_status", job_id=job_id))["job"]["result"], None)
        Path("go").touch()
        same((await session.finished(job_id))["job"]["exit_code"], 4)
        same((await session.fields("py_list_jobs"))["total"], 1)
