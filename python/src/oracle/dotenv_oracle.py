"""Says how python-dotenv reads a file: one JSON object per line in, one per line out.

In:  {"text": base64 of the file, "environment": {name: value}}
Out: {"not_utf8": true}, or
     {"values": [[name, value or null], ...],
      "statements": [{"line": first line of it, "name": ..., "value": ..., "error": bool}, ...]}
"""

import base64
import json
import logging
import os
import re
import sys
import tempfile

from dotenv import dotenv_values
from dotenv.parser import parse_stream


def statement(binding):
    # python-dotenv counts blank lines before a statement as part of it.
    before = re.match(r"\s*", binding.original.string).group()
    return {
        "line": binding.original.line + before.count("\n"),
        "name": binding.key,
        "value": binding.value,
        "error": binding.error,
    }


def answer(case, path):
    with open(path, "wb") as file:
        file.write(base64.b64decode(case["text"]))
    os.environ.clear()
    os.environ.update(case["environment"])
    try:
        values = dotenv_values(path, interpolate=True)
        with open(path, encoding="utf-8") as stream:
            statements = [statement(binding) for binding in parse_stream(stream)]
    except UnicodeDecodeError:
        return {"not_utf8": True}
    return {"values": list(values.items()), "statements": statements}


logging.disable(logging.CRITICAL)
with tempfile.TemporaryDirectory() as directory:
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), os.path.join(directory, ".env"))), flush=True)
