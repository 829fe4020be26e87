# Saves the figures that are still open when a job's Python ends. Run once matplotlib has the module that keeps them, and
# with it its own function for the exit, which closes them all: what is registered later runs earlier.
#
# It never raises and never prints, and replaces nothing that the script has saved itself.
import atexit
import os
import sys
import warnings

MOST = 20
pid = os.getpid()

# With a display, plt.show() warns that there is no window to show: the figure is kept, and that is what was wanted.
warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive|Matplotlib is currently using agg", UserWarning)


def save_open_figures():
    # A child that this process has forked has the figures, too.
    if os.getpid() != pid:
        return
    try:
        from io import BytesIO
        import logging

        managers = sys.modules["matplotlib._pylab_helpers"].Gcf.get_all_fig_managers()
        disabled = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for manager in sorted(managers, key=lambda manager: manager.num)[:MOST]:
                    save(manager, BytesIO())
        finally:
            logging.disable(disabled)
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
