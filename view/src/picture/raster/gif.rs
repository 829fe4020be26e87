//! GIF: a screen, then blocks of sub-blocks, up to the trailer.

use super::rest::{Rest, Stop, Walked};

const SIGNATURE: usize = 6;

pub(super) fn walk(bytes: &[u8]) -> Walked {
    let mut rest = Rest(bytes);
    rest.take(SIGNATURE)?;
    let (width, height) = (rest.u16_le()?, rest.u16_le()?);
    let [flags, _background, _aspect] = rest.array()?;
    colours(&mut rest, flags)?;
    let mut has_image = false;
    loop {
        match rest.byte()? {
            // An extension: what kind, and its blocks.
            0x21 => {
                rest.byte()?;
                blocks(&mut rest)?;
            }
            0x2c => {
                let (_left, _top) = (rest.u16_le()?, rest.u16_le()?);
                let (width, height) = (rest.u16_le()?, rest.u16_le()?);
                let flags = rest.byte()?;
                colours(&mut rest, flags)?;
                let code_size = rest.byte()?;
                let bytes = blocks(&mut rest)?;
                if width == 0 || height == 0 || !(1..=11).contains(&code_size) || bytes == 0 {
                    return Err(Stop::Wrong("one of its images means nothing"));
                }
                has_image = true;
            }
            0x3b if has_image => return Ok((width.into(), height.into())),
            0x3b => return Err(Stop::Wrong("it has no pixel data")),
            _ => return Err(Stop::Wrong("there is no block where one belongs")),
        }
    }
}

/// A table of colours, where the flags say that there is one.
fn colours(rest: &mut Rest<'_>, flags: u8) -> Result<(), Stop> {
    if flags & 0x80 != 0 {
        rest.take(3 << ((flags & 7) + 1))?;
    }
    Ok(())
}

/// Sub-blocks, up to the empty one. Returns how many bytes they hold.
fn blocks(rest: &mut Rest<'_>) -> Result<usize, Stop> {
    let mut bytes = 0;
    loop {
        let length = usize::from(rest.byte()?);
        if length == 0 {
            return Ok(bytes);
        }
        rest.take(length)?;
        bytes += length;
    }
}
