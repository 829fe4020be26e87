"""Tell pyexec how far a script has got: ``progress(current, total=None, message=None)``.

Inside a job of pyexec this module can be imported without installing it. Elsewhere, use

    try:
        from pyexec_progress import progress
    except ImportError:
        def progress(*_): pass

or copy this file beside the script: outside of a job it does nothing. It prints nothing and raises nothing, can be
called as often as one likes and from any thread. At most 10 reports a second are stored, of all processes of a job
together, and what a burst leaves is a moment later; the last one of a process is, unless it is killed or many end at once.
"""

# Of these, `os` and `sys` are there before any script, and the others are built into the interpreter: a file beside the
# script that is called as one of them is not what is imported. So nothing else of the standard library is imported here.
import os
import sys
from _thread import RLock, allocate_lock, start_new_thread
from time import monotonic, sleep, time

__all__ = ["progress"]

# Stores are paid for with tokens, which all processes of the job share: no more than 2 + 4 in any second, and 4 beyond
# that for what processes say when they end or fork.
_MOST, _PER_SECOND, _OVERDRAFT = 2.0, 4.0, 4.0
# Seconds over which the rate is smoothed.
_MEMORY = 15.0
_MESSAGE = 200


# As much of JSON as a record takes.
def _json(record):
    return "{%s}" % ", ".join('"%s": %s' % (name, _value(value)) for name, value in record)


def _value(value):
    if value is None:
        return "null"
    if isinstance(value, str):
        return '"%s"' % "".join(map(_letter, value))
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError("no number that can be stored")
    return repr(value)


def _letter(letter):
    number = ord(letter)
    if number > 0xFFFF:
        number -= 0x10000
        return "\\u%04x\\u%04x" % (0xD800 | number >> 10, 0xDC00 | number & 0x3FF)
    return letter if 32 <= number < 127 and letter not in '"\\' else "\\u%04x" % number


# Of a record: no text in it has a quotation mark.
def _number(record, name):
    return float(record.split('"%s": ' % name, 1)[1].replace("}", ",").split(",", 1)[0])


