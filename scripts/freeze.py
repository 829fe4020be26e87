#!/usr/bin/env python3
"""Freezes what a build leaves on disk, for the tests of upgrades: scripts/freeze.py PROGRAMS VERSION

PROGRAMS is a directory with pyexec, pyexecd and pyexec-mcp of that build; VERSION names the directories made below
tests/fixtures. Jobs of every kind are run in a throw-away home. What the programs said of them then is kept beside what they
left, and tests/e2e/upgrade.rs holds every later build against it. What is frozen is never changed: a build that changes a
format is frozen under a name of its own, before the change.

Nothing of this machine is in the result: the home is /home/of-somebody, and the boot is BOOT. PYEXEC_UV names the uv to use.
"""

import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile

HOME = pathlib.Path("/home/of-somebody")
BOOT = "00000000-1111-4222-8333-444444444444"
DIRECTORIES = {"HOME": "home", "XDG_STATE_HOME": "state", "XDG_DATA_HOME": "data", "XDG_CACHE_HOME": "cache",
               "XDG_CONFIG_HOME": "config", "XDG_RUNTIME_DIR": "run", "TMPDIR": "tmp"}
CONFIG = """# Every setting that there was.
max_running = 3
output_buffering = "full"
output_bytes = 16777216
capture_figures = false
log = "info"
inherit_env = ["PATH", "LANG", "HOME", "XDG_*", "UV_*", "TMPDIR"]
environment_max_age = "12h"
environment_timeout = "5m"
environment_cache_bytes = 1073741824
scopes = "never"
retention_max_age = "36500days"
retention_max_jobs = 5000
retention_max_bytes = 2147483648
retention_min_age = "30m"
autosaved_scripts_max_age = "36500days"
autosaved_scripts_max_count = 500
"""
# A name, options and the code.
JOBS = {
    "completed": (["--label", "of-then"], "print('out')"),
    "failed": ([], "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"),
    "signalled": ([], "import os, signal; print('begun', flush=True); os.kill(os.getpid(), signal.SIGSEGV)"),
    "timed-out": (["--timeout", "500ms"], "import time; print('begun', flush=True); time.sleep(600)"),
    "too-much-memory": (["--max-memory", "64M"],
                        "import time; print('begun', flush=True); x = b'x' * (200 << 20); time.sleep(600)"),
    "too-much-cpu": (["--max-cpu", "1"], "print('begun', flush=True)\nwhile True: pass"),
    "too-many-processes": (["--max-processes", "2"],
                           "import subprocess, time; print('begun', flush=True)\n"
                           "x = [subprocess.Popen(['sleep', '600']) for _ in range(4)]; time.sleep(600)"),
    "too-much-output": (["--max-output", "4K", "--on-output-limit", "stop"],
                        "while True: print('a line of too many')"),
    # The first segment, the second one, which is dropped, and ten lines of a third.
    "dropped-output": (["--max-output", "4K"], "for n in range(2 * 65536 + 10): print(f'{n:0127}')"),
    "measured": (["--bench", "--runs", "3", "--warmup", "1", "--sample-interval", "10ms"],
                 "import time; print('measured'); x = b'x' * (20 << 20); time.sleep(0.05)"),
    "profiled": (["--profile", "--top", "5"], "def busy(): return sum(range(100000))\nprint(busy())"),
    "artifacts": ([], "import os, pathlib\nthere = pathlib.Path(os.environ['PYEXEC_ARTIFACTS'])\n"
                      "(there / 'below').mkdir()\n(there / 'table.csv').write_text('a,b\\n')\n"
                      "(there / 'below' / 'näme.txt').write_text('deep')"),
    "progress": ([], "import pyexec_progress\npyexec_progress.progress(3, 4, 'three of four')"),
    "drawn-progress": ([], "import sys\nfor n in range(0, 51, 10): sys.stderr.write(f'\\r{2 * n:3}%|x| {n}/50 "
                           "[00:01<00:00,  1.00it/s]')"),
    "with-variables": (["-e", "GIVEN=secret", "--env-file", "given.env"],
                       "import os; print(len(os.environ['GIVEN']), len(os.environ['FROM_FILE']))"),
    "leftovers-kept": (["--keep-leftovers"], "print('done')"),
    "fenced": (["--network", "none", "--filesystem", "read-only"],
               "try: open('written', 'w')\nexcept OSError as error: print(error.strerror)"),
}


