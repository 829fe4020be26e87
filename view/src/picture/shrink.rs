//! Decodes a PNG to check that its pixels are complete, and scales down one that is too large.
//!
//! The decoder streams rows: memory holds the file, the smaller picture, and one row of the larger one. Decoding keeps
//! a core busy, so callers run it on a separate thread.

use super::raster::{Fault, Kind};

/// The largest number of pixels that are decoded: a square of 8,000, which takes about half a second of a core.
const MAX_PIXELS: u64 = 8_000 * 8_000;
/// The longest side that is decoded, so that a row stays small.
const MAX_SIDE: u32 = 1 << 16;

/// The limits that a picture has to fit.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The longest side, in pixels.
    pub side: u32,
    /// The largest size of the file, in bytes.
    pub bytes: usize,
}

/// Decodes the whole PNG, and returns a smaller PNG if it exceeds the bounds; `None` if it fits. The smaller PNG has 8
/// bits per colour, no colour profile, and only the first picture of an animation.
///
/// An interlaced PNG is checked but never made smaller, because its rows do not come in order. If it exceeds `bounds`,
/// it is returned unchanged.
///
/// # Errors
///
/// The pixels cannot be decoded, or there are too many of them.
pub fn shrink(file: &[u8], bounds: Bounds) -> Result<Option<Vec<u8>>, Fault> {
    let damaged = |_| Fault::Damaged { kind: Kind::Png, problem: "its pixels cannot be decoded" };
    let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let (width, height) = decoder.read_header_info().map_err(damaged)?.size();
    if width.max(height) > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Fault::TooManyPixels { width, height });
    }
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (colour, _) = reader.output_color_type();
    let fits = width.max(height) <= bounds.side && file.len() <= bounds.bytes;
    if fits || reader.info().interlaced {
        while reader.next_row().map_err(damaged)?.is_some() {}
        return Ok(None);
    }
    let longest = if width.max(height) > bounds.side { bounds.side } else { smaller(width.max(height)) };
    let mut scaling = Scaling::new(colour, (width, height), longest);
    while let Some(row) = reader.next_row().map_err(damaged)? {
        scaling.row(row.data());
    }
    let mut picture = scaling.finish();
    loop {
        let encoded = picture.encode();
        if encoded.len() <= bounds.bytes || picture.longest_side() == 1 {
            return Ok(Some(encoded));
        }
        let longest = smaller(picture.longest_side());
        let mut scaling = Scaling::new(picture.colour, (picture.width, picture.height), longest);
        picture.pixels.chunks_exact(picture.width as usize * picture.colour.samples()).for_each(|row| scaling.row(row));
        picture = scaling.finish();
    }
}

/// About half as many pixels.
fn smaller(side: u32) -> u32 {
    (side * 7 / 10).max(1)
}

struct Picture {
    colour: png::ColorType,
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Picture {
    fn longest_side(&self) -> u32 {
        self.width.max(self.height)
    }

    fn encode(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, self.width, self.height);
        encoder.set_color(self.colour);
        encoder.set_depth(png::BitDepth::Eight);
        let written = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(&self.pixels)?;
            writer.finish()
        });
        written.expect("a vector takes whatever is written");
        file
    }
}

/// Each pixel of the smaller picture is the mean of the pixels it covers, weighted by their alpha.
struct Scaling {
    colour: png::ColorType,
    height_before: u32,
    /// For each column of the larger picture, the column of the smaller one.
    columns: Vec<u32>,
    /// For each pixel of a row of the smaller picture: the weighted sum of each colour, and the sum of the weights.
    sums: Vec<[u64; 5]>,
    rows_read: u32,
    picture: Picture,
}

impl Scaling {
    fn new(colour: png::ColorType, (width, height): (u32, u32), longest: u32) -> Self {
        let longest_before = u64::from(width.max(height));
        let scaled = |side: u32| ((u64::from(side) * u64::from(longest)) / longest_before).max(1) as u32;
        let (new_width, new_height) = (scaled(width), scaled(height));
        let column = |x: u32| (u64::from(x) * u64::from(new_width) / u64::from(width)) as u32;
        Self {
            colour,
            height_before: height,
            columns: (0..width).map(column).collect(),
            sums: vec![[0; 5]; new_width as usize],
            rows_read: 0,
            picture: Picture { colour, width: new_width, height: new_height, pixels: Vec::new() },
        }
    }

    fn row_of(&self, row: u32) -> u64 {
        u64::from(row) * u64::from(self.picture.height) / u64::from(self.height_before)
    }

    fn row(&mut self, row: &[u8]) {
        let (colours, has_alpha) = (self.colour_samples(), self.has_alpha());
        for (pixel, column) in row.chunks_exact(self.colour.samples()).zip(&self.columns) {
            let sums = &mut self.sums[*column as usize];
            let weight = if has_alpha { u64::from(pixel[colours]) } else { 255 };
            for (sum, value) in sums.iter_mut().zip(&pixel[..colours]) {
                *sum += u64::from(*value) * weight;
            }
            sums[3] += weight;
            sums[4] += 1;
        }
        self.rows_read += 1;
        let is_last = self.rows_read == self.height_before;
        if is_last || self.row_of(self.rows_read) != self.row_of(self.rows_read - 1) {
            self.end_row();
        }
    }

    fn has_alpha(&self) -> bool {
        self.colour.samples().is_multiple_of(2)
    }

    /// The number of colour samples per pixel, without alpha.
    fn colour_samples(&self) -> usize {
        self.colour.samples() - usize::from(self.has_alpha())
    }

