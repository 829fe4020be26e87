//! Images among a job's artifacts, as blocks of an answer.
//!
//! This module decides which images are shown. If a model's API rejects an image, it rejects it again with every later
//! turn of the conversation, so an image that may be rejected is only named, with the reason.
//! [`pyexec_view::picture::raster`] checks that an image is complete.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use pyexec_client::{Client, ClientError, threads};
use pyexec_proto::artifact::{ArtifactList, MAX_ARTIFACT_CHUNK_BYTES, MAX_ARTIFACTS};
use pyexec_proto::{Error, JobId, OsText};
use pyexec_view::picture::raster::{self, Fault, Kind, Raster};
use pyexec_view::picture::{Bounds, shrink};
use rmcp::model::ContentBlock;

use super::render;

/// The largest number of images in one answer. APIs of models accept 20 or more in a request, but only 32 MB in total,
/// including all images earlier in the conversation.
const MOST_IMAGES: usize = 4;

/// The largest number of files that are read to find images.
const MOST_READ: usize = 20;

/// The largest file that is shown, in bytes. APIs accept 5 MB of base64, which is 3.75 MB of a file.
const MOST_BYTES: u32 = MAX_ARTIFACT_CHUNK_BYTES;

/// The largest PNG that is read in order to shrink it, in bytes.
const MOST_PNG_BYTES: u64 = 16 << 20;

/// The longest side of an image that is shown, in pixels: APIs reject longer ones.
const MOST_SIDE: u32 = 8_000;

/// The longest side, in pixels, of a PNG that is shown unchanged. APIs reject a conversation with more than 20 images
/// if one has a longer side, and models see no higher resolution anyway.
const SIDE_OF_PNG: u32 = 2_000;

/// Why an image is not shown.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum NotShown {
    #[error("it is not a PNG, JPEG, GIF or WebP image, despite its name")]
    NotAnImage,
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("{width} × {height} pixels; the limit is {MOST_SIDE} a side")]
    TooLong { width: u32, height: u32 },
    #[error("{bytes} bytes; the limit is {most}")]
    TooManyBytes { bytes: u64, most: u64 },
    #[error("it changed while it was read")]
    Changed,
}

/// The images to show, and a note about the others, which may be empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Images {
    pub(crate) blocks: Vec<ContentBlock>,
    pub(crate) note: String,
}

/// The first images among a job's artifacts.
pub(crate) async fn of_job(client: &Client, id: JobId) -> Result<Images, ClientError> {
    let list = match client.list_artifacts(id, MAX_ARTIFACTS).await {
        // The text of the answer reports this already.
        Err(ClientError::Refused(Error::OutputRemoved { .. })) => ArtifactList::default(),
        listed => listed?,
    };
    let mut named = list.artifacts.iter().filter(|artifact| is_named_as_image(&artifact.path));
    let mut blocks = Vec::new();
    let mut not_shown = Vec::new();
    while blocks.len() < MOST_IMAGES
        && blocks.len() + not_shown.len() < MOST_READ
        && let Some(artifact) = named.next()
    {
        match read(client, id, &artifact.path).await? {
            Some(Ok((kind, file))) => blocks.push(ContentBlock::image(BASE64.encode(file), kind.mime_type())),
            Some(Err(why)) => not_shown.push((&artifact.path, why)),
            // It was removed, or is no longer a regular file.
            None => {}
        }
    }
    let mut note = String::new();
    if !not_shown.is_empty() {
        let each = not_shown.iter().map(|(path, why)| format!("\n- {}: {why}", render::inline(&path.to_text())));
        note.push_str(&format!("\n\nNot shown as images:{}", each.collect::<String>()));
        note.push_str(&format!("\n\n`pyexec artifacts {id} -o DIR` in a terminal copies them."));
    }
    let beyond = named.count();
    if beyond > 0 {
        note.push_str(&format!(
            "\n\nImages beyond the first {} are left out: {beyond}.",
            blocks.len() + not_shown.len()
        ));
    }
    Ok(Images { blocks, note })
}

fn is_named_as_image(path: &OsText) -> bool {
    let extension = path.as_path().extension().map(|extension| extension.to_string_lossy().to_lowercase());
    matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg" | "gif" | "webp"))
}

