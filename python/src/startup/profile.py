# Profiles a job from its first line to its end, as cProfile would, without being in its way: the script is run by Python itself,
# with its own arguments, paths, tracebacks and exit code.
#
# Nothing is imported that a file of the user's could shadow, such as cProfile, json or profile. All modules here are
# part of the interpreter, but for `_lsprof`, which is looked for beside `os` only.
import _signal
import atexit
import marshal
import os
import sys


def beside_os(name):
    library = os.path.dirname(os.__file__)
    path = sys.path[:]
    sys.path[:] = [entry for entry in path if entry in (library, os.path.join(library, "lib-dynload"))]
    try:
        return __import__(name)
    finally:
        sys.path[:] = path


_lsprof = beside_os("_lsprof")

KEPT = 100
BEGINNINGS = frozenset("cpython.run_" + kind for kind in ("command", "file", "module", "stdin"))
LONGEST = 300

profiler = _lsprof.Profiler()
pid = os.getpid()


def label(code):
    if isinstance(code, str):
        return ("~", 0, code)
    return (code.co_filename, code.co_firstlineno, code.co_name)


def is_ours(entry):
    if isinstance(entry.code, str):
        return "_lsprof.Profiler" in entry.code
    return entry.code in OURS


# In the form of pstats, as cProfile.Profile.snapshot_stats makes it.
def snapshot():
    entries = [entry for entry in profiler.getstats() if not is_ours(entry)]
    stats = {}
    callers_of = {}
    for entry in entries:
        callers = callers_of[id(entry.code)] = {}
        primitive = entry.callcount - entry.reccallcount
        stats[label(entry.code)] = (primitive, entry.callcount, entry.inlinetime, entry.totaltime, callers)
    for entry in entries:
        caller = label(entry.code)
        for call in entry.calls or ():
            callers = callers_of.get(id(call.code))
            if callers is not None:
                primitive = call.callcount - call.reccallcount
                before = callers.get(caller, (0, 0, 0, 0))
                one = (call.callcount, primitive, call.inlinetime, call.totaltime)
                callers[caller] = tuple(map(sum, zip(before, one)))
    return stats


# Without a codec: at the end of Python, one that has not been imported yet can not always be.
def units(text):
    for number in map(ord, text):
        if number > 0xFFFF:
            yield 0xD800 | (number - 0x10000) >> 10
            yield 0xDC00 | (number - 0x10000) & 0x3FF
        else:
            # Half a character is none.
            yield ord("?") if 0xD800 <= number < 0xE000 else number


def quoted(text):
    letters = (chr(u) if 32 <= u < 127 and u not in (34, 92) else "\\u%04x" % u for u in units(text[:LONGEST]))
    return '"%s"' % "".join(letters)


def row(item):
    (file, line, name), (primitive, calls, own, cumulative, _) = item
    return '{"ncalls":%d,"primitive_calls":%d,"tottime":%.9f,"cumtime":%.9f,"file":%s,"line":%d,"name":%s}' % (
        calls, primitive, max(own, 0), max(cumulative, 0), quoted(file), line, quoted(name)
    )


def rows(stats, column):
    items = sorted(stats.items(), key=lambda item: item[1][column], reverse=True)
    return ",".join(map(row, items[:KEPT]))


def write(name, content):
    path = os.path.join(artifacts, name)
    with open(path + ".tmp", "wb") as file:
        file.write(content)
    os.replace(path + ".tmp", path)


# Once, by the process that was to be profiled. The summary comes last: where it is, all is.
def end():
    global pid
    if os.getpid() != pid:
        return
    pid = None
    try:
        profiler.disable()
        stats = snapshot()
        write("profile.prof", marshal.dumps(stats))
        summary = '{"version":1,"functions":%d,"calls":%d,"seconds":%.9f,"by_cumulative":[%s],"by_own":[%s]}' % (
            len(stats),
            sum(entry[1] for entry in stats.values()),
            max(sum(entry[2] for entry in stats.values()), 0),
            rows(stats, 3),
            rows(stats, 2),
        )
        write("profile.json", summary.encode("ascii"))
    except BaseException:
        pass


# Then as if there had been no handler. A script that has one of its own has replaced this.
def terminated(number, frame):
    end()
    _signal.signal(number, _signal.SIG_DFL)
    os.kill(os.getpid(), number)


# From where Python begins with what it was given to run, to where it prints a traceback, which takes reading files: what
# it does before and after is not what was to be profiled.
def audited(event, arguments):
    if event in BEGINNINGS:
        profiler.enable()
    elif event == "sys.excepthook":
        profiler.disable()


# A signal that comes to a new child before Python has made itself at home there is forgotten, if it has a handler: it
# waits until there is none.
masks = []


def before_fork():
    masks.append(_signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGTERM]))


def in_parent():
    _signal.pthread_sigmask(_signal.SIG_SETMASK, masks.pop())


def in_child():
    profiler.disable()
    if _signal.getsignal(_signal.SIGTERM) is terminated:
        _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
    in_parent()


OURS = {function.__code__ for function in (end, audited, before_fork, in_parent, in_child, terminated)}

if _signal.getsignal(_signal.SIGTERM) == _signal.SIG_DFL:
    _signal.signal(_signal.SIGTERM, terminated)
os.register_at_fork(before=before_fork, after_in_parent=in_parent, after_in_child=in_child)
atexit.register(end)
sys.addaudithook(audited)