    fn end_row(&mut self) {
        let (colours, has_alpha) = (self.colour_samples(), self.has_alpha());
        for sums in &mut self.sums {
            let [.., weights, count] = *sums;
            for sum in &sums[..colours] {
                self.picture.pixels.push(mean(*sum, weights));
            }
            if has_alpha {
                self.picture.pixels.push(mean(weights, count));
            }
            *sums = [0; 5];
        }
    }

    fn finish(self) -> Picture {
        self.picture
    }
}

/// The rounded mean; 0 for an empty sum.
fn mean(sum: u64, count: u64) -> u8 {
    (sum + count / 2).checked_div(count).map_or(0, |mean| mean.min(255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOMY: Bounds = Bounds { side: 2_000, bytes: 1 << 20 };

    fn picture(colour: png::ColorType, width: u32, height: u32, pixel: impl Fn(u32, u32) -> Vec<u8>) -> Picture {
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Picture { colour, width, height, pixels: places.flat_map(|(x, y)| pixel(x, y)).collect() }
    }

    fn decoded(file: &[u8]) -> Picture {
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().expect("is a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("fits")];
        let frame = reader.next_frame(&mut pixels).expect("is a whole one");
        Picture { colour: frame.color_type, width: frame.width, height: frame.height, pixels }
    }

    #[test]
    fn what_fits_is_left_as_it_is_and_what_does_not_is_scaled_within_its_bounds() {
        use png::ColorType::{Grayscale, GrayscaleAlpha, Rgb, Rgba};
        for (colour, pixel) in
            [(Grayscale, &[7][..]), (GrayscaleAlpha, &[7, 100][..]), (Rgb, &[1, 2, 3][..]), (Rgba, &[9, 8, 7, 6][..])]
        {
            let file = picture(colour, 30, 10, |_, _| pixel.to_vec()).encode();
            assert_eq!(shrink(&file, ROOMY), Ok(None), "{colour:?}");
            let small = shrink(&file, Bounds { side: 6, ..ROOMY }).expect("can be decoded").expect("is too large");
            let small = decoded(&small);
            assert_eq!((small.colour, small.width, small.height), (colour, 6, 2));
            assert_eq!(small.pixels, pixel.repeat(12), "{colour:?}");
        }
    }

    #[test]
    fn each_pixel_is_the_mean_of_those_it_stands_for_and_what_is_transparent_has_no_colour() {
        let stripes =
            picture(png::ColorType::Grayscale, 4, 2, |x, y| vec![if x < 2 { 0 } else { 100 } + y as u8 * 100]);
        let small = shrink(&stripes.encode(), Bounds { side: 2, ..ROOMY }).expect("can be decoded").expect("shrinks");
        assert_eq!(decoded(&small).pixels, [50, 150]);
        let half =
            picture(png::ColorType::Rgba, 2, 1, |x, _| if x == 0 { vec![200, 0, 0, 255] } else { vec![0, 255, 0, 0] });
        let small = shrink(&half.encode(), Bounds { side: 1, ..ROOMY }).expect("can be decoded").expect("shrinks");
        assert_eq!(decoded(&small).pixels, [200, 0, 0, 128]);
    }

    #[test]
    fn a_file_of_too_many_bytes_is_made_smaller_until_it_has_few_enough() {
        let noise = |x: u32, y: u32| {
            let mixed = (u64::from(x) << 32 | u64::from(y)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            vec![((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as u8]
        };
        let file = picture(png::ColorType::Grayscale, 200, 100, noise).encode();
        assert!(file.len() > 10_000);
        for bytes in [10_000, 1_000, 100] {
            let small = shrink(&file, Bounds { bytes, ..ROOMY }).expect("can be decoded").expect("is too large");
            assert!(small.len() <= bytes, "{} of {bytes}", small.len());
            let small = decoded(&small);
            assert!(small.width > small.height && small.width < 200);
        }
    }

    #[test]
    fn sides_that_differ_by_any_ratio_are_scaled() {
        for (width, height) in [(97, 1), (1, 97), (97, 89), (50, 3)] {
            let file = picture(png::ColorType::Grayscale, width, height, |_, _| vec![5]).encode();
            let small = decoded(&shrink(&file, Bounds { side: 13, ..ROOMY }).expect("can be").expect("is too large"));
            assert_eq!(small.longest_side(), 13, "{width} x {height}");
            assert_eq!(small.pixels, vec![5; (small.width * small.height) as usize], "{width} x {height}");
        }
    }

    #[test]
    fn pixels_that_are_missing_and_too_many_of_them_are_told() {
        let whole = picture(png::ColorType::Grayscale, 20, 20, |x, y| vec![(x * y) as u8]);
        let claims = |width: u32, height: u32| {
            // Of the right form, and with the data of a smaller picture.
            let mut file = whole.encode();
            file[16..20].copy_from_slice(&width.to_be_bytes());
            file[20..24].copy_from_slice(&height.to_be_bytes());
            let checksum = crc32fast::hash(&file[12..29]);
            file[29..33].copy_from_slice(&checksum.to_be_bytes());
            shrink(&file, ROOMY)
        };
        assert_eq!(claims(20, 20), Ok(None));
        let undecodable = Fault::Damaged { kind: Kind::Png, problem: "its pixels cannot be decoded" };
        assert_eq!(claims(20, 21), Err(undecodable.clone()));
        assert_eq!(claims(4_000, 3_000), Err(undecodable));
        for (width, height) in [(9_000, 9_000), (65_537, 1), (1, u32::MAX >> 1)] {
            assert_eq!(claims(width, height), Err(Fault::TooManyPixels { width, height }));
        }
    }
}
