//! Text in a picture, in a font that is embedded in the program, so that no installed fonts are needed.

use ab_glyph::{Font, FontRef, Glyph, Point, PxScale, ScaleFont};
use tiny_skia::Pixmap;

use super::colour::Colour;

/// DejaVu Sans, reduced to Latin, Greek and Cyrillic; `font/LICENSE` is its licence.
static FONT: &[u8] = include_bytes!("../../font/DejaVuSans.ttf");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Middle,
    Right,
}

pub(crate) struct Lettering(FontRef<'static>);

impl Lettering {
    pub(crate) fn new() -> Self {
        Self(FontRef::try_from_slice(FONT).expect("the font is one"))
    }

    /// Draws text at `at`, and returns its width. Text wider than `room` is truncated with an ellipsis.
    #[expect(clippy::too_many_arguments, reason = "where, what, how large, in which colour")]
    pub(crate) fn write(
        &self,
        pixmap: &mut Pixmap,
        text: &str,
        (x, y): (f32, f32),
        px: f32,
        colour: Colour,
        align: Align,
        room: f32,
    ) -> f32 {
        let (glyphs, width) = self.line(text, px, room);
        let start = match align {
            Align::Left => x,
            Align::Middle => x - width / 2.0,
            Align::Right => x - width,
        };
        for mut glyph in glyphs {
            glyph.position.x += start;
            glyph.position.y = y;
            self.glyph(pixmap, glyph, colour);
        }
        width
    }

    /// Lays out a line that starts at 0.
    fn line(&self, text: &str, px: f32, room: f32) -> (Vec<Glyph>, f32) {
        let font = self.0.as_scaled(PxScale::from(px));
        let ellipsis = font.h_advance(font.glyph_id('…'));
        let mut glyphs: Vec<Glyph> = vec![];
        let mut width = 0.0;
        for character in text.chars().map(|given| if given.is_control() { ' ' } else { given }) {
            let id = font.glyph_id(character);
            let kern = glyphs.last().map_or(0.0, |last| font.kern(last.id, id));
            let advance = kern + font.h_advance(id);
            if width + advance > room {
                while width + ellipsis > room
                    && let Some(last) = glyphs.pop()
                {
                    width = last.position.x;
                }
                glyphs.push(font.glyph_id('…').with_scale_and_position(font.scale(), Point { x: width, y: 0.0 }));
                return (glyphs, width + ellipsis);
            }
            glyphs.push(id.with_scale_and_position(font.scale(), Point { x: width + kern, y: 0.0 }));
            width += advance;
        }
        (glyphs, width)
    }

    fn glyph(&self, pixmap: &mut Pixmap, glyph: Glyph, Colour(red, green, blue): Colour) {
        let Some(outlined) = self.0.outline_glyph(glyph) else { return };
        let bounds = outlined.px_bounds();
        let (width, height) = (pixmap.width(), pixmap.height());
        let pixels = pixmap.data_mut();
        outlined.draw(|x, y, coverage| {
            let at = |start: f32, offset: u32, end: u32| {
                let at = start as i64 + i64::from(offset);
                u32::try_from(at).ok().filter(|at| *at < end)
            };
            let (Some(x), Some(y)) = (at(bounds.min.x, x, width), at(bounds.min.y, y, height)) else { return };
            let start = (y as usize * width as usize + x as usize) * 4;
            // The background is opaque.
            for (value, ink) in pixels[start..start + 3].iter_mut().zip([red, green, blue]) {
                let below = f32::from(*value);
                *value = (below + (f32::from(ink) - below) * coverage.clamp(0.0, 1.0)).round() as u8;
            }
        });
    }
}