class Home:
    def __init__(self, programs):
        if HOME.exists():
            sys.exit(f"{HOME} exists already: it is to be made and removed here")
        for directory in [*DIRECTORIES.values(), "work", "wheels"]:
            (HOME / directory).mkdir(parents=True, mode=0o700)
        self.programs = programs
        self.variables = {name: str(HOME / directory) for name, directory in DIRECTORIES.items()} | {
            "PATH": f"{HOME}/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "PYEXEC_DAEMON": str(HOME / "bin/pyexecd"),
            "PYEXEC_UV": str(HOME / "bin/uv"), "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(HOME / "wheels"),
            "UV_CACHE_DIR": str(HOME / "uv-cache"), "UV_PYTHON_DOWNLOADS": "never"}
        bin = HOME / "bin"
        bin.mkdir()
        for program in ["pyexec", "pyexecd", "pyexec-mcp"]:
            shutil.copy(programs / program, bin / program)
        shutil.copy(os.environ["PYEXEC_UV"], bin / "uv")
        (HOME / "config/pyexec").mkdir()
        (HOME / "config/pyexec/config.toml").write_text(CONFIG)
        (HOME / "config/uv").mkdir()
        (HOME / "config/uv/uv.toml").write_text(f'no-index = true\nfind-links = ["{HOME}/wheels"]\n')

    def start(self, *arguments, **options):
        return subprocess.Popen([HOME / "bin/pyexec", *arguments], env=self.variables, cwd=HOME / "work",
                                stdin=options.pop("stdin", subprocess.DEVNULL), stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, **options)

    def said(self, *arguments, codes=(0,), text=None):
        process = self.start(*arguments, stdin=subprocess.DEVNULL if text is None else subprocess.PIPE)
        out, err = process.communicate(text)
        if codes is not None and process.returncode not in codes:
            sys.exit(f"{arguments} ended with {process.returncode}:\n{out.decode()}\n{err.decode()}")
        return out.decode()

    def submit(self, *arguments, text=None):
        return self.said("run", "-d", *arguments, text=text).strip()

    def show(self, job):
        return json.loads(self.said("show", job, "--json"))["job"]

    def until(self, what, look):
        deadline = time.monotonic() + 60
        while not look():
            if time.monotonic() > deadline:
                sys.exit(f"it never came true that {what}")
            time.sleep(0.01)

    def until_running(self, job):
        self.until(f"{job} runs", lambda: self.show(job)["status"] == "running")

    def run_directory(self, job):
        return HOME / "state/pyexec/jobs" / job

    def identity(self, job):
        return json.loads((self.run_directory(job) / "supervisor.json").read_text())


def wheel(name, version):
    info = f"{name}-{version}.dist-info"
    files = {f"{name}.py": f"__version__ = '{version}'\n",
             f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
             f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(HOME / "wheels" / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), text)


