//! Connects to the daemon, or starts it, and speaks with it.
