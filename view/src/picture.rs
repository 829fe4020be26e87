//! PNG pictures of memory and CPU over the time of runs. The CLI writes them to files, and the MCP server returns them
//! to agents.
//!
//! A picture has an opaque background, so that it is readable on any page. tiny-skia draws the lines, `scale` has the
//! axes and their labels, and `lettering` the text.
//!
//! The module also checks images of jobs before they are returned to an agent: [`raster`] tells whether an image is
//! complete, and [`shrink`](shrink()) makes a PNG smaller.

mod colour;
mod lettering;
pub mod raster;
mod scale;
mod shrink;

use std::io::{self, Write};

use tiny_skia::{FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, StrokeDash, Transform};

use crate::timeline::{Curve, MOST_CURVES, Timeline};
use colour::Colour;
use lettering::{Align, Lettering};
use scale::Scale;
pub use shrink::{Bounds, shrink};

pub const WIDTH: u32 = 1200;
pub const HEIGHT: u32 = 640;

const BACKGROUND: Colour = Colour(0xfb, 0xfb, 0xfc);
const BORDER: Colour = Colour(0xd5, 0xd9, 0xe0);
const GRID: Colour = Colour(0xe4, 0xe7, 0xec);
const AXIS: Colour = Colour(0x9a, 0xa3, 0xb0);
const TEXT: Colour = Colour(0x1f, 0x29, 0x37);
const QUIET: Colour = Colour(0x5b, 0x65, 0x74);
const MEMORY: Colour = Colour(0x25, 0x63, 0xc4);
const CPU: Colour = Colour(0xc2, 0x5e, 0x0e);
/// The palette of Okabe and Ito, which people with colour blindness can distinguish too.
const RUNS: [Colour; MOST_CURVES] = [
    Colour(0x00, 0x72, 0xb2),
    Colour(0xd5, 0x5e, 0x00),
    Colour(0x00, 0x8a, 0x65),
    Colour(0xb6, 0x55, 0x91),
    Colour(0xa6, 0x7c, 0x00),
    Colour(0x44, 0x4c, 0x5a),
];

const TITLE_PX: f32 = 28.0;
const LABEL_PX: f32 = 19.0;

const LEFT: f32 = 118.0;
const RIGHT: f32 = WIDTH as f32 - 48.0;
const MEMORY_TOP: f32 = 134.0;
const MEMORY_BOTTOM: f32 = 376.0;
const CPU_TOP: f32 = 444.0;
const CPU_BOTTOM: f32 = 560.0;

/// Draws at least one run, and at most the first [`MOST_CURVES`]; several runs have a colour each.
///
/// The title is untrusted: unknown glyphs render as a box, and long titles are truncated.
pub fn png(title: &str, curves: &[Curve<'_>]) -> Vec<u8> {
    let curves = &curves[..curves.len().min(MOST_CURVES)];
    let longest = curves.iter().map(|curve| curve.timeline.seconds).fold(1e-6, f64::max);
    let time = Scale::of_seconds(longest);
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, WIDTH, HEIGHT);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    let written = encoder.write_header().and_then(|mut writer| {
        let mut stream = writer.stream_writer()?;
        let mut strip = Strip::new();
        for top in (0..HEIGHT).step_by(STRIP as usize) {
            strip.begin(top);
            strip.heading(title, curves);
            strip.memory(curves, &time);
            strip.cpu(curves, &time);
            strip.time(&time);
            strip.write(&mut stream)?;
        }
        stream.finish()
    });
    written.expect("a vector takes whatever is written");
    file
}

/// The number of rows drawn at once; it divides the height. A whole picture would take 3 MB, more than everything else
/// in a server that draws one now and then.
const STRIP: u32 = 80;

/// Some rows of the picture. The whole picture is drawn on each strip and clipped to it.
struct Strip {
    pixmap: Pixmap,
    lettering: Lettering,
    top: f32,
}

/// A part of the picture, with the values at its edges.
struct Panel<'a> {
    top: f32,
    bottom: f32,
    time: &'a Scale,
    scale: &'a Scale,
}

