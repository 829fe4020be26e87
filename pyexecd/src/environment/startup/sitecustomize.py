# Makes a job's lines appear as they are printed, and `pyexec_progress` importable; of all else it leaves no trace. Where
# more is wanted of the job's Python, it is seen to here, too: the name of this file's directory says what.
#
# Python runs this before the job's own code. `python -u` would do the first at five times the price, and with torn lines.
import os
import sys


class PyexecModules:
    """Finds `pyexec_progress` where nobody else does: asked last, and about anything else it says nothing."""

    path = os.path.join(os.path.dirname(os.path.dirname(__file__)), "pyexec-modules", "pyexec_progress.py")

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "pyexec_progress":
            return None
        from _frozen_importlib_external import spec_from_file_location

        return spec_from_file_location(name, cls.path)


def prepare_and_vanish():
    here = os.path.dirname(__file__)
    if here in sys.path:
        sys.path.remove(here)
    sys.path_importer_cache.pop(here, None)
    # What the user's PYTHONPATH was, for this process and for those it starts.
    rest = os.environ.pop("PYTHONPATH", "").partition(os.pathsep)[2]
    if rest:
        os.environ["PYTHONPATH"] = rest
    shelf, wanted = os.path.split(here)
    wanted = wanted.split("-")
    if "lines" in wanted:
        if sys.stdout is not None:
            sys.stdout.reconfigure(line_buffering=True)
        if sys.version_info < (3, 9) and sys.stderr is not None:
            sys.stderr.reconfigure(line_buffering=True)
    sys.meta_path.append(PyexecModules)
    places = {"shelf": shelf, "artifacts": os.environ.get("PYEXEC_ARTIFACTS")}
    after = {}
    if "figures" in wanted and places["artifacts"]:
        after["matplotlib._pylab_helpers"] = "figures.py"
    if os.environ.get("PYEXEC_PROGRESS"):
        after["rich.live"] = "rich_bars.py"
    watch_for(after, places)
    del sys.modules["sitecustomize"]
    if "profile" in wanted and places["artifacts"]:
        return lambda: run_beside("profile.py", places)
    return lambda: None


def run_beside(name, places):
    path = os.path.join(places["shelf"], name)
    with open(path, encoding="utf-8") as file:
        code = compile(file.read(), path, "exec")
    exec(code, dict(places, __name__=name, __file__=path))


# Of matplotlib and rich these are the modules to run something after: nothing is done, but for one more call at each
# import, until they are imported. Not by a finder of our own, which a script would see in sys.meta_path.
def watch_for(after, places):
    from _frozen_importlib_external import PathFinder

    plain = PathFinder.__dict__["find_spec"]

    def find_spec(cls, fullname, path=None, target=None):
        spec = plain.__func__(cls, fullname, path, target)
        if fullname in after and spec is not None and spec.loader is not None:
            run_after(spec.loader, after.pop(fullname), places)
            if not after:
                PathFinder.find_spec = plain
        return spec

    if after:
        PathFinder.find_spec = classmethod(find_spec)


def run_after(loader, name, places):
    execute = loader.exec_module

    def exec_module(module):
        del loader.exec_module
        execute(module)
        try:
            run_beside(name, places)
        except Exception:
            pass

    loader.exec_module = exec_module


begin = prepare_and_vanish()

# The user's own, or the distribution's; or the ImportError of a start without one, which Python expects.
try:
    import sitecustomize
finally:
    begin()