def finished_jobs(home):
    """Runs a job of every kind that can end, and returns their ids by name."""
    work = HOME / "work"
    (work / "given.env").write_text("FROM_FILE=of then\n")
    jobs = {name: home.submit("--no-uv", *options, "-c", code) for name, (options, code) in JOBS.items()}
    for job in jobs.values():
        home.said("wait", job, codes=None)
    (work / "script.py").write_text("import sys; print(sys.argv[1:])\n")
    jobs["file"] = home.submit("--no-uv", "script.py", "an argument", "--option")
    jobs["text-on-stdin"] = home.submit("--no-uv", "--stdin", "-c", "print(input())", text=b"a line\n")
    if "-m MODULE" in home.said("run", "--help"):
        jobs["module"] = home.submit("--no-uv", "-m", "json.tool", "--help")
    # Environments.
    wheel("frozen_package", "1.0")
    version = "import frozen_package; print(frozen_package.__version__)"
    jobs["with-package"] = home.submit("--with", "frozen_package", "-c", version)
    home.said("env", "create", "of-then", "--with", "frozen_package==1.0")
    jobs["in-named-environment"] = home.submit("--environment", "of-then", "-c", version)
    (work / "header.py").write_text(f"# /// script\n# dependencies = ['frozen_package']\n# ///\n{version}\n")
    jobs["with-header"] = home.submit("header.py")
    jobs["no-such-package"] = home.submit("--with", "there-is-no-such-package", "-c", "print('never')")
    # Scripts that are kept.
    (work / "kept.py").write_text("# Greets.\nprint('kept')\n")
    home.said("scripts", "save", "of_then.py", "kept.py")
    jobs["saved-script"] = home.said("scripts", "run", "-d", "of_then.py").strip()
    # Input, while it runs.
    jobs["interactive"] = home.submit("--no-uv", "-i", "-c", "print(input()); print(input())")
    home.until_running(jobs["interactive"])
    home.said("send", jobs["interactive"], "first")
    home.said("send", jobs["interactive"], "second", "--eof")
    for job in jobs.values():
        home.said("wait", job, codes=None)
    jobs["cancelled"] = home.submit("--no-uv", "-c", "import time; print('begun', flush=True); time.sleep(600)")
    home.until("it has begun", lambda: home.said("logs", jobs["cancelled"]) == "begun\n")
    home.said("kill", jobs["cancelled"])
    # Its supervisor dies, and it with that.
    jobs["lost"] = home.submit("--no-uv", "-c", "import time; print('begun', flush=True); time.sleep(600)")
    home.until("it has begun", lambda: home.said("logs", jobs["lost"]) == "begun\n")
    os.kill(home.identity(jobs["lost"])["pid"], signal.SIGKILL)
    home.said("wait", jobs["lost"], codes=None)
    return jobs


def unfinished_jobs(home):
    sleeper = "import time; print('begun', flush=True); time.sleep(600)"
    runs = {name: home.submit("--no-uv", *options, "-c", sleeper) for name, options in
            [("running", []), ("running-measured", ["--bench"]), ("running-interactive", ["-i"])]}
    for job in runs.values():
        home.until_running(job)
        home.until("it has begun", lambda: home.said("logs", job) == "begun\n")
    waiting = home.submit("--no-uv", "--dir", "/", "-c", "import os; print(os.environ['GIVEN'])")
    cancelled = home.submit("--no-uv", "--dir", "/", "-c", "print('never')")
    home.said("kill", cancelled)
    return runs, {"waiting": waiting, "cancelled-while-queued": cancelled}


