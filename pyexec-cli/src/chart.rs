//! Memory and CPU over the time of a run, as a few lines of text.

use pyexec_view::timeline::Timeline;

use crate::benchmark;
use crate::terminal::Pen;

/// Lines of each of the two curves.
const MEMORY_ROWS: usize = 5;
const CPU_ROWS: usize = 3;
/// What is wider is no more telling, only harder to take in.
const WIDEST: usize = 100;
const INDENT: usize = 2;

const CYAN: &str = "36";
const YELLOW: &str = "33";

/// Eleven lines, at most `columns` wide.
pub(crate) fn text(timeline: &Timeline, columns: usize, pen: Pen) -> String {
    let memory_top = rounded_up(timeline.peak_mib);
    let cpu = timeline.cpu_percent(WIDEST);
    // Of so many cores as it takes.
    let cpu_top = (cpu.iter().copied().fold(0.0, f64::max) / 100.0 - 0.15).ceil().max(1.0) * 100.0;
    let scales = [megabytes(memory_top), megabytes(memory_top / 2.0), format!("{cpu_top:.0}%")];
    let names = ["memory", "CPU"];
    let margin = scales.iter().map(String::len).chain(names.map(str::len)).max().unwrap_or(0);
    let width = columns.min(WIDEST + margin + INDENT + 1).saturating_sub(margin + INDENT + 1).max(8);

    let memory: Vec<f64> = timeline.memory_in(width).into_iter().map(|mib| mib.unwrap_or(0.0) / memory_top).collect();
    let cpu: Vec<f64> = timeline.cpu_percent(width).into_iter().map(|percent| percent / cpu_top).collect();
    let [most, half, cores] = scales;
    let memory = Area { name: names[0], heights: &memory, rows: MEMORY_ROWS, colour: CYAN, top: most, middle: half };
    let cpu = Area { name: names[1], heights: &cpu, rows: CPU_ROWS, colour: YELLOW, top: cores, middle: String::new() };
    let end = benchmark::seconds(timeline.seconds);
    let gap = width.saturating_sub("0 s".len() + end.chars().count());
    format!("{}{}{:INDENT$}{:margin$} 0 s{:gap$}{end}\n", memory.text(margin, pen), cpu.text(margin, pen), "", "", "")
}

/// One of the curves, filled down to zero.
struct Area<'a> {
    name: &'static str,
    /// From 0 to 1.
    heights: &'a [f64],
    rows: usize,
    colour: &'static str,
    top: String,
    middle: String,
}

impl Area<'_> {
    fn text(&self, margin: usize, pen: Pen) -> String {
        let levels = if pen.unicode { " ▁▂▃▄▅▆▇█" } else { " .:#" };
        let levels: Vec<char> = levels.chars().collect();
        let axis = if pen.unicode { '▏' } else { '|' };
        let mut text = format!("{:INDENT$}{:>margin$}\n", "", self.name);
        for row in 0..self.rows {
            let label = match row {
                0 => self.top.as_str(),
                _ if row == self.rows - 1 => "0",
                _ if row == self.rows / 2 => self.middle.as_str(),
                _ => "",
            };
            let bar: String =
                self.heights.iter().map(|height| levels[self.filled(*height, row, levels.len() - 1)]).collect();
            let bar = bar.trim_end();
            let bar = if pen.colour { format!("\x1b[{}m{bar}\x1b[0m", self.colour) } else { bar.to_owned() };
            text += format!("{:INDENT$}{label:>margin$}{axis}{bar}", "").trim_end();
            text.push('\n');
        }
        text
    }

    /// How many of `steps` of one row are below the curve; row 0 is the highest.
    fn filled(&self, height: f64, row: usize, steps: usize) -> usize {
        let all = height.clamp(0.0, 1.0) * (self.rows * steps) as f64;
        // What is there at all is seen.
        let all = if height > 0.0 { all.round().max(1.0) } else { 0.0 };
        let below = ((self.rows - 1 - row) * steps) as f64;
        (all - below).clamp(0.0, steps as f64) as usize
    }
}

/// A number one would write on an axis, not less than this.
fn rounded_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(10.0 * power)
}

fn megabytes(mib: f64) -> String {
    if mib >= 10_240.0 {
        format!("{:.0} GiB", mib / 1024.0)
    } else if mib >= 10.0 {
        format!("{mib:.0} MiB")
    } else {
        format!("{mib:.1} MiB")
    }
}

#[cfg(test)]
mod tests;
