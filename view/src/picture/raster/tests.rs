use super::*;

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut file, width, height);
    encoder.set_color(::png::ColorType::Grayscale);
    let mut writer = encoder.write_header().expect("a vector takes it");
    writer.write_image_data(&vec![9; (width * height) as usize]).expect("a vector takes it");
    writer.finish().expect("a vector takes it");
    file
}

/// With a frame of the kind `sof`, a table before it, and a scan with a restart marker and a stuffed byte.
fn jpeg(sof: u8, precision: u8, components: u8, (width, height): (u16, u16)) -> Vec<u8> {
    let segment = |name: u8, content: &[u8]| {
        let length = u16::try_from(content.len() + 2).expect("is short").to_be_bytes();
        [&[0xff, name], &length[..], content].concat()
    };
    let frame = [&[precision], &height.to_be_bytes()[..], &width.to_be_bytes(), &[components]].concat();
    let frame = [frame, vec![1; 3 * usize::from(components)]].concat();
    [
        vec![0xff, 0xd8],
        // With a whole JPEG in it, as a thumbnail is.
        segment(0xe1, b"Exif\0\0\xff\xd8\xff\xda\0\x02\xff\xd9"),
        segment(0xc4, &[0; 20]),
        // Fill bytes.
        vec![0xff, 0xff],
        segment(sof, &frame),
        segment(0xda, &[1, 1, 0, 0, 63, 0]),
        vec![1, 2, 0xff, 0x00, 3, 0xff, 0xd0, 4],
        segment(0xda, &[1, 1, 0, 0, 63, 0]),
        vec![5, 6, 0xff, 0xd9],
    ]
    .concat()
}

const BASELINE: u8 = 0xc0;

fn gif(width: u16, height: u16) -> Vec<u8> {
    let block = b"\x2c\0\0\0\0\x01\0\x01\0\x80\0\0\0\xff\xff\xff\x02\x02\x44\x01\0";
    [
        b"GIF89a",
        &width.to_le_bytes()[..],
        &height.to_le_bytes(),
        b"\x80\0\0\0\0\0\xff\xff\xff",
        b"\x21\xf9\x04\x01\0\0\0\0",
        block,
        block,
        b"\x3b",
    ]
    .concat()
}

fn riff(chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let chunk = |(name, data): &(&[u8; 4], Vec<u8>)| {
        let padding = vec![0; data.len() % 2];
        [&name[..], &u32::try_from(data.len()).expect("is short").to_le_bytes(), data, &padding].concat()
    };
    let body = [b"WEBP".to_vec(), chunks.iter().flat_map(chunk).collect()].concat();
    [b"RIFF", &u32::try_from(body.len()).expect("is short").to_le_bytes()[..], &body].concat()
}

fn vp8(width: u16, height: u16) -> Vec<u8> {
    let (width, height) = (width.to_le_bytes(), height.to_le_bytes());
    [&[0x30, 1, 0, 0x9d, 1, 0x2a], &width[..], &height, &[0x0e, 0xc0, 0xfe, 0x25, 0xa4, 0, 3, 0x70, 0, 0, 0, 0]]
        .concat()
}

fn vp8l(width: u32, height: u32) -> Vec<u8> {
    let bits = (width - 1) | (height - 1) << 14 | 1 << 28;
    [&[0x2f], &bits.to_le_bytes()[..], &[7, 0x10, 0x11, 0x11, 0x88, 0x88, 0xfe, 7]].concat()
}

fn vp8x(width: u32, height: u32) -> Vec<u8> {
    let side = |side: u32| (side - 1).to_le_bytes()[..3].to_vec();
    [vec![0x10, 0, 0, 0], side(width), side(height)].concat()
}

fn anmf(image: &[u8]) -> Vec<u8> {
    let length = u32::try_from(image.len()).expect("is short").to_le_bytes();
    [&[0; 16], &b"VP8L"[..], &length, image, &[0]].concat()
}

/// A whole one of each form, and what is to be found of it.
fn whole() -> Vec<(&'static str, Vec<u8>, Raster)> {
    let raster = |kind, width, height| Raster { kind, width, height };
    vec![
        ("PNG", png(7, 5), raster(Kind::Png, 7, 5)),
        ("baseline JPEG", jpeg(BASELINE, 8, 3, (640, 480)), raster(Kind::Jpeg, 640, 480)),
        ("extended JPEG", jpeg(0xc1, 8, 1, (1, 2)), raster(Kind::Jpeg, 1, 2)),
        ("progressive JPEG", jpeg(0xc2, 8, 4, (65_535, 3)), raster(Kind::Jpeg, 65_535, 3)),
        ("GIF", gif(300, 2), raster(Kind::Gif, 300, 2)),
        ("lossy WebP", riff(&[(b"VP8 ", vp8(16_383, 9))]), raster(Kind::Webp, 16_383, 9)),
        ("lossless WebP", riff(&[(b"VP8L", vp8l(16_384, 9))]), raster(Kind::Webp, 16_384, 9)),
        (
            "extended WebP",
            riff(&[(b"VP8X", vp8x(70_000, 8)), (b"ALPH", vec![1, 2, 3]), (b"VP8 ", vp8(70, 8)), (b"EXIF", vec![0; 5])]),
            raster(Kind::Webp, 70_000, 8),
        ),
        (
            "animated WebP",
            riff(&[(b"VP8X", vp8x(20, 10)), (b"ANIM", vec![0; 6]), (b"ANMF", anmf(&vp8l(20, 10)))]),
            raster(Kind::Webp, 20, 10),
        ),
    ]
}

