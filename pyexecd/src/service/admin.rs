//! The daemon about itself.

use pyexec_proto::daemon::DaemonStatus;
use pyexec_proto::greeting::Directories;
use pyexec_proto::preamble::Preamble;
use pyexec_proto::{Error, OsText, frozen};

use super::context::Service;

pub(super) async fn status(service: &Service) -> Result<DaemonStatus, Error> {
    let counts = service.jobs.counts().await?;
    Ok(DaemonStatus {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        socket: OsText::from(service.paths.socket.as_path()),
        uptime_seconds: service.started.elapsed().as_secs(),
        jobs_running: counts.running as u64,
        jobs_pending: counts.pending as u64,
        rss_bytes: resident_bytes(),
        index_problem: service.jobs.store().problem(),
        scopes: service.scopes.standing(),
        directories: Directories::clone(&service.directories),
        instance: service.paths.instance.clone(),
        world: service.own.world.clone(),
        for_you: service.peer.for_you(),
    })
}

pub(super) async fn frozen_status(service: &Service, problem: Option<String>) -> frozen::Answer {
    let ours = Preamble::ours();
    let program = std::env::current_exe().unwrap_or_default();
    // As the kernel says it of a program whose file has been replaced since.
    let program = program.as_os_str().as_encoded_bytes();
    let program = program.strip_suffix(b" (deleted)").unwrap_or(program);
    frozen::Answer {
        pid: std::process::id(),
        version: ours.version,
        lowest_protocol: ours.lowest,
        highest_protocol: ours.highest,
        program: OsText::from(program.to_vec()),
        jobs_running: service.jobs.counts().await.map_or(0, |counts| counts.running as u64),
        hands_over: false,
        problem,
    }
}

pub(super) fn shutdown(service: &Service) {
    tracing::info!("asked to leave");
    service.shutdown.send_replace(true);
}

/// From `/proc/self/statm`, whose second field counts resident pages; 0 where there is none.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
