"""Scripts in environments that uv makes."""

import json
import os

from session import contains, holds, same


def versions():
    """Minor versions of Python that are here."""
    return json.loads(os.environ["PYEXEC_TEST_PYTHONS"])


async def the_version_of_python_is_the_one_asked_for(clients):
    code = "import sys; print(*sys.version_info[:2], sep='.')"
    async with clients.session() as session:
        for version in versions()[-2:]:
            for tool in ("py_run_script_in_dir", "py_run_script_with_dependencies"):
                ran = await session.fields(tool, directory=".", script_content=code, python_version=version)
                same(ran["stdout"], f"{version}\n")
                same(ran["python_version_used"].split(".")[:2], version.split("."))
                same((ran["execution_strategy"], ran["exit_code"], ran["stderr"]), ("uv-run", 0, ""))
        await session.refused(
            "py_run_script_in_dir", "3.99", directory=".", script_content=code, python_version="3.99"
        )
        await session.refused(
            "py_run_script_in_dir", "minor version", directory=".", script_content=code, python_version="three"
        )
        await session.refused(
            "py_run_script_in_dir",
            "`python_version` cannot be combined with use_uv=false",
            directory=".",
            script_content=code,
            python_version="3.12",
            use_uv=False,
        )
        listed = await session.fields("py_list_jobs")
        same(listed["total"], len(versions()[-2:]) * 2, "what is refused is no job")


async def packages_that_are_asked_for_can_be_imported(clients):
    code = "import six; print(six.__version__)"
    async with clients.session() as session:
        ran = await session.fields(
            "py_run_script_with_dependencies", script_content=code, dependencies=["six==1.16.0"]
        )
        # What uv says while it builds comes first on stderr, this once.
        contains(ran["stderr"], "six==1.16.0")
        same((ran["stdout"], ran["exit_code"]), ("1.16.0\n", 0))
        same(ran["resolved_dependencies"], ["six==1.16.0"])
        same((ran["status"], ran["execution_strategy"]), ("completed", "uv-run"))
        holds(ran["python_version_used"].startswith("3."), ran)
        again = await session.fields(
            "py_run_script_with_dependencies", script_content=code, dependencies=["six == 1.16.0"]
        )
        same((again["stdout"], again["stderr"]), ("1.16.0\n", ""))
        same(again["resolved_dependencies"], ["six==1.16.0"])
        text = await session.markdown(
            "py_run_script_with_dependencies", script_content=code, dependencies=["six==1.16.0"]
        )
        contains(text, "**Completed** · exit code 0 · ", "Installed: six==1.16.0", "stdout:\n```\n1.16.0\n```")

        # What is imported and not named is added when asked.
        ran = await session.fields(
            "py_run_script_with_dependencies", script_content="import six; print(six.__name__)", auto_install_deps=True
        )
        same(ran["stdout"], "six\n")
        same([package.split("==")[0] for package in ran["resolved_dependencies"]], ["six"])

        # By its header.
        header = "# /// script\n# dependencies = ['six==1.16.0']\n# ///\n"
        ran = await session.fields("py_run_script_with_dependencies", script_content=header + code)
        same((ran["stdout"], ran["resolved_dependencies"]), ("1.16.0\n", ["six==1.16.0"]))

        # Without waiting.
        started = await session.fields(
            "py_run_script_with_dependencies_async", script_content=code, dependencies=["six==1.16.0"]
        )
        same(started["status"], "started")
        holds(started["resolved_dependencies"] in ([], ["six==1.16.0"]), started)
        holds("python_version_used" in started, started)
        status = await session.finished(started["job_id"])
        same(status["job"]["result"]["stdout"], "1.16.0\n")
        same(status["job"]["result"]["resolved_dependencies"], ["six==1.16.0"])