#[test]
fn the_size_of_a_whole_image_is_found_in_each_form_and_what_follows_it_is_ignored() {
    for (name, mut file, raster) in whole() {
        assert_eq!(inspect(&file), Ok(Some(raster)), "{name}");
        file.extend(b"more \xff\xd8");
        assert_eq!(inspect(&file), Ok(Some(raster)), "{name}");
    }
}

#[test]
fn an_image_that_ends_at_any_byte_before_its_end_is_none_to_show() {
    for (name, file, _) in whole() {
        for length in 0..file.len() {
            match (Kind::of(&file[..length]), inspect(&file[..length])) {
                (None, Ok(None)) => {}
                (Some(kind), Err(fault)) => assert_eq!(fault, Fault::CutOff(kind), "{name}, {length} bytes"),
                other => panic!("{name}, {length} bytes: {other:?}"),
            }
        }
    }
}

#[test]
fn an_image_is_known_by_how_it_begins() {
    assert_eq!(Kind::of(b"\x89PNG\r\n\x1a\nrest"), Some(Kind::Png));
    assert_eq!(Kind::of(b"\xff\xd8\xff\xe0"), Some(Kind::Jpeg));
    assert_eq!(Kind::of(b"GIF87a"), Some(Kind::Gif));
    assert_eq!(Kind::of(b"RIFF\0\0\0\0WEBPVP8 "), Some(Kind::Webp));
    for other in [&b""[..], b"\x89PN", b"<svg>", b"RIFF\0\0\0\0WAVE", b"GIF88a", b"BM", b"II*\0"] {
        assert_eq!(inspect(other), Ok(None), "{other:?}");
    }
}

#[test]
fn parts_that_mean_nothing_are_damage() {
    let changed = |mut file: Vec<u8>, at: usize, byte: u8| {
        file[at] ^= byte;
        file
    };
    let without = |mut file: Vec<u8>, from: usize, length: usize| {
        file.drain(from..from + length);
        file
    };
    let png = png(7, 5);
    let end = png.len();
    for (problem, file) in [
        ("the checksum of a chunk is wrong", changed(png.clone(), 45, 1)),
        ("the checksum of a chunk is wrong", changed(png.clone(), end - 1, 1)),
        ("a chunk has an impossible length", changed(png.clone(), 8, 0x80)),
        ("it does not begin with its header", without(png.clone(), 8, 25)),
        ("it has no pixel data", without(png.clone(), 33, end - 33 - 12)),
        ("it has no pixels", jpeg(BASELINE, 8, 3, (0, 4))),
        ("it has no pixels", jpeg(BASELINE, 8, 3, (4, 0))),
        ("it has a depth or colours that few programs read", jpeg(BASELINE, 12, 3, (4, 4))),
        ("it has a depth or colours that few programs read", jpeg(BASELINE, 8, 2, (4, 4))),
        ("it is coded in a way that few programs read", jpeg(0xc3, 8, 3, (4, 4))),
        ("it is coded in a way that few programs read", jpeg(0xc9, 8, 3, (4, 4))),
        ("it has no pixel data", b"\xff\xd8\xff\xd9".to_vec()),
        ("its pixels come before its header", b"\xff\xd8\xff\xda\0\x02\xff\xd9".to_vec()),
        ("a second image begins in it", b"\xff\xd8\xff\xd8".to_vec()),
        ("a segment has an impossible length", b"\xff\xd8\xff\xe0\0\x01".to_vec()),
        ("there is no marker where one belongs", b"\xff\xd8\xff\xe0\0\x02text".to_vec()),
        ("it has no pixels", gif(0, 4)),
        ("it has no pixel data", b"GIF89a\x01\0\x01\0\0\0\0;".to_vec()),
        ("there is no block where one belongs", b"GIF89a\x01\0\x01\0\0\0\0garbage".to_vec()),
        ("one of its images means nothing", b"GIF89a\x01\0\x01\0\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\0;".to_vec()),
        ("it has no pixel data", riff(&[])),
        ("it has no pixel data", riff(&[(b"VP8X", vp8x(2, 2))])),
        ("it does not begin with an image", riff(&[(b"ALPH", vec![1])])),
        ("its image means nothing", riff(&[(b"VP8 ", vec![0; 30])])),
        ("its image means nothing", riff(&[(b"VP8L", vec![0; 30])])),
        ("a chunk is longer than what it is in", riff(&[(b"VP8 ", vp8(4, 4)[..12].to_vec())])),
        ("a chunk is longer than what it is in", riff(&[(b"VP8L", vp8l(4, 4)[..5].to_vec())])),
        ("a chunk is longer than what it is in", changed(riff(&[(b"VP8 ", vp8(4, 4))]), 16, 0x40)),
        ("it has no pixels", riff(&[(b"VP8 ", vp8(0, 4))])),
    ] {
        match inspect(&file) {
            Err(Fault::Damaged { problem: found, .. }) => assert_eq!(found, problem, "{file:?}"),
            other => panic!("{problem}: {other:?} of {file:?}"),
        }
    }
}