impl Panel<'_> {
    fn x(&self, seconds: f64) -> f32 {
        LEFT + (RIGHT - LEFT) * (seconds / self.time.end).clamp(0.0, 1.0) as f32
    }

    fn y(&self, value: f64) -> f32 {
        self.bottom - (self.bottom - self.top) * (value / self.scale.end).clamp(0.0, 1.0) as f32
    }

    fn points(&self, points: impl Iterator<Item = (f64, f64)>) -> Vec<(f32, f32)> {
        points.map(|(at, value)| (self.x(at), self.y(value))).collect()
    }
}

impl Strip {
    fn new() -> Self {
        Self { pixmap: Pixmap::new(WIDTH, STRIP).expect("is not empty"), lettering: Lettering::new(), top: 0.0 }
    }

    fn begin(&mut self, top: u32) {
        self.top = top as f32;
        self.pixmap.fill(tiny_skia::Color::from_rgba8(BACKGROUND.0, BACKGROUND.1, BACKGROUND.2, 255));
        let (right, bottom) = (WIDTH as f32 - 0.5, HEIGHT as f32 - 0.5);
        let frame = [(0.5, 0.5), (right, 0.5), (right, bottom), (0.5, bottom), (0.5, 0.5)];
        self.line(&frame, BORDER, 1.0, None);
    }