async def what_does_not_resolve_is_an_error_that_says_why(clients):
    impossible = ["six==1.16.0", "six==1.15.0"]
    async with clients.session() as session:
        result = await session.refused(
            "py_run_script_with_dependencies", "six==1.1", script_content="print('ran')", dependencies=impossible
        )
        contains(result["content"][0]["text"], "the job could not be started", "`dependencies`")
        if session.structured:
            fields = result["structuredContent"]
            same((fields["status"], fields["reason"], fields["exit_code"]), ("failed", "environment", None))
        await session.refused(
            "py_run_script_with_dependencies",
            "not a requirement!",
            script_content="print('ran')",
            dependencies=["not a requirement!"],
        )
        # Two in one are not a third.
        await session.refused(
            "py_run_script_with_dependencies", "six idna", script_content="print('ran')", dependencies=["six idna"]
        )
        # Asked about later, it is a job that has failed.
        started = await session.fields(
            "py_run_script_with_dependencies_async", script_content="print('ran')", dependencies=impossible
        )
        job = (await session.finished(started["job_id"]))["job"]
        same((job["status"], job["reason"], job["exit_code"]), ("failed", "environment", None))
        contains(job["error"], "six==1.1")
        same(job["result"]["error"], job["error"])


async def an_environment_is_made_once_and_used_by_its_name(clients):
    async with clients.session() as session:
        same(await session.fields("py_list_environments"), {"environments": []})
        made = await session.fields("py_create_environment", name="kept", dependencies=["six==1.16.0"])
        same((made["name"], made["packages"], made["used_by"]), ("kept", ["six==1.16.0"], []))
        holds(made["bytes"] > 0 and made["id"] and made["python"].startswith("3."), made)
        text = await session.markdown("py_create_environment", name="other")
        contains(text, "Environment **other**", 'environment="other"')
        await session.refused("py_create_environment", "`kept`", "there is one of this name", name="kept")

        code = "import six; print(six.__version__)"
        ran = await session.fields("py_run_script_with_dependencies", script_content=code, environment="kept")
        same((ran["stdout"], ran["resolved_dependencies"]), ("1.16.0\n", ["six==1.16.0"]))
        listed = (await session.fields("py_list_environments"))["environments"]
        listed = [kept for kept in listed if kept["name"] != "other"]
        same([(kept["name"], kept["id"], kept["packages"]) for kept in listed], [("kept", made["id"], ["six==1.16.0"])])
        contains(await session.markdown("py_list_environments"), "| kept | ", made["id"], "six==1.16.0")

        await session.refused(
            "py_run_script_with_dependencies",
            "no such environment: none",
            "py_list_environments",
            script_content=code,
            environment="none",
        )
        await session.refused(
            "py_run_script_with_dependencies",
            "`environment` and `dependencies` are both given",
            script_content=code,
            environment="kept",
            dependencies=["six"],
        )
        await session.refused("py_create_environment", "`name` is missing", dependencies=[])


async def a_benchmark_says_what_it_took(clients):
    code = "import six, time; print(six.__version__); time.sleep(0.02)"
    async with clients.session() as session:
        given = {"script_content": code, "dependencies": ["six==1.16.0"]}
        ran = await session.fields("py_benchmark_script", **given)
        same((ran["stdout"], ran["exit_code"], ran["resolved_dependencies"]), ("1.16.0\n", 0, ["six==1.16.0"]))
        same(ran["peak_rss_scope"], "tree_sampled")
        holds(ran["wall_time_seconds"] >= 0.02, ran)
        holds(0 < ran["cpu_time_seconds"] and 1 < ran["peak_rss_mb"], ran)

        ran = await session.fields("py_benchmark_script", runs=3, warmup_runs=1, sample_interval=0.005, **given)
        benchmark = ran["benchmark"]
        same((benchmark["runs"], benchmark["warmup_runs"], benchmark["failed_runs"]), (3, 1, 0))
        for name in ("wall_time_seconds", "cpu_time_seconds", "peak_rss_mb"):
            of = benchmark[name]
            holds(0 < of["min"] <= of["mean"] <= of["max"] and of["stddev"] >= 0, (name, of))
        same(ran["wall_time_seconds"], benchmark["wall_time_seconds"]["mean"])
        job = (await session.fields("py_job_status", job_id=ran["job_id"]))["job"]
        same(job["result"], ran)

        text = await session.markdown("py_benchmark_script", runs=2, **given)
        contains(text, "**Completed** · exit code 0", "2 runs:", "| wall time (s) |", "peak memory of ")
        # What ran unmeasured says what it took all the same.
        ran = await session.run("pass")
        same(ran["peak_rss_scope"], "largest_process")
        holds(ran["wall_time_seconds"] > 0 and ran["peak_rss_mb"] > 1, ran)
        await session.refused("py_benchmark_script", "`runs` is 0", runs=0, **given)
