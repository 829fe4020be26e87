"""Plays one scenario with one client: `drive.py CLIENT SCENARIO [--structured] SERVER…`, in a directory of its own.

CLIENT is `current`, `legacy` or `handshake` (session.py). It is silent and exits with 0 if all is as it should be;
otherwise it says what is not, and exits with 1.
"""

import sys
import traceback
import warnings

import anyio

import environments
import jobs
import output
import running
import scripts
import surface
from session import Clients, Wrong


def cause(error):
    """What a group of tasks failed with, first of all."""
    while inner := getattr(error, "exceptions", None):
        error = inner[0]
    return error


def main():
    # That subscribing is an old way is known.
    warnings.simplefilter("ignore")
    client, scenario, *server = sys.argv[1:]
    structured = server[0] == "--structured"
    clients = Clients(client, structured, server[1:] if structured else server)
    modules = (running, environments, jobs, output, scripts, surface)
    found = [getattr(module, scenario) for module in modules if hasattr(module, scenario)]
    if not found:
        sys.exit(f"there is no scenario {scenario}")
    try:
        anyio.run(found[0], clients)
    except BaseException as error:
        error = cause(error)
        traceback.print_exception(error)
        if isinstance(error, Wrong):
            print(f"\n{scenario} with {client}: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
