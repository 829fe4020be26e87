//! `pyexec artifacts ID`: the files a job has left, listed, printed, or copied.

mod copy;

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use futures::{StreamExt, stream};
use pyexec_client::{Client, ClientError};
use pyexec_proto::artifact::{
    Artifact, ArtifactChunk, ArtifactList, MAX_ARTIFACT_CHUNK_BYTES, MAX_ARTIFACTS, NoArtifact,
};
use pyexec_proto::{Error, JobId, OsText, Timestamp};
use pyexec_view::{ArtifactView, ArtifactsView};
use serde::Serialize;

use crate::args::Artifacts;
use crate::connection::connect_and_resolve_one;
use crate::exit_code::{Code, Failure, SUCCESS};
use crate::{render, terminal};
use copy::{CopyError, Target};

/// How many of those are named that have gone with their job.
const MOST_MISSING_NAMED: usize = 10;

/// How many files are asked for before the first of them is written. Each answer may be as long as a chunk.
const ASKED_FOR_AHEAD: usize = 8;

/// `pyexec artifacts ID --json`.
#[derive(Serialize)]
struct Listed {
    job_id: String,
    #[serde(flatten)]
    artifacts: ArtifactsView,
}

/// `pyexec artifacts ID -o DIR --json`.
#[derive(Serialize)]
struct Written {
    job_id: String,
    directory: String,
    written: Vec<ArtifactView>,
}

pub(crate) async fn perform(asked: &Artifacts) -> Result<Code, Failure> {
    let (client, id) = connect_and_resolve_one(&asked.id).await?;
    let paths: Vec<OsText> = asked.paths.iter().map(|path| OsText::from(path.as_os_str())).collect();
    match (&asked.output, paths.as_slice()) {
        (Some(directory), _) => copied(&client, id, &paths, Path::new(directory), asked).await?,
        (None, []) => listed(&client, id, asked.json).await?,
        (None, [path]) if !asked.json => printed(&client, id, path).await?,
        (None, [_]) => {
            return Err(usage(
                "--json lists all artifacts and takes no path",
                "leave out the path, or copy the artifact with -o DIR",
            ));
        }
        (None, [_, _, ..]) => return Err(usage("cannot print several artifacts to stdout", "copy them with -o DIR")),
    }
    Ok(SUCCESS)
}

fn usage(problem: &str, hint: &str) -> Failure {
    Failure::Usage { problem: problem.to_owned(), hint: hint.to_owned() }
}

async fn listed(client: &Client, id: JobId, json: bool) -> Result<(), Failure> {
    let list = client.list_artifacts(id, MAX_ARTIFACTS).await?;
    if json {
        terminal::print_json(&Listed { job_id: id.to_string(), artifacts: ArtifactsView::of(id, &list) })?;
        return Ok(());
    }
    if !list.artifacts.is_empty() {
        let now = Timestamp::now();
        let row = |artifact: &Artifact| {
            vec![
                render::size(artifact.bytes),
                render::age(artifact.modified_at.age_at(now)),
                render::one_line(&artifact.path.to_text()).into_owned(),
            ]
        };
        let rows: Vec<Vec<String>> = list.artifacts.iter().map(row).collect();
        terminal::print(&render::plain_table(&["SIZE", "MODIFIED", "PATH"], &rows, &[1], terminal::screen()))?;
    }
    note_unlisted(&list);
    Ok(())
}

fn note_unlisted(list: &ArtifactList) {
    if list.is_cut {
        terminal::note(&format!(
            "there may be more: very deep directories, and files beyond {MAX_ARTIFACTS}, are not listed"
        ));
    }
    if list.other_entries > 0 {
        terminal::note(&format!("not listed, because they are links, pipes or devices: {}", list.other_entries));
    }
}

/// Byte for byte.
async fn printed(client: &Client, id: JobId, path: &OsText) -> Result<(), Failure> {
    let mut stdout = std::io::stdout();
    let first = chunk(client, id, path, 0).await;
    read(client, id, path, first, |bytes| stdout.write_all(bytes).map_err(Failure::Output)).await?;
    stdout.flush().map_err(Failure::Output)
}

