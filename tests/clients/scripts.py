"""Scripts that are kept."""

import os
from pathlib import Path

from session import contains, holds, same

SOURCE = '"""Says the version.\n\nAnd what it was given."""\nimport sys, six\nprint(six.__version__, sys.argv[1:])\n'


async def a_script_is_saved_and_found_again(clients):
    kept = Path(os.environ["XDG_DATA_HOME"]) / "pyexec/scripts"
    async with clients.session() as session:
        same(await session.fields("py_list_scripts"), {"scripts": []})
        saved = await session.fields(
            "py_save_script",
            script_name="version",
            source=SOURCE,
            dependencies=["six==1.16.0"],
            requires_python=">=3.8",
        )
        same((saved["written"], saved["path"]), (True, str(kept / "version.py")))
        contains(saved["message"], "saved `version.py`", "PEP 723 header")
        source = (kept / "version.py").read_text()
        contains(source, "# /// script\n", '"six==1.16.0"', 'requires-python = ">=3.8"', SOURCE)

        listed = (await session.fields("py_list_scripts"))["scripts"]
        expected = {
            "name": "version.py",
            "path": str(kept / "version.py"),
            "docstring": "Says the version.\n\nAnd what it was given.",
            "dependencies": ["six==1.16.0"],
            "requires_python": ">=3.8",
            "autosaved": False,
        }
        same(listed, [expected])
        contains(await session.markdown("py_list_scripts"), "| `version.py` | Says the version.", "six==1.16.0", ">=3.8")

        viewed = await session.fields("py_view_script", script_name="version")
        same(viewed, {"name": "version.py", "path": str(kept / "version.py"), "source": source, "metadata": None})
        contains(await session.markdown("py_view_script", script_name="version.py"), "**version.py**", SOURCE)

        for name in ("version", "version.py"):
            ran = await session.fields("py_run_saved_script", script_name=name, args=["a b"])
            same((ran["stdout"], ran["exit_code"]), ("1.16.0 ['a b']\n", 0))
            same(ran["resolved_dependencies"], ["six==1.16.0"])
        text = await session.markdown("py_run_saved_script", script_name="version")
        contains(text, "**Completed** · exit code 0", "1.16.0 []")


async def a_script_is_replaced_only_when_asked(clients):
    async with clients.session() as session:
        text = await session.markdown("py_save_script", script_name="x", source="print(1)")
        contains(text, "saved `x.py`", 'py_run_saved_script(script_name="x.py")')
        await session.refused("py_save_script", "`x.py`", "overwrite=true", script_name="x", source="print(2)")
        saved = await session.fields("py_save_script", script_name="x", source="print(2)", overwrite=True)
        contains(saved["message"], "replaced `x.py`")
        same((await session.fields("py_view_script", script_name="x"))["source"], "print(2)")
        # Of a header that is there, nothing is changed.
        header = "# /// script\n# dependencies = []\n# ///\nprint(3)\n"
        saved = await session.fields("py_save_script", script_name="y", source=header, dependencies=["six"])
        contains(saved["message"], "its own PEP 723 header was kept")
        same((await session.fields("py_view_script", script_name="y"))["source"], header)

        for name in ("../x", "/tmp/x", "a/b", ".x", "..", "", "a\0b"):
            await session.refused("py_save_script", "script name", script_name=name, source="1")
            for tool in ("py_view_script", "py_run_saved_script"):
                await session.refused(tool, "script name", script_name=name)
        for tool in ("py_view_script", "py_run_saved_script"):
            await session.refused(tool, "no such saved script: none.py", "py_list_scripts", script_name="none")
        listed = (await session.fields("py_list_scripts"))["scripts"]
        same([script["name"] for script in listed], ["x.py", "y.py"])


async def inline_code_is_kept_without_its_secrets(clients):
    work = Path("sub")
    work.mkdir()
    async with clients.session() as session:
        code = "import os, sys; print(len(os.environ['TOKEN']), len(sys.stdin.read()))"
        ran = await session.run(
            code, directory="sub", env_vars={"TOKEN": "verysecret"}, stdin="alsosecret", job_label="with secrets"
        )
        same(ran["stdout"], "10 10\n")
        same((await session.fields("py_list_scripts"))["scripts"], [])
        listed = (await session.fields("py_list_scripts", include_autosaved=True))["scripts"]
        same([script["autosaved"] for script in listed], [True])
        viewed = await session.fields("py_view_script", script_name=listed[0]["name"], autosaved=True)
        same(viewed["source"], code)
        kept = Path(os.environ["XDG_DATA_HOME"]) / "pyexec/autosaved_scripts"
        same(Path(viewed["path"]).parent, kept)
        contains(str(viewed["metadata"]), "py_run_script_in_dir", "'TOKEN': '***'", "with secrets")
        text = await session.markdown("py_view_script", script_name=listed[0]["name"], autosaved=True)
        contains(text, code, "with secrets")
        for path in kept.iterdir():
            holds("secret" not in path.read_text().replace("with secrets", ""), path)
        # Nothing of it is in the directory it ran in.
        same(list(work.iterdir()), [])
