//! The names of environment variables that pyexec reads, or sets for a daemon and for jobs.

/// Marks a daemon, and the supervisors it starts, in their own environment: a supervisor that ends what its job left
/// behind passes them over, should a job have been what started the daemon.
pub const SERVICE_MARK: &str = "PYEXEC_SERVICE";

/// Where a daemon listens, and clients look for it.
pub const SOCKET_VARIABLE: &str = "PYEXEC_SOCKET";

/// Names an instance: a daemon of its own beside others of the same user, with jobs of its own.
pub const INSTANCE_VARIABLE: &str = "PYEXEC_INSTANCE";

/// In the environment of every job, and of all it starts.
pub const JOB_ID_VARIABLE: &str = "PYEXEC_JOB_ID";

/// In the same places: the file to which a job reports how far it has got.
pub const PROGRESS_VARIABLE: &str = "PYEXEC_PROGRESS";
/// Likewise: the directory whose files are kept, and can be had, as the job's artifacts.
pub const ARTIFACTS_VARIABLE: &str = "PYEXEC_ARTIFACTS";

/// Where programs put what is temporary; a job with a filesystem fence has a directory of its own there.
pub const TEMPORARY_VARIABLE: &str = "TMPDIR";
/// In the environment of a job with a fence: what it is kept from. A daemon that is started in there would start every
/// later job in there too, so it does not start.
pub const FENCE_VARIABLE: &str = "PYEXEC_FENCE";
