# Saves the figures that are still open when a job's Python ends. Run once matplotlib has the module that keeps them, and
# with it its own function for the exit, which closes them all: what is registered later runs earlier.
#
# It never raises and never prints, and replaces nothing that the script has saved itself.
import _io
import atexit
import os
import sys

MOST = 20
pid = os.getpid()


class Quiet:
    """Neither warnings nor log messages. Where those modules are files of the user's, nothing is asked of them."""

    def __enter__(self):
        self.filters = self.logging = None
        warnings, logging = sys.modules.get("warnings"), sys.modules.get("logging")
        if hasattr(warnings, "catch_warnings"):
            self.filters = warnings.catch_warnings()
            self.filters.__enter__()
            warnings.simplefilter("ignore")
        if hasattr(logging, "CRITICAL"):
            self.logging, self.disabled = logging, logging.root.manager.disable
            logging.disable(logging.CRITICAL)

    def __exit__(self, *error):
        if self.logging is not None:
            self.logging.disable(self.disabled)
        if self.filters is not None:
            self.filters.__exit__(*error)


def save_open_figures():
    # A child that this process has forked has the figures, too.
    if os.getpid() != pid:
        return
    try:
        managers = sys.modules["matplotlib._pylab_helpers"].Gcf.get_all_fig_managers()
        with Quiet():
            for manager in sorted(managers, key=lambda manager: manager.num)[:MOST]:
                save(manager, _io.BytesIO())
    except BaseException:
        pass


def save(manager, drawn):
    try:
        # All of it before the file is there: a job that is killed meanwhile leaves no half of a picture.
        manager.canvas.figure.savefig(drawn, format="png")
        with open(os.path.join(artifacts, "figure-%s.png" % manager.num), "xb") as file:
            file.write(drawn.getvalue())
    except Exception:
        pass


atexit.register(save_open_figures)
