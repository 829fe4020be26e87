//! JPEG: segments with a length, and after each start of a scan coded data up to the next marker; to the end of image.

use super::rest::{Rest, Stop, Walked};

pub(super) fn walk(bytes: &[u8]) -> Walked {
    let mut rest = Rest(bytes);
    let [_, _] = rest.array()?;
    let mut size = None;
    let mut has_scan = false;
    loop {
        match marker(&mut rest)? {
            // Start of image, and markers that stand alone.
            0xd8 => return Err(Stop::Wrong("a second image begins in it")),
            0x01 | 0xd0..=0xd7 => {}
            0xd9 => {
                return match size {
                    Some(size) if has_scan => Ok(size),
                    Some(_) | None => Err(Stop::Wrong("it has no pixel data")),
                };
            }
            name => {
                let length = usize::from(rest.u16_be()?);
                let content = length.checked_sub(2).ok_or(Stop::Wrong("a segment has an impossible length"))?;
                let content = rest.take(content)?;
                match name {
                    0xc0..=0xc2 => size = Some(frame(content)?),
                    // Not tables (C4), an extension (C8) or conditioning of arithmetic coding (CC): a frame.
                    0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                        return Err(Stop::Wrong("it is coded in a way that few programs read"));
                    }
                    0xda if size.is_none() => return Err(Stop::Wrong("its pixels come before its header")),
                    0xda => {
                        has_scan = true;
                        coded(&mut rest)?;
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The next marker; any number of FF may come before it.
fn marker(rest: &mut Rest<'_>) -> Result<u8, Stop> {
    if rest.byte()? != 0xff {
        return Err(Stop::Wrong("there is no marker where one belongs"));
    }
    loop {
        match rest.byte()? {
            0xff => {}
            0x00 => return Err(Stop::Wrong("there is no marker where one belongs")),
            name => return Ok(name),
        }
    }
}

/// Baseline, extended or progressive.
fn frame(content: &[u8]) -> Walked {
    let mut rest = Rest(content);
    let short = |_| Stop::Wrong("its header is too short");
    let precision = rest.byte().map_err(short)?;
    let (height, width) = (rest.u16_be().map_err(short)?, rest.u16_be().map_err(short)?);
    let components = rest.byte().map_err(short)?;
    if precision != 8 || !matches!(components, 1 | 3 | 4) {
        return Err(Stop::Wrong("it has a depth or colours that few programs read"));
    }
    rest.take(3 * usize::from(components)).map_err(short)?;
    Ok((width.into(), height.into()))
}

/// Goes through coded data, up to the marker that ends it. In the data, FF is followed by 00 or is a restart marker.
fn coded(rest: &mut Rest<'_>) -> Result<(), Stop> {
    loop {
        let place = rest.0.iter().position(|byte| *byte == 0xff).ok_or(Stop::End)?;
        match rest.0.get(place + 1) {
            None => return Err(Stop::End),
            Some(0x00 | 0xd0..=0xd7) => rest.take(place + 2)?,
            Some(0xff) => rest.take(place + 1)?,
            Some(_) => {
                rest.take(place)?;
                return Ok(());
            }
        };
    }
}
