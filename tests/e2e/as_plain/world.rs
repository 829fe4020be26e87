//! What a process inherits.

use serde_json::json;

use super::{Row, check, python};

#[test]
fn a_job_has_its_callers_world() {
    check(&[
        python("the mask of new files")
            .shell("umask 027; $RUN -c 'import os; print(oct(os.umask(0)))'")
            .prints("0o27\n"),
        python("its nice value")
            .through(&["nice", "-n", "5"])
            .words(["-c", "import os; print(os.nice(0) >= 5)"])
            .prints("True\n"),
        python("its variables")
            .variable("GREETING", "grüezi")
            .words(["-c", "import os; print(os.environ['GREETING'])"])
            .prints("grüezi\n"),
        python("its working directory")
            .directory("below/that")
            .words(["-c", "import os; print(os.path.basename(os.getcwd()))"])
            .prints("that\n"),
        python("programs beside it can be started")
            .program("tool", "#!/bin/sh\necho ran > left\n")
            .words(["-c", "import subprocess; subprocess.run(['./tool'])"]),
        python("a signal that ends it")
            .shell("$RUN -c 'import os; os.kill(os.getpid(), 9)'; echo $?")
            .prints("137\n")
            .whatever_stderr_says(),
    ]);
}

/// The same code, given to either program, and to the server.
fn probed(row: Row, probe: &str) -> Row {
    row.words(["-c", probe]).mcp(json!({"script_content": probe}))
}

/// A system call by its number on x86-64 and on aarch64.
const CALLS: &str = "import ctypes, os; libc = ctypes.CDLL(None); arm = os.uname().machine == 'aarch64'; ";

#[test]
fn a_job_is_scheduled_as_its_caller_is() {
    let io = format!("{CALLS}print(libc.syscall(31 if arm else 252, 1, 0))");
    check(&[
        python("the CPUs it may run on")
            .shell(
                "CPU=$(python3 -c 'import os; print(max(os.sched_getaffinity(0)))'); \
                taskset -c $CPU $RUN -c 'import os, sys; print(os.sched_getaffinity(0) == {int(sys.argv[1])})' $CPU",
            )
            .prints("True\n"),
        probed(python("the class batch").through(&["chrt", "-b", "0"]), "import os; print(os.sched_getscheduler(0))")
            .prints("3\n"),
        probed(python("the class idle").through(&["chrt", "-i", "0"]), "import os; print(os.sched_getscheduler(0))")
            .prints("5\n"),
        probed(python("an I/O class").through(&["ionice", "-c", "3"]), &io).prints(format!("{}\n", (3 << 13) | 7)),
        probed(python("an I/O level").through(&["ionice", "-c", "2", "-n", "7"]), &io)
            .prints(format!("{}\n", (2 << 13) | 7)),
        python("what is ended first without memory")
            .shell(
                "echo 1000 > /proc/$$/oom_score_adj; \
                $RUN -c 'print(open(\"/proc/self/oom_score_adj\").read().strip())'",
            )
            .prints("1000\n"),
        python("how exact its timers are")
            .shell(
                "python3 -c 'import ctypes, os, sys; ctypes.CDLL(None).prctl(29, 123456, 0, 0, 0); \
                os.execvp(sys.argv[1], sys.argv[1:])' $RUN -c 'import ctypes; print(ctypes.CDLL(None).prctl(30, 0, 0, 0, 0))'",
            )
            .prints("123456\n"),
        probed(
            python("addresses that are not randomized").through(&["setarch", "-R"]),
            "import ctypes; print(ctypes.CDLL(None).personality(0xffffffff) & 0x0040000)",
        )
        .prints("262144\n"),
        python("a job that a job starts")
            .shell(
                "chrt -b 0 $RUN -c 'import os, sys; sys.argv[1:] and os.execvp(sys.argv[1], sys.argv[1:])' $RUN -c \
                'import os; print(os.sched_getscheduler(0))'",
            )
            .prints("3\n"),
    ]);
}

#[test]
fn a_job_has_all_limits_of_its_caller() {
    let limits = |names: &str| {
        format!(
            "import resource as r; print(*[r.getrlimit(getattr(r, 'RLIMIT_' + name)) for name in '{names}'.split()])"
        )
    };
    check(&[
        python("soft and hard")
            .shell("ulimit -Sn 77; ulimit -Hn 400; $RUN -c 'import resource as r; print(r.getrlimit(r.RLIMIT_NOFILE))'")
            .prints("(77, 400)\n"),
        python("those that few know")
            .shell(
                "ulimit -i 321; ulimit -q 4096; ulimit -x 99; \
                $RUN -c 'import resource as r; print(r.getrlimit(11), r.getrlimit(12), r.getrlimit(10))'",
            )
            .prints("(321, 321) (4096, 4096) (99, 99)\n"),
        python("the size of files")
            .shell("ulimit -f 4; $RUN -c 'open(\"left\", \"wb\").write(bytes(9000))'; echo $?")
            .prints("1\n")
            .complains("File too large"),
        probed(
            python("through the server, too").through(&["prlimit", "--core=0:0", "--nofile=91:92"]),
            &limits("CORE NOFILE"),
        )
        .prints("(0, 0) (91, 92)\n"),
    ]);
}

#[test]
fn a_job_of_roots_has_its_callers_groups_and_may_be_urgent() {
    if !crate::sandbox::can_change_users() {
        return;
    }
    check(&[
        probed(
            python("supplementary groups").through(&["setpriv", "--groups", "4,27"]),
            "import os; print(os.getgid(), sorted(os.getgroups()))",
        )
        .prints("0 [4, 27]\n"),
        probed(
            python("another primary group").through(&["setpriv", "--regid", "4321", "--clear-groups"]),
            "import os; print(os.getresgid(), os.getgroups())",
        )
        .prints("(4321, 4321, 4321) []\n"),
    ]);
}
