"""Has the programs in COPY/bin find the libraries in COPY/lib, where they were built to look in ORIGINAL/lib.

    relocate.py ORIGINAL COPY

A Python with a shared library has the absolute path of it in its RPATH. It is replaced by one that begins at the program,
and is never longer.
"""

import pathlib
import sys

original, copy = sys.argv[1:]
old = f"{original}/lib".encode() + b"\0"
new = b"$ORIGIN/../lib\0".ljust(len(old), b"\0")
if len(new) > len(old):
    sys.exit(f"{original} is too short a path to be replaced: move this Python elsewhere")
for program in pathlib.Path(copy, "bin").iterdir():
    if program.is_symlink() or not program.is_file():
        continue
    data = program.read_bytes()
    if data.startswith(b"\x7fELF") and old in data:
        program.write_bytes(data.replace(old, new))
