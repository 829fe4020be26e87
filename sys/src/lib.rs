//! The system calls that the daemon and the faces need and that no safe library offers.
