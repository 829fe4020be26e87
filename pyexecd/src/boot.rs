//! Which boot of the machine this is. Nothing that ran in another one runs now.

/// Told by the kernel once per boot; empty where it does not.
pub(crate) fn id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}
