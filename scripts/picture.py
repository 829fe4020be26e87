#!/usr/bin/env -S pyexec run
# /// script
# requires-python = ">=3.9"
# dependencies = ["rich==14.0.0"]
# ///
"""Draws docs/survives.svg: what a terminal shows of pyexec when the daemon is killed under a running job.

    cargo build --release && PATH="$PWD/target/release:$PATH" pyexec run scripts/picture.py

Every line of the picture is what the programs on PATH print, in a home that is thrown away. Only the id of the job, which
is random, and the process id of the daemon differ from one run to the next.
"""

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 88
TRAIN = """\
import time

for epoch in range(1, 7):
    time.sleep(0.5)
    print(f"Epoch {epoch}/6  loss {1.9 / epoch:.3f}")
"""


def in_terminal(command, directory, environment):
    """What `command` prints on a terminal."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    process = subprocess.Popen(
        command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    printed = b""
    while True:
        try:
            piece = os.read(controller, 1 << 16)
        except OSError:
            break
        if not piece:
            break
        printed += piece
    os.close(controller)
    if process.wait() != 0:
        sys.exit(f"{command} failed: {printed.decode()}")
    return printed.decode().replace("\r\n", "\n")


def last_screen(printed):
    """Without the line that the client draws at the foot and takes away again."""
    return "\n".join(line.rsplit("\x1b[K", 1)[-1] for line in printed.split("\n"))


def main():
    pyexec = shutil.which("pyexec") or sys.exit("pyexec is not on PATH")
    with tempfile.TemporaryDirectory(prefix="pyexec-picture-") as home:
        environment = {
            "HOME": home,
            "PATH": f"{Path(pyexec).parent}:{os.environ['PATH']}",
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
        }
        work = Path(home, "work")
        work.mkdir()
        Path(work, "train.py").write_text(TRAIN)
        picture = Text()

        def show(shown, command):
            printed = last_screen(in_terminal(command, work, environment))
            picture.append("$ ", "bold green")
            picture.append(f"{shown}\n", "bold")
            picture.append_text(Text.from_ansi(printed.rstrip("\n") + "\n"))
            picture.append("\n")
            return printed

        try:
            printed = show("pyexec run -d --no-uv train.py", ["pyexec", "run", "-d", "--no-uv", "train.py"])
            job = printed.split()[0][:4]
            status = subprocess.run(["pyexec", "daemon", "status", "--json"], env=environment, capture_output=True)
            daemon = str(json.loads(status.stdout)["pid"])
            show(f"kill -9 {daemon}    # the daemon", ["kill", "-9", daemon])
            show(f"pyexec logs -f {job}", ["pyexec", "logs", "-f", job])
            show("pyexec jobs", ["pyexec", "jobs"])
        finally:
            subprocess.run(["pyexec", "daemon", "stop"], env=environment, stdout=subprocess.DEVNULL)
        console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)
        console.print(picture, end="")
        target = Path("docs/survives.svg")
        svg = console.export_svg(title="pyexec", unique_id="pyexec")
        # Nothing is loaded from elsewhere: the reader's own monospaced font will do.
        svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
        svg = re.sub(r"\s*<!--.*?-->", "", svg, flags=re.DOTALL)
        target.write_text(svg)
        print(f"wrote {target}")


main()