def autosaved_script(home):
    """Code that an agent runs is autosaved."""
    server = subprocess.Popen([HOME / "bin/pyexec-mcp"], env=home.variables, cwd=HOME / "work", stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def ask(number, method, parameters):
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
        server.stdin.write(json.dumps(message) + "\n")
        server.stdin.flush()
        while True:
            answer = json.loads(server.stdout.readline())
            if answer.get("id") == number:
                return answer

    ask(1, "initialize", {"protocolVersion": "2025-06-18", "capabilities": {},
                          "clientInfo": {"name": "freeze", "version": "1"}})
    server.stdin.write('{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')
    arguments = {"script_content": "print('autosaved')\n", "env_vars": {"TOKEN": "secret"}, "directory": str(HOME / "work")}
    answer = ask(2, "tools/call", {"name": "py_run_script_in_dir", "arguments": arguments})
    if answer.get("result", {}).get("isError", True):
        sys.exit(f"py_run_script_in_dir: {answer}")
    server.stdin.close()
    server.wait()
    text = json.dumps(answer)
    return next(path.name for path in home.run_directory("").iterdir() if path.name in text)


def told(home, job):
    artifacts = json.loads(home.said("artifacts", job, "--json"))["artifacts"]
    stdout = home.said("logs", job, "--stdout")
    return {"job": home.show(job), "stdout_length": len(stdout.encode()), "stdout_end": stdout[-1000:],
            "stderr": subprocess.run([HOME / "bin/pyexec", "logs", job, "--stderr"], env=home.variables,
                                     capture_output=True).stderr.decode(),
            "artifacts": artifacts}


def neutral(tree, boot):
    """Takes the machine out of every file below a directory."""
    host = f'"host":"{os.uname().nodename}"'.encode()
    for path in tree.rglob("*"):
        if path.is_socket():
            path.unlink()
        elif path.is_file() and not path.is_symlink() and path.suffix != ".sqlite3":
            content = path.read_bytes().replace(boot.encode(), BOOT.encode())
            path.write_bytes(content.replace(host, b'"host":"of-somebody"'))


def main():
    programs, version = pathlib.Path(sys.argv[1]), sys.argv[2]
    fixtures = pathlib.Path(__file__).resolve().parent.parent / "tests/fixtures"
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    home = Home(programs)
    try:
        finished = finished_jobs(home)
        finished["autosaved"] = autosaved_script(home)
        for client in ["claude-code", "claude-desktop", "cursor", "vscode", "zed", "codex"]:
            home.said("mcp", "install", "--client", client)
        running, queued = unfinished_jobs(home)
        jobs = finished | running | queued
        saying = {name: told(home, job) for name, job in jobs.items()}
        environments = home.said("env", "list", "--json")
        scripts = home.said("scripts", "list", "--autosaved", "--json")
        # A daemon that is killed leaves everything as it is.
        status = json.loads(home.said("daemon", "status", "--json"))
        os.kill(status["pid"], signal.SIGKILL)
        home.until("the daemon is gone", lambda: not pathlib.Path(f"/proc/{status['pid']}/exe").exists())

        for name, job in jobs.items():
            to = fixtures / "run-directories" / version / name
            # An environment is a secret. The first segment of what was dropped is 8 MiB that the test writes itself.
            left_out = ["environment"] if name in queued else ["stdout.0"] if name == "dropped-output" else []
            ignore = shutil.ignore_patterns(*left_out)
            shutil.copytree(home.run_directory(job), to, symlinks=True, ignore=ignore)
            neutral(to, boot)
        for name, text in saying.items():
            path = fixtures / "told" / version / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(text, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        index = fixtures / "index" / version / "jobs.sqlite3"
        index.parent.mkdir(parents=True)
        with sqlite3.connect(HOME / "state/pyexec/jobs.sqlite3") as live, sqlite3.connect(index) as copy:
            live.backup(copy)
            copy.execute("UPDATE daemon SET boot_id = ?", (BOOT,))
            copy.commit()
            copy.execute("PRAGMA journal_mode = DELETE")
            copy.execute("VACUUM")
        for path in (HOME / "state/pyexec").iterdir():
            if path.is_file() and not path.name.startswith("jobs.sqlite3") and path.name != "start.lock":
                shutil.copy(path, index.parent)
        neutral(index.parent, boot)
        settings = fixtures / "settings" / version
        shutil.copytree(HOME / "config", settings / "config")
        shutil.copytree(HOME / "data", settings / "data")
        shutil.copytree(HOME / "home", settings / "home", ignore=shutil.ignore_patterns(".cache", ".local"))
        shutil.copytree(HOME / "wheels", settings / "wheels")
        (settings / "environments.json").write_text(environments)
        (settings / "scripts.json").write_text(scripts)
        neutral(settings, boot)
        # Wherever this checkout lies.
        here = "/".join(pathlib.Path(__file__).resolve().parts[:2])[1:] + "/"
        leftovers = subprocess.run(["grep", "-rlaE", f"{boot}|/root|/tmp|{here}|pyenv", *[
            fixtures / kind / version for kind in ["run-directories", "told", "index", "settings"]]],
            capture_output=True, text=True).stdout
        if leftovers:
            print(f"these files name something of this machine:\n{leftovers}", file=sys.stderr)
    finally:
        mark = str(HOME).encode()
        for process in pathlib.Path("/proc").iterdir():
            try:
                if process.name.isdigit() and mark in (process / "environ").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                pass
        time.sleep(0.2)
        shutil.rmtree(HOME)


main()