async fn copied(
    client: &Client,
    id: JobId,
    paths: &[OsText],
    directory: &Path,
    asked: &Artifacts,
) -> Result<(), Failure> {
    let list = client.list_artifacts(id, MAX_ARTIFACTS).await?;
    let all: Vec<&OsText> = list.artifacts.iter().map(|artifact| &artifact.path).collect();
    let wanted = if paths.is_empty() { all } else { named(paths, &all) };
    let target = Target::open(directory)?;
    if !asked.force {
        for path in &wanted {
            target.refuse_to_replace(path)?;
        }
    }
    let artifacts: HashMap<&OsText, &Artifact> = list.artifacts.iter().map(|found| (&found.path, found)).collect();
    let mut written = Vec::with_capacity(wanted.len());
    let (number, mut left) = (wanted.len(), 0);
    // When somebody prunes it meanwhile.
    let (mut gone, mut missing) = (None, Vec::new());
    // Small files are asked for while others are written: of many, the answers are what takes the time.
    let begun = wanted.into_iter().map(|path| async move { (path, chunk(client, id, path, 0).await) });
    let mut begun = stream::iter(begun).buffered(ASKED_FOR_AHEAD);
    while let Some((path, first)) = begun.next().await {
        let mut file = target.begin(path)?;
        let bytes = match read(client, id, path, first, |bytes| Ok(file.write(bytes)?)).await {
            Ok(bytes) => bytes,
            // One that was not named by itself does not keep the others from being copied.
            Err(failure) if !paths.contains(path) && is_about_the_file(&failure) => {
                let has_gone = matches!(refusal(&failure), Some(Error::NoArtifact { why: NoArtifact::NotThere, .. }));
                // A job that goes on may take a file away; of one that has finished it is missing.
                let is_missing = !has_gone || client.show(id).await.is_ok_and(|job| job.state.is_finished());
                terminal::note(&format!("not copied: {failure}"));
                left += usize::from(is_missing);
                continue;
            }
            // All that is left has gone with it.
            Err(failure) if has_gone_with_its_job(&failure) => {
                gone = Some(failure);
                missing.push(path);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        file.finish(asked.force)?;
        if !asked.json {
            let shown = directory.join(path.as_path());
            terminal::print(&format!("{}\n", render::one_line(&shown.to_string_lossy())))?;
        }
        let uri = artifacts.get(path).and_then(|artifact| ArtifactView::of(id, artifact).uri);
        written.push(ArtifactView { path: path.to_text(), bytes, uri });
    }
    if asked.json {
        let directory = directory.to_string_lossy().into_owned();
        terminal::print_json(&Written { job_id: id.to_string(), directory, written })?;
    }
    if paths.is_empty() {
        note_unlisted(&list);
    }
    left += missing.len();
    if let Some(failure) = gone {
        let named = missing.iter().take(MOST_MISSING_NAMED).map(|path| render::one_line(&path.to_text()).into_owned());
        let more = missing.len().saturating_sub(MOST_MISSING_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        terminal::note(&format!("not copied, because {failure}: {}{more}", named.collect::<Vec<_>>().join(", ")));
    }
    if left > 0 { Err(CopyError::Incomplete { left, all: number }.into()) } else { Ok(()) }
}

/// What the daemon answered.
fn refusal(failure: &Failure) -> Option<&Error> {
    if let Failure::Client(ClientError::Refused(refusal)) = failure { Some(refusal) } else { None }
}

/// Not about the daemon, nor about where it is copied to.
fn is_about_the_file(failure: &Failure) -> bool {
    let copying = if let Failure::Verb(failure) = failure { failure.as_error() } else { None };
    matches!(copying, Some(CopyError::Replaced { .. } | CopyError::Shortened { .. }))
        || matches!(refusal(failure), Some(Error::NoArtifact { .. }))
}

/// Somebody prunes it, or has.
fn has_gone_with_its_job(failure: &Failure) -> bool {
    matches!(refusal(failure), Some(Error::NoSuchJob { .. } | Error::BeingRemoved { .. } | Error::OutputRemoved { .. }))
}

/// What is listed at or below each path; and a path of which nothing is listed, for the daemon to say why.
fn named<'a>(paths: &'a [OsText], all: &[&'a OsText]) -> Vec<&'a OsText> {
    let mut wanted: Vec<&OsText> = Vec::new();
    for path in paths {
        let name = path.as_bytes().strip_suffix(b"/").unwrap_or(path.as_bytes());
        let is_below = |listed: &OsText| {
            listed.as_bytes().strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let found: Vec<&OsText> = all.iter().copied().filter(|listed| is_below(listed)).collect();
        if found.is_empty() {
            wanted.push(path);
        }
        wanted.extend(found);
    }
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

async fn chunk(client: &Client, id: JobId, path: &OsText, offset: u64) -> Result<ArtifactChunk, ClientError> {
    client.read_artifact(id, path, offset, MAX_ARTIFACT_CHUNK_BYTES).await
}

/// All of a file as it was when the reading began, with its `first` chunk; how many bytes that were.
async fn read(
    client: &Client,
    id: JobId,
    path: &OsText,
    first: Result<ArtifactChunk, ClientError>,
    mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let mut chunk_read = first?;
    let (total, known) = (chunk_read.total, chunk_read.inode);
    let mut offset = 0;
    loop {
        let ArtifactChunk { mut bytes, inode, .. } = chunk_read;
        if inode != known {
            return Err(CopyError::Replaced { path: path.clone() }.into());
        }
        // A file that grows as fast as it is read would never end.
        bytes.truncate(usize::try_from(total - offset).unwrap_or(usize::MAX));
        take(&bytes)?;
        offset += bytes.len() as u64;
        if offset == total {
            return Ok(offset);
        }
        if bytes.is_empty() {
            return Err(CopyError::Shortened { path: path.clone(), read: offset, total }.into());
        }
        chunk_read = chunk(client, id, path, offset).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_stands_for_what_is_in_it_and_nothing_is_named_twice() {
        let all: Vec<OsText> = ["a/x", "a/y/z", "ab", "c"].map(OsText::from).into();
        let all: Vec<&OsText> = all.iter().collect();
        for (paths, expected) in [
            (&["a"][..], &["a/x", "a/y/z"][..]),
            (&["a/"], &["a/x", "a/y/z"]),
            (&["c", "a/y", "c"], &["a/y/z", "c"]),
            (&["missing"], &["missing"]),
            (&["../c"], &["../c"]),
        ] {
            let paths: Vec<OsText> = paths.iter().map(|path| OsText::from(*path)).collect();
            let expected: Vec<OsText> = expected.iter().map(|path| OsText::from(*path)).collect();
            assert_eq!(named(&paths, &all), expected.iter().collect::<Vec<_>>(), "{paths:?}");
        }
    }
}
