//! What a process inherits.

use super::{check, python};

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