    fn write(&self, stream: &mut impl Write) -> io::Result<()> {
        self.pixmap.data().chunks(WIDTH as usize * 4).try_for_each(|row| {
            let opaque: Vec<u8> = row.chunks(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
            stream.write_all(&opaque)
        })
    }

    fn placed(&self) -> Transform {
        Transform::from_translate(0.0, -self.top)
    }

    fn heading(&mut self, title: &str, curves: &[Curve<'_>]) {
        self.text(title, (LEFT - 70.0, 52.0), TITLE_PX, TEXT, Align::Left, RIGHT - LEFT + 70.0);
        if let [only] = curves {
            let Timeline { seconds, peak_mib, .. } = only.timeline;
            let told = format!("took {}, peak memory {}", scale::seconds(*seconds), scale::mebibytes(*peak_mib));
            self.text(&told, (LEFT - 70.0, 84.0), LABEL_PX, QUIET, Align::Left, RIGHT - LEFT);
            return;
        }
        let room = (RIGHT - LEFT + 70.0) / curves.len() as f32;
        let mut x = LEFT - 70.0;
        for (curve, colour) in curves.iter().zip(RUNS) {
            self.line(&[(x, 78.0), (x + 22.0, 78.0)], colour, 4.0, None);
            let width = self.text(curve.name, (x + 30.0, 84.0), LABEL_PX, QUIET, Align::Left, room - 54.0);
            x += width + 54.0;
        }
    }

    fn memory(&mut self, curves: &[Curve<'_>], time: &Scale) {
        let most = curves.iter().map(|curve| curve.timeline.peak_mib).fold(0.0, f64::max);
        let scale = Scale::of_mebibytes(most);
        let panel = Panel { top: MEMORY_TOP, bottom: MEMORY_BOTTOM, time, scale: &scale };
        self.frame(&panel, "Memory, all processes together");
        for (curve, colour) in coloured(curves, MEMORY) {
            let points = panel.points(curve.timeline.memory().iter().copied());
            self.curve(&points, &panel, colour, curves.len() == 1);
        }
        if let [only] = curves {
            let y = panel.y(only.timeline.peak_mib);
            self.line(&[(LEFT, y), (RIGHT, y)], MEMORY, 1.5, Some(7.0));
        }
    }

    fn cpu(&mut self, curves: &[Curve<'_>], time: &Scale) {
        const STEPS: usize = 240;
        let timelines: Vec<Vec<f64>> = curves.iter().map(|curve| curve.timeline.cpu_percent(STEPS)).collect();
        let scale = Scale::of_percent(timelines.iter().flatten().copied().fold(0.0, f64::max));
        let panel = Panel { top: CPU_TOP, bottom: CPU_BOTTOM, time, scale: &scale };
        self.frame(&panel, "CPU, 100 % is one core");
        for ((curve, colour), percents) in coloured(curves, CPU).zip(timelines) {
            let step = curve.timeline.seconds / (STEPS - 1) as f64;
            let timeline = percents.into_iter().enumerate().map(|(number, percent)| (number as f64 * step, percent));
            let points = panel.points(timeline);
            self.curve(&points, &panel, colour, curves.len() == 1);
        }
    }

    fn time(&mut self, time: &Scale) {
        let panel = Panel { top: CPU_TOP, bottom: CPU_BOTTOM, time, scale: time };
        for (seconds, label) in &time.ticks {
            let x = panel.x(*seconds);
            self.text(label, (x, CPU_BOTTOM + 32.0), LABEL_PX, QUIET, Align::Middle, 200.0);
        }
    }

    /// Draws the axes and grid behind a curve.
    fn frame(&mut self, panel: &Panel<'_>, name: &str) {
        self.text(name, (LEFT, panel.top - 14.0), LABEL_PX, TEXT, Align::Left, RIGHT - LEFT);
        for (seconds, _) in &panel.time.ticks {
            let x = panel.x(*seconds).round() + 0.5;
            self.line(&[(x, panel.top), (x, panel.bottom)], GRID, 1.0, None);
        }
        for (value, label) in &panel.scale.ticks {
            let y = panel.y(*value).round() + 0.5;
            self.line(&[(LEFT, y), (RIGHT, y)], if *value == 0.0 { AXIS } else { GRID }, 1.0, None);
            self.text(label, (LEFT - 12.0, y + LABEL_PX * 0.35), LABEL_PX, QUIET, Align::Right, LEFT);
        }
    }

    fn curve(&mut self, points: &[(f32, f32)], panel: &Panel<'_>, colour: Colour, filled: bool) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        if filled {
            let base = [(last.0, panel.bottom), (first.0, panel.bottom)];
            let outline: Vec<_> = points.iter().copied().chain(base).collect();
            if let Some(area) = path(&outline) {
                let placed = self.placed();
                self.pixmap.fill_path(&area, &paint(colour, 46), FillRule::Winding, placed, None);
            }
        }
        self.line(points, colour, 2.5, None);
        if let &[(x, y)] = points {
            let spot = Rect::from_xywh(x - 3.0, y - 3.0, 6.0, 6.0).expect("is not empty");
            let placed = self.placed();
            self.pixmap.fill_rect(spot, &paint(colour, 255), placed, None);
        }
    }

    fn line(&mut self, points: &[(f32, f32)], colour: Colour, width: f32, dashes: Option<f32>) {
        let Some(path) = path(points) else { return };
        let stroke = Stroke {
            width,
            line_join: LineJoin::Round,
            line_cap: if dashes.is_some() || width <= 1.0 { LineCap::Butt } else { LineCap::Round },
            dash: dashes.and_then(|length| StrokeDash::new(vec![length, length * 0.8], 0.0)),
            ..Stroke::default()
        };
        let placed = self.placed();
        self.pixmap.stroke_path(&path, &paint(colour, 255), &stroke, placed, None);
    }

    /// Draws text, and returns its width.
    fn text(&mut self, text: &str, at: (f32, f32), px: f32, colour: Colour, align: Align, room: f32) -> f32 {
        let at = (at.0, at.1 - self.top);
        self.lettering.write(&mut self.pixmap, text, at, px, colour, align, room)
    }
}

/// A single run is drawn in the colour of the panel; several runs have a colour each.
fn coloured<'a>(curves: &'a [Curve<'a>], alone: Colour) -> impl Iterator<Item = (&'a Curve<'a>, Colour)> {
    let several = curves.len() > 1;
    curves.iter().zip(RUNS).map(move |(curve, colour)| (curve, if several { colour } else { alone }))
}

fn path(points: &[(f32, f32)]) -> Option<Path> {
    let mut builder = PathBuilder::new();
    let (first, rest) = points.split_first()?;
    builder.move_to(first.0, first.1);
    rest.iter().for_each(|(x, y)| builder.line_to(*x, *y));
    builder.finish()
}

fn paint(Colour(red, green, blue): Colour, alpha: u8) -> Paint<'static> {
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color_rgba8(red, green, blue, alpha);
    paint
}

#[cfg(test)]
mod tests;
