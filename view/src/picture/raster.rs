//! Checks that the bytes of a file are a complete PNG, JPEG, GIF or WebP image, from the first byte to the end marker.
//!
//! This module only walks through the structure of each format; it decodes no pixels (`shrink.rs` does, for PNG). The
//! bytes are untrusted: its functions never read beyond them, and never allocate.

mod gif;
mod jpeg;
mod png;
mod rest;
mod webp;

use rest::Stop;

/// An image format that agents accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Png,
    Jpeg,
    Gif,
    Webp,
}

/// The format and size of a complete image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raster {
    pub kind: Kind,
    /// In pixels, at least 1.
    pub width: u32,
    pub height: u32,
}

/// Why a file that begins like an image cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the {0} is cut off")]
    CutOff(Kind),
    #[error("the {kind} is damaged: {problem}")]
    Damaged { kind: Kind, problem: &'static str },
    #[error("{width} × {height} pixels are too many to be scaled down")]
    TooManyPixels { width: u32, height: u32 },
}

impl Kind {
    /// The format that the content begins with, whatever the file's name says.
    pub fn of(bytes: &[u8]) -> Option<Kind> {
        match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Kind::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Kind::Jpeg),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Kind::Gif),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Kind::Webp),
            _ => None,
        }
    }

    pub fn mime_type(self) -> &'static str {
        match self {
            Kind::Png => "image/png",
            Kind::Jpeg => "image/jpeg",
            Kind::Gif => "image/gif",
            Kind::Webp => "image/webp",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Png => "PNG",
            Kind::Jpeg => "JPEG",
            Kind::Gif => "GIF",
            Kind::Webp => "WebP",
        })
    }
}

/// Checks the structure of the whole file; `None` if it begins like none of the formats. Bytes after the end of the
/// image are ignored, as every decoder does.
///
/// # Errors
///
/// A part of the image is missing or invalid.
pub fn inspect(bytes: &[u8]) -> Result<Option<Raster>, Fault> {
    let Some(kind) = Kind::of(bytes) else { return Ok(None) };
    let walked = match kind {
        Kind::Png => png::walk(bytes),
        Kind::Jpeg => jpeg::walk(bytes),
        Kind::Gif => gif::walk(bytes),
        Kind::Webp => webp::walk(bytes),
    };
    match walked {
        Ok((0, _) | (_, 0)) => Err(Fault::Damaged { kind, problem: "it has no pixels" }),
        Ok((width, height)) => Ok(Some(Raster { kind, width, height })),
        Err(Stop::End) => Err(Fault::CutOff(kind)),
        Err(Stop::Wrong(problem)) => Err(Fault::Damaged { kind, problem }),
    }
}

#[cfg(test)]
mod tests;
