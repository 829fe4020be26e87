# Prepares the Python of a job, and leaves no trace of itself. The name of the directory that holds this file says what is
# wanted (startup.rs). Python imports it before the job's own code, because the directory is the first in PYTHONPATH.
#
# It acts once, in the main interpreter of the job's own process. Children find the PYTHONPATH that the user has set, and
# a sub-interpreter, whose path still names this directory, only has it taken out.
#
# Three rules hold for this file and those beside it. Only modules that are built into the interpreter, or that it loads
# before any directory of the user's is looked into, are imported: any other name may be a file beside the script. All
# code bears the file name of importlib's own: tracers, profilers, coverage and tracebacks pass over that. And nothing
# that goes wrong here is printed.
FROZEN = "<frozen importlib._bootstrap_external>"
# Of the code that is being executed, and all functions in it. First of all, and without an import of its own: what is
# allocated is remembered with the file that allocated it.
__import__("_imp")._fix_co_filename(__import__("sys")._getframe().f_code, FROZEN)

import os
import sys
from _imp import _fix_co_filename


class PyexecModules:
    """Finds `pyexec_progress` where nobody else does: it is asked last, and passes on every other name."""

    __module__ = "pyexec"
    path = None

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname != "pyexec_progress":
            return None
        from _frozen_importlib_external import SourceFileLoader, spec_from_file_location

        class Loader(SourceFileLoader):
            def get_code(self, fullname):
                code = super().get_code(fullname)
                _fix_co_filename(code, FROZEN)
                return code

            def exec_module(self, module):
                # By these, some tracers tell files; `__spec__.origin` says the same.
                for name in ("__file__", "__cached__"):
                    module.__dict__.pop(name, None)
                super().exec_module(module)

        return spec_from_file_location(fullname, cls.path, loader=Loader(fullname, cls.path))


def vanish(file, cached):
    here = os.path.dirname(file)
    if here in sys.path:
        sys.path.remove(here)
    sys.path_importer_cache.pop(here, None)
    del sys.modules["sitecustomize"]
    if getattr(sys, "pycache_prefix", None) and cached:
        # Written into a directory of the user's, a moment ago.
        try:
            os.remove(cached)
            os.removedirs(os.path.dirname(cached))
        except OSError:
            pass
    return here


def prepare(here):
    """Returns what is to be done when the user's own sitecustomize has run."""
    shelf, wanted = os.path.split(here)
    wanted = wanted.split("-")
    first, colon, rest = os.environ.get("PYTHONPATH", "").partition(os.pathsep)
    if os.path.normpath(first) != here:
        # It has been put right before: this is a sub-interpreter.
        return None
    if colon or "blank" in wanted:
        os.environ["PYTHONPATH"] = rest
    else:
        del os.environ["PYTHONPATH"]
    if "lines" in wanted:
        streams = [sys.stdout] if sys.version_info >= (3, 9) else [sys.stdout, sys.stderr]
        for stream in streams:
            # Python 3.6 cannot; and a stream may have been closed.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(line_buffering=True)
    PyexecModules.path = os.path.join(shelf, "pyexec-modules", "pyexec_progress.py")
    sys.meta_path.append(PyexecModules)
    artifacts = os.environ.get("PYEXEC_ARTIFACTS")
    places = {"shelf": shelf, "artifacts": artifacts, "FROZEN": FROZEN, "__name__": "pyexec"}
    after = {"matplotlib": "backend.py"}
    if "figures" in wanted and artifacts:
        after["matplotlib._pylab_helpers"] = "figures.py"
    if os.environ.get("PYEXEC_PROGRESS"):
        after["rich.live"] = "rich_bars.py"
    watch_for(after, places)

    def begin():
        if "inline" in wanted and artifacts:
            script = os.path.join(os.path.dirname(artifacts), "code", "script.py")
            arm(sys.modules["_frozen_importlib_external"], script)
        if "profile" in wanted and artifacts and sys.version_info >= (3, 8):
            run_beside("profile.py", places)

    return begin


def run_beside(name, places):
    with open(os.path.join(places["shelf"], name), encoding="utf-8") as file:
        code = compile(file.read(), FROZEN, "exec")
    exec(code, dict(places))


# Runs a file of ours after a module has been executed. Nothing is done, but for one more call at each import, until all
# those modules are imported. It is not done by a finder, which a script would see in sys.meta_path.
def watch_for(after, places):
    from _frozen_importlib_external import PathFinder

    plain = PathFinder.__dict__["find_spec"]
    original = getattr(plain, "__func__", None)
    if not hasattr(original, "__code__"):
        # Somebody else's.
        return

    def find_spec(cls, fullname, path=None, target=None):
        spec = original(cls, fullname, path, target)
        if fullname in after and spec is not None and spec.loader is not None:
            run_after(spec.loader, after.pop(fullname), places)
            if not after and PathFinder.__dict__["find_spec"] is watching:
                PathFinder.find_spec = plain
        return spec

    if sys.version_info >= (3, 8):
        # In a profile, it is the function that it stands for.
        find_spec.__code__ = find_spec.__code__.replace(co_firstlineno=original.__code__.co_firstlineno)
    find_spec.__module__, find_spec.__qualname__ = original.__module__, original.__qualname__
    watching = PathFinder.find_spec = classmethod(find_spec)


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


# Code that was given inline is run from a file that lies elsewhere, and has to find modules in its working directory. After
# `site`, Python puts the script's directory first on its path, and then asks importlib for the loader of the script: that is
# the one moment at which the path can be put right. Python 3.9 and older look the class up by this name.
def arm(external, script):
    real = external.SourceFileLoader

    class SourceFileLoader(real):
        def __new__(cls, fullname, path, *rest):
            if cls is not SourceFileLoader:
                return real.__new__(cls)
            if fullname == "__main__" and path == script:
                disarm()
            return real(fullname, path, *rest)

    def disarm():
        external.SourceFileLoader = real
        # Imported by `usercustomize`, meanwhile.
        machinery = sys.modules.get("importlib.machinery")
        if getattr(machinery, "SourceFileLoader", None) is SourceFileLoader:
            machinery.SourceFileLoader = real
        folder = os.path.dirname(script)
        # Not with PYTHONSAFEPATH, where it is not put there.
        if sys.path and sys.path[0] in (folder, os.path.realpath(folder)):
            try:
                sys.path[0] = os.getcwd()
            except OSError:
                sys.path[0] = ""

    SourceFileLoader.__module__, SourceFileLoader.__qualname__ = real.__module__, real.__qualname__
    external.SourceFileLoader = SourceFileLoader


begin = None
try:
    begin = prepare(vanish(__file__, __spec__.cached))
except Exception:
    pass
# By these, a frame would be known as one of this file.
for name in ("__file__", "__cached__", "__spec__", "__loader__", "__package__"):
    globals().pop(name, None)
__name__ = "pyexec"

# The user's own, or the distribution's; or the ImportError of a start without one, which Python expects.
try:
    import sitecustomize
finally:
    try:
        if begin is not None:
            begin()
    except Exception:
        pass
