# Gives matplotlib a backend that opens no window, unless the user has chosen one: by MPLBACKEND or a matplotlibrc. Run once
# matplotlib itself is there, and pyplot is not. `matplotlib.use` goes on to work.
#
# Nothing of it is in the environment: a process that the job starts, such as the kernel of a notebook, chooses for itself.
import sys
from os import environ

matplotlib = sys.modules["matplotlib"]
# Read and set as they are kept: the mapping's own methods choose a backend when they are asked for it.
chosen = dict.get(matplotlib.rcParams, "backend")
if chosen is not None and chosen is getattr(sys.modules.get("matplotlib.rcsetup"), "_auto_backend_sentinel", None):
    dict.__setitem__(matplotlib.rcParams, "backend", "agg")
    # Where there is a display, plt.show() would warn that there is no window to show: that is what was wanted.
    ignore = getattr(sys.modules.get("warnings"), "filterwarnings", None)
    if ignore is not None and ("DISPLAY" in environ or "WAYLAND_DISPLAY" in environ):
        ignore("ignore", "FigureCanvasAgg is non-interactive|Matplotlib is currently using agg", UserWarning)
