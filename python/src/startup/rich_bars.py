# Reports how far the bars of rich are: away from a terminal it draws none. Run once rich has the module that keeps a
# display up to date, from a thread of its own: that thread reports, too.
#
# Only the thread is replaced, so that no function that a script calls is another one, and no traceback has a line more.
# It never raises, and prints nothing.
import os
import sys

live = sys.modules["rich.live"]


class Message:
    """What a bar is called. What is markup in it is found out only for what is stored."""

    def __init__(self, description):
        self.description = description

    def __str__(self):
        try:
            return sys.modules["rich.text"].Text.from_markup(self.description).plain
        except Exception:
            return str(self.description)


def reporter():
    # A module of its own: importing the one that scripts import would be seen in sys.modules and sys.path.
    with open(os.path.join(shelf, "pyexec-modules", "pyexec_progress.py"), encoding="utf-8") as file:
        code = compile(file.read(), FROZEN, "exec")
    names = {"__name__": "pyexec_progress"}
    exec(code, names)
    return names["progress"]


progress = reporter()


def report(display):
    try:
        # A script that says how far it is knows better.
        own = getattr(sys.modules.get("pyexec_progress"), "_current", None)
        if own is not None and own.latest is not None:
            return
        bars = getattr(getattr(display, "_get_renderable", None), "__self__", None)
        if not isinstance(bars, sys.modules["rich.progress"].Progress):
            return
        tasks = [task for task in bars.tasks if task.visible]
        # The outermost is the first; of those that follow each other it is the one that goes on.
        shown = next((task for task in tasks if not task.finished), tasks[0])
        progress(shown.completed, shown.total, Message(shown.description))
    except Exception:
        pass


class Refreshing(live._RefreshThread):
    __module__ = "rich.live"

    def run(self):
        while not self.done.wait(1 / self.refresh_per_second):
            report(self.live)
            with self.live._lock:
                if not self.done.is_set():
                    self.live.refresh()

    def stop(self):
        super().stop()
        report(self.live)


live._RefreshThread = Refreshing