class _Reporter:
    def __init__(self, path):
        self.path = path
        self.lock = RLock()
        self.next = 0.0
        self.latest = None
        self.done = None
        self.first = None
        self.last = None
        self.rate = None
        self.armed = False
        # Of the thread that stores what a burst has left: whether there is one, what ends it, and which it is.
        self.waits = False
        self.wake = None
        self.thread = None

    # At the end, and before a fork: Python warns of those where there is a second thread.
    def finish(self):
        self.end_wait()
        self.store(monotonic(), _OVERDRAFT)

    def wait(self):
        # The next report would store this one, and may be an hour away.
        self.waits = True
        try:
            self.wake = allocate_lock()
            self.wake.acquire()
            self.thread = None
            start_new_thread(self.store_later, (self.wake,))
        except Exception:
            pass

    def store_later(self, wake):
        try:
            from _thread import get_native_id

            self.thread = get_native_id()
            while not wake.acquire(True, max(self.next - monotonic(), 0.01)):
                now = monotonic()
                if now >= self.next:
                    self.store(now)
                # In this order: whoever reports in between either is seen here, or sees that nobody waits.
                self.waits = False
                if self.latest is self.done:
                    return
                self.waits = True
        except BaseException:
            pass

    def end_wait(self):
        # It has to be gone, not just to be going.
        if self.wake is None:
            return
        try:
            if self.waits:
                self.wake.release()
            for _ in range(1000):
                if self.thread is not None and not os.path.exists("/proc/self/task/%d" % self.thread):
                    break
                sleep(0.0002)
        except Exception:
            pass
        self.wake = self.thread = None
        self.waits = False

    def store(self, now, overdraft=0.0):
        with self.lock:
            if self.latest is not self.done:
                self.store_latest(now, overdraft)

    def store_latest(self, now, overdraft):
        if not self.armed:
            self.arm()
        latest = self.latest
        self.next = now + 1.0 / _PER_SECOND
        temporary = self.path + ".tmp"
        try:
            record = self.record(*latest)
            # Made by one process at a time: who finds it there tries again later.
            descriptor = self.create(temporary)
            try:
                try:
                    tokens, now = self.tokens(now)
                    if tokens + overdraft < 1.0:
                        self.next = now + max((1.0 - tokens) / _PER_SECOND, 0.01)
                        return os.unlink(temporary)
                    record += [("tokens", tokens - 1.0), ("at", now)]
                    text = _json(record).encode("ascii")
                    if os.write(descriptor, text) != len(text):
                        raise OSError("the disk is full")
                finally:
                    os.close(descriptor)
                os.rename(temporary, self.path)
            except BaseException:
                os.unlink(temporary)
                raise
            self.done = latest
            if tokens >= 2.0:
                self.next = now
        except FileExistsError:
            self.next = now + 0.01
        except Exception:
            # Nothing that can be stored, or nowhere to store it.
            self.done = latest

    def arm(self):
        # Processes of multiprocessing end without `atexit` before Python 3.13, but not without this.
        self.armed = True
        util = sys.modules.get("multiprocessing.util")
        if util is not None:
            util.Finalize(None, self.finish, exitpriority=100)

    def create(self, temporary):
        how = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(temporary, how, 0o600)
        except FileExistsError:
            # Of a process that was killed.
            if abs(time() - os.lstat(temporary).st_mtime) < 2.0:
                raise
            os.unlink(temporary)
            return os.open(temporary, how, 0o600)

    def tokens(self, now):
        try:
            with open(self.path, "rb") as file:
                known = file.read(65536).decode("ascii")
            tokens, at = _number(known, "tokens"), _number(known, "at")
            # Another process may have stored since this one looked at the clock: no time has passed, and none goes back.
            if at - now > _MEMORY:
                return _MOST, now
            now = max(now, at)
            return min(_MOST, tokens + (now - at) * _PER_SECOND), now
        except Exception:
            return _MOST, now

    def record(self, current, total, message, at):
        current = float(current)
        total = None if total is None else float(total)
        if message is not None:
            # A file's name may hold what no other program takes for text.
            message = str(message)[:_MESSAGE].encode("utf-8", "replace").decode("utf-8")
        if self.last is not None:
            before, when, whole = self.last
            if current < before or total != whole:
                self.first = self.rate = None
            elif at > when:
                # The average of the first seconds, and from then on one that forgets.
                speed, weight = (current - before) / (at - when), (at - when) / min(at - self.first, _MEMORY)
                self.rate = speed if self.rate is None else self.rate + (speed - self.rate) * min(1.0, weight)
        if self.first is None:
            self.first = at
        self.last = (current, at, total)
        return [("version", 1), ("current", current), ("total", total), ("message", message), ("rate", self.rate)]

    def after_fork(self):
        # What waits to be stored is the parent's to store, and so is a lock that one of its threads holds.
        self.lock = RLock()
        self.done = self.latest
        self.next = 0.0
        self.armed = False
        self.wake = self.thread = None
        self.waits = False


def _reporter():
    path = os.environ.get("PYEXEC_PROGRESS")
    if not path:
        return None
    try:
        import atexit

        reporter = _Reporter(path)
        atexit.register(reporter.finish)
        os.register_at_fork(before=reporter.finish, after_in_child=reporter.after_fork)
        _reach_children()
        return reporter
    except Exception:
        return None


def _reach_children():
    # Python programs that this one starts can import it too: behind everything else they know.
    origin = getattr(globals().get("__spec__"), "origin", None) or ""
    here = os.path.dirname(origin)
    if os.path.basename(here) != "pyexec-modules" or not os.path.isabs(here):
        return
    if here not in sys.path:
        sys.path.append(here)
    known = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    if here not in known:
        os.environ["PYTHONPATH"] = os.pathsep.join(known + [here])


_current = _reporter()


def progress(current, total=None, message=None):
    """Report that ``current`` of ``total`` is done; ``total`` and ``message`` may be left out."""
    reporter = _current
    if reporter is not None:
        now = monotonic()
        reporter.latest = (current, total, message, now)
        if now >= reporter.next:
            reporter.store(now)
        elif not reporter.waits:
            reporter.wait()
