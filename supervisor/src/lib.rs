//! The process that runs one job and records how it ended, whether or not a daemon is there.
