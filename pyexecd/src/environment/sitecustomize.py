# Makes a job's lines appear as they are printed, and `pyexec_progress` importable; of all else it leaves no trace.
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
    # The directory's name says what is wanted.
    if os.path.basename(here) == "line":
        if sys.stdout is not None:
            sys.stdout.reconfigure(line_buffering=True)
        if sys.version_info < (3, 9) and sys.stderr is not None:
            sys.stderr.reconfigure(line_buffering=True)
    sys.meta_path.append(PyexecModules)
    del sys.modules["sitecustomize"]


prepare_and_vanish()

# The user's own, or the distribution's; or the ImportError of a start without one, which Python expects.
import sitecustomize
