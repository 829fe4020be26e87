//! What a job's Python runs before and after the job's own code: names and contents of the files.

/// A file: its name, and what it says.
pub type PythonFile = (&'static str, &'static str);

/// What Python imports by itself when it starts.
pub const STARTUP: PythonFile = ("sitecustomize.py", include_str!("startup/sitecustomize.py"));
/// What that runs, when there is need of it.
pub const BESIDE: [PythonFile; 4] = [
    ("backend.py", include_str!("startup/backend.py")),
    ("figures.py", include_str!("startup/figures.py")),
    ("profile.py", include_str!("startup/profile.py")),
    ("rich_bars.py", include_str!("startup/rich_bars.py")),
];
/// What scripts may import.
pub const PROGRESS: PythonFile = ("pyexec_progress.py", include_str!("startup/pyexec_progress.py"));