/// The content of a file as it is shown; `None` if the file no longer exists.
async fn read(
    client: &Client,
    id: JobId,
    path: &OsText,
) -> Result<Option<Result<(Kind, Vec<u8>), NotShown>>, ClientError> {
    let mut file = Vec::new();
    loop {
        let chunk = match client.read_artifact(id, path, file.len() as u64, MOST_BYTES).await {
            Ok(chunk) => chunk,
            Err(ClientError::Refused(Error::NoArtifact { .. })) => return Ok(None),
            Err(error) => return Err(error),
        };
        file.extend_from_slice(&chunk.bytes);
        // The content decides, not the file's name.
        let Some(kind) = Kind::of(&file) else { return Ok(Some(Err(NotShown::NotAnImage))) };
        let most = if kind == Kind::Png { MOST_PNG_BYTES } else { u64::from(MOST_BYTES) };
        if chunk.total > most {
            return Ok(Some(Err(NotShown::TooManyBytes { bytes: chunk.total, most })));
        }
        if file.len() as u64 >= chunk.total {
            break;
        }
        if chunk.bytes.is_empty() {
            return Ok(Some(Err(NotShown::Changed)));
        }
    }
    // Decoding is CPU-bound, and a single thread serves all requests.
    let shown = threads::run_on_thread(move || shown(file)).await;
    Ok(Some(shown.expect("nothing in it panics")))
}

/// The file as it is shown: unchanged, or as a smaller PNG.
fn shown(file: Vec<u8>) -> Result<(Kind, Vec<u8>), NotShown> {
    let raster = raster::inspect(&file)?.ok_or(NotShown::NotAnImage)?;
    if raster.kind != Kind::Png {
        within_bounds(raster, file.len())?;
        return Ok((raster.kind, file));
    }
    match shrink(&file, Bounds { side: SIDE_OF_PNG, bytes: MOST_BYTES as usize })? {
        Some(smaller) => Ok((Kind::Png, smaller)),
        None => {
            within_bounds(raster, file.len())?;
            Ok((Kind::Png, file))
        }
    }
}

fn within_bounds(raster: Raster, bytes: usize) -> Result<(), NotShown> {
    let Raster { width, height, .. } = raster;
    if width.max(height) > MOST_SIDE {
        return Err(NotShown::TooLong { width, height });
    }
    let (bytes, most) = (bytes as u64, u64::from(MOST_BYTES));
    if bytes > most { Err(NotShown::TooManyBytes { bytes, most }) } else { Ok(()) }
}

/// The MIME type of an image file. A file that may be rejected as an image gets no image type.
pub(crate) async fn mime_type(file: Vec<u8>) -> (Vec<u8>, Option<&'static str>) {
    let Some(kind) = Kind::of(&file) else { return (file, None) };
    let check = move || {
        let is_taken = is_taken(&file);
        (file, Some(if is_taken { kind.mime_type() } else { "application/octet-stream" }))
    };
    threads::run_on_thread(check).await.expect("nothing in it panics")
}

fn is_taken(file: &[u8]) -> bool {
    let Ok(Some(raster)) = raster::inspect(file) else { return false };
    let is_decoded = raster.kind != Kind::Png || shrink(file, Bounds { side: u32::MAX, bytes: usize::MAX }).is_ok();
    is_decoded && within_bounds(raster, file.len()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gif(width: u16, height: u16) -> Vec<u8> {
        let size = [width.to_le_bytes(), height.to_le_bytes()].concat();
        [b"GIF89a", &size[..], b"\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0;"].concat()
    }

    #[test]
    fn what_is_within_the_bounds_is_shown_as_it_is() {
        for (width, height) in [(1, 1), (8_000, 8_000)] {
            assert_eq!(shown(gif(width, height)), Ok((Kind::Gif, gif(width, height))));
            assert!(is_taken(&gif(width, height)));
        }
    }

    #[test]
    fn what_is_beyond_them_or_not_whole_is_named_with_the_reason_and_called_no_image() {
        let mut long = gif(1, 1);
        long.resize(MOST_BYTES as usize + 1, 0);
        let cut = gif(1, 1)[..20].to_vec();
        for (file, expected) in [
            (gif(8_001, 1), NotShown::TooLong { width: 8_001, height: 1 }),
            (gif(1, 8_001), NotShown::TooLong { width: 1, height: 8_001 }),
            (long, NotShown::TooManyBytes { bytes: u64::from(MOST_BYTES) + 1, most: MOST_BYTES.into() }),
            (cut, NotShown::Fault(Fault::CutOff(Kind::Gif))),
        ] {
            assert!(!is_taken(&file), "{expected}");
            assert_eq!(shown(file), Err(expected));
        }
        assert_eq!(shown(b"no image".to_vec()), Err(NotShown::NotAnImage));
    }
}
