//! The environment variables that pyexec reads, or sets for a daemon and for jobs.

/// Marks a daemon and the supervisors it starts, in their own environment. A supervisor that ends the leftover
/// processes of its job skips marked processes, in case the job started the daemon.
pub const SERVICE_MARK: &str = "PYEXEC_SERVICE";

/// The path of the socket, for a daemon and its clients.
pub const SOCKET_VARIABLE: &str = "PYEXEC_SOCKET";

/// The name of an instance: a separate daemon of the same user, with its own jobs.
pub const INSTANCE_VARIABLE: &str = "PYEXEC_INSTANCE";

/// The id of the job, in the environment of every job and of its processes.
pub const JOB_ID_VARIABLE: &str = "PYEXEC_JOB_ID";

/// The file to which a job reports its progress, in the same environments.
pub const PROGRESS_VARIABLE: &str = "PYEXEC_PROGRESS";
/// The directory whose files are kept as the job's artifacts, in the same environments.
pub const ARTIFACTS_VARIABLE: &str = "PYEXEC_ARTIFACTS";

/// The directory for temporary files; a job with a filesystem fence has its own.
pub const TEMPORARY_VARIABLE: &str = "TMPDIR";
/// The restrictions of a job with a fence, in its environment. A daemon started there would start all later jobs inside
/// the fence, so it refuses to start.
pub const FENCE_VARIABLE: &str = "PYEXEC_FENCE";

/// Names the `pyexecd` that a client starts.
pub const DAEMON_VARIABLE: &str = "PYEXEC_DAEMON";

/// How long a tool of the MCP server waits for its job before it answers.
pub const WAIT_VARIABLE: &str = "SMART_ASYNC_TIMEOUT_SECONDS";

/// Those that users set and that are no settings of the daemon, with what they mean, for `docs/settings.md`.
pub const READ: [(&str, &str); 7] = [
    (SOCKET_VARIABLE, "the path of the socket on which the daemon listens"),
    (INSTANCE_VARIABLE, "the name of an instance: a separate daemon with jobs of its own"),
    (
        DAEMON_VARIABLE,
        "the path of the `pyexecd` that clients start; by default the one beside the client, then along `PATH`",
    ),
    (WAIT_VARIABLE, "how many seconds a tool of the MCP server waits for its job before it answers; 20 by default"),
    (
        "XDG_STATE_HOME, XDG_DATA_HOME, XDG_CACHE_HOME, XDG_CONFIG_HOME, XDG_RUNTIME_DIR",
        "where the directories of pyexec are, see [files](files.md)",
    ),
    ("DBUS_SESSION_BUS_ADDRESS", "the bus on which the service manager of the user is asked for a scope for each job"),
    ("NO_COLOR", "if it is set, `pyexec` prints no colours"),
];

/// Those that every job finds in its environment, with what they mean.
pub const SET: [(&str, &str); 4] = [
    (JOB_ID_VARIABLE, "the id of the job"),
    (ARTIFACTS_VARIABLE, "a directory: what the job leaves in it is kept with the job"),
    (PROGRESS_VARIABLE, "the file to which the module `pyexec_progress` reports how far the job is"),
    (FENCE_VARIABLE, "only in a job with a fence: what it is kept from"),
];
