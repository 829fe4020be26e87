"""Says what a script imports that neither Python itself nor the script's own directories have.

The script is read from stdin, the directories to look in are the arguments. The answer is one line of JSON:
{"imports": [...]}, sorted, or {"syntax_error": {"message": ..., "line": ... or null}}.

A name is as long as the script has it, because what provides `google.protobuf` is not what provides `google.auth`:
`import a.b` is `a.b`, and `from a.b import c` is `a.b.c`, whether or not `c` is a module.

Nothing of the script is run or imported. Runs on every Python since 3.8.
"""

import ast
import json
import os
import sys
import sysconfig
import warnings
from importlib.machinery import PathFinder

# What only other platforms have, where there is no list of the standard library (before 3.10).
ELSEWHERE = {"_msi", "_scproxy", "_winapi", "msilib", "msvcrt", "nt", "winreg", "winsound"}


def standard_library():
    # Always there, but in no list.
    names = {"__main__"}.union(sys.builtin_module_names)
    known = getattr(sys, "stdlib_module_names", None)
    if known is not None:
        return names.union(known)
    directories = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    directories.update([os.path.join(directory, "lib-dynload") for directory in directories])
    for directory in filter(os.path.isdir, directories):
        names.update(entry.name.split(".")[0] for entry in os.scandir(directory))
    return names.union(ELSEWHERE) - {"site-packages", "dist-packages", "test"}


def branches(node):
    """The branches of an `if` that run: a type checker's own does not."""
    test, negated = node.test, False
    while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test, negated = test.operand, not negated
    name = getattr(test, "attr", None) if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    if name != "TYPE_CHECKING":
        return node.body + node.orelse
    return node.body if negated else node.orelse


def imported(program):
    names = set()
    pending = [program]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                names.update(node.module if alias.name == "*" else node.module + "." + alias.name for alias in node.names)
        elif isinstance(node, ast.If):
            pending.extend(branches(node))
        elif not isinstance(node, ast.expr):
            # Imports are statements: no expression has one.
            pending.extend(ast.iter_child_nodes(node))
    return names


def has_modules(directories):
    return any(entry.name.endswith(".py") for directory in directories for entry in os.scandir(directory))


def is_local(name, directories):
    """Whether one of the directories has the module, as Python looks for it there.

    Any directory can be a package, also one of data that happens to have the name of a distribution: without an
    `__init__.py`, it counts only if it has what is imported from it.
    """
    first, _, rest = name.partition(".")
    try:
        found = PathFinder.find_spec(first, directories)
    except (ImportError, OSError, ValueError):
        return False
    if found is None:
        return False
    if found.origin is not None:
        return True
    places = list(found.submodule_search_locations)
    return is_local(rest, places) if rest else has_modules(places)


def answer(source, directories):
    try:
        program = ast.parse(source)
    except SyntaxError as error:
        return {"syntax_error": {"message": error.msg, "line": error.lineno}}
    except (ValueError, RecursionError, MemoryError) as error:
        # NUL characters, and nesting that is too deep for the parser.
        return {"syntax_error": {"message": str(error) or "too deeply nested", "line": None}}
    known = standard_library()
    names = (name for name in imported(program) if name.split(".")[0] not in known)
    return {"imports": sorted(name for name in names if not is_local(name, directories))}


warnings.simplefilter("ignore")
print(json.dumps(answer(sys.stdin.buffer.read(), sys.argv[1:])))
