//! PNG: chunks with a length and a checksum, from IHDR to IEND.

use super::rest::{Rest, Stop, Walked};

const SIGNATURE: usize = 8;

pub(super) fn walk(bytes: &[u8]) -> Walked {
    let mut rest = Rest(bytes);
    rest.take(SIGNATURE)?;
    let mut size = None;
    let mut has_data = false;
    loop {
        let length = rest.u32_be()?;
        // Longer than the format allows, it would otherwise look like a file that was cut off.
        if length > 0x7fff_ffff {
            return Err(Stop::Wrong("a chunk has an impossible length"));
        }
        let mut checked = rest;
        let name: [u8; 4] = rest.array()?;
        let data = rest.take(length as usize)?;
        let checksum = rest.u32_be()?;
        if crc32fast::hash(checked.take(4 + length as usize)?) != checksum {
            return Err(Stop::Wrong("the checksum of a chunk is wrong"));
        }
        match (&name, size) {
            (b"IHDR", None) => size = Some(header(data)?),
            (b"IHDR", Some(_)) => return Err(Stop::Wrong("it has a second header")),
            (_, None) => return Err(Stop::Wrong("it does not begin with its header")),
            (b"IDAT", Some(_)) => has_data = true,
            (b"IEND", Some(size)) if has_data => return Ok(size),
            (b"IEND", Some(_)) => return Err(Stop::Wrong("it has no pixel data")),
            (_, Some(_)) => {}
        }
    }
}

fn header(data: &[u8]) -> Walked {
    let mut rest = Rest(data);
    let wrong = |_| Stop::Wrong("its header is too short");
    let (width, height) = (rest.u32_be().map_err(wrong)?, rest.u32_be().map_err(wrong)?);
    let [depth, colour, compression, filter, interlace] = rest.array().map_err(wrong)?;
    let fits = match colour {
        0 => matches!(depth, 1 | 2 | 4 | 8 | 16),
        3 => matches!(depth, 1 | 2 | 4 | 8),
        2 | 4 | 6 => matches!(depth, 8 | 16),
        _ => false,
    };
    if !fits || compression != 0 || filter != 0 || interlace > 1 || !rest.0.is_empty() {
        return Err(Stop::Wrong("its header means nothing"));
    }
    Ok((width, height))
}
