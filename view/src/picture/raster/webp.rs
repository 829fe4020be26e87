//! WebP: a RIFF file that says its length, of chunks that say theirs. VP8 is lossy, VP8L lossless, VP8X extended.

use super::rest::{Rest, Stop, Walked};

/// `RIFF`, the length of what follows, `WEBP`.
const NAME: usize = 4;

pub(super) fn walk(bytes: &[u8]) -> Walked {
    let mut rest = Rest(bytes);
    rest.take(NAME)?;
    let length = rest.u32_le()?;
    let mut rest = Rest(rest.take(length as usize)?);
    rest.take(NAME).map_err(|_| TOO_SHORT)?;
    let mut canvas = None;
    let mut image = None;
    while !rest.0.is_empty() {
        let chunk = chunk(&mut rest)?;
        let is_first = canvas.is_none() && image.is_none();
        match &chunk.name {
            b"VP8X" if is_first => canvas = Some(extended(chunk.data)?),
            b"VP8 " | b"VP8L" if image.is_none() => image = Some(picture(&chunk)?),
            b"ANMF" if canvas.is_some() => {
                let size = frame(chunk.data)?;
                image = image.or(Some(size));
            }
            _ if is_first => return Err(Stop::Wrong("it does not begin with an image")),
            _ => {}
        }
    }
    match (canvas, image) {
        (_, None) => Err(Stop::Wrong("it has no pixel data")),
        (Some(canvas), Some(_)) => Ok(canvas),
        (None, Some(image)) => Ok(image),
    }
}

/// The file itself is long enough: a part of it is not.
const TOO_SHORT: Stop = Stop::Wrong("a chunk is longer than what it is in");

struct Chunk<'file> {
    name: [u8; 4],
    data: &'file [u8],
}

fn chunk<'file>(rest: &mut Rest<'file>) -> Result<Chunk<'file>, Stop> {
    let mut read = || {
        let name = rest.array()?;
        let length = rest.u32_le()? as usize;
        let data = rest.take(length)?;
        // Padded to an even length.
        rest.take(length % 2)?;
        Ok(Chunk { name, data })
    };
    read().map_err(|_: Stop| TOO_SHORT)
}

/// The size of the canvas: three bytes each, less one.
fn extended(data: &[u8]) -> Walked {
    let [_, _, _, _, w0, w1, w2, h0, h1, h2] = Rest(data).array().map_err(|_| TOO_SHORT)?;
    let side = |bytes: [u8; 3]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]) + 1;
    Ok((side([w0, w1, w2]), side([h0, h1, h2])))
}

fn picture(chunk: &Chunk<'_>) -> Walked {
    match &chunk.name {
        b"VP8 " => lossy(chunk.data),
        _ => lossless(chunk.data),
    }
}

/// A frame of an animation: where it is, and an image.
fn frame(data: &[u8]) -> Walked {
    const PLACE: usize = 16;
    let mut rest = Rest(data);
    rest.take(PLACE).map_err(|_| TOO_SHORT)?;
    while !rest.0.is_empty() {
        let chunk = chunk(&mut rest)?;
        if matches!(&chunk.name, b"VP8 " | b"VP8L") {
            return picture(&chunk);
        }
    }
    Err(Stop::Wrong("a frame has no pixel data"))
}

fn lossy(data: &[u8]) -> Walked {
    let mut rest = Rest(data);
    let [t0, t1, t2, s0, s1, s2] = rest.array().map_err(|_| TOO_SHORT)?;
    let tag = u32::from_le_bytes([t0, t1, t2, 0]);
    if tag & 1 != 0 || [s0, s1, s2] != [0x9d, 0x01, 0x2a] {
        return Err(Stop::Wrong("its image means nothing"));
    }
    let size = (rest.u16_le().map_err(|_| TOO_SHORT)?, rest.u16_le().map_err(|_| TOO_SHORT)?);
    // The first of its partitions has to be there.
    let first = (tag >> 5) as usize;
    if first == 0 || first > rest.0.len() {
        return Err(TOO_SHORT);
    }
    Ok(((size.0 & 0x3fff).into(), (size.1 & 0x3fff).into()))
}

fn lossless(data: &[u8]) -> Walked {
    let mut rest = Rest(data);
    let signature = rest.byte().map_err(|_| TOO_SHORT)?;
    let bits = rest.u32_le().map_err(|_| TOO_SHORT)?;
    if signature != 0x2f || bits >> 29 != 0 {
        return Err(Stop::Wrong("its image means nothing"));
    }
    if rest.0.is_empty() {
        return Err(TOO_SHORT);
    }
    Ok(((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1))
}
