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
