"""Says what a script's header is to Python: one JSON object per line in, one per line out.

In:  {"script": text}
Out: {"blocks": [[type, content], ...],       found with the regular expression of PEP 723
      "metadata": the script block as TOML,   null without one, or where Python has no tomllib (before 3.11)
      "encoding": what Python decodes the script with, or null if it refuses to,
      "program": the syntax tree without positions, or null if it is not a program}
"""

import ast
import io
import json
import re
import sys
import tokenize
import warnings

try:
    import tomllib
except ImportError:
    tomllib = None

BLOCK = r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$"


def content(block):
    # By "\n" as the specification has it: str.splitlines would also split at U+2028 and others.
    lines = block.group("content").split("\n")[:-1]
    return "".join((line[2:] if line.startswith("# ") else line[1:]) + "\n" for line in lines)


def encoding(script):
    try:
        return tokenize.detect_encoding(io.BytesIO(script).readline)[0]
    except SyntaxError:
        return None


def program(script):
    try:
        return ast.dump(ast.parse(script))
    except (SyntaxError, ValueError):
        return None


def answer(script):
    # Scripts are read as text files: with every line end turned into "\n".
    text = io.TextIOWrapper(io.BytesIO(script), encoding="utf-8-sig").read()
    blocks = [(block.group("type"), content(block)) for block in re.finditer(BLOCK, text)]
    headers = [content for type, content in blocks if type == "script"]
    try:
        metadata = tomllib.loads(headers[0]) if headers and tomllib else None
    except tomllib.TOMLDecodeError:
        metadata = None
    return {"blocks": blocks, "metadata": metadata, "encoding": encoding(script), "program": program(script)}


warnings.simplefilter("ignore")
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line)["script"].encode("utf-8")), default=str), flush=True)
