//! Bars as SVG, with colours that can be read on white and on dark.

use std::fmt::Write;

use crate::measure::Measure;
use crate::proxy::Proxy;
use weft_bench::figure;

const WIDTH: f64 = 640.0;
const LEFT: f64 = 80.0;
/// Room for a figure behind the longest bar.
const RIGHT: f64 = 110.0;
const TOP: f64 = 34.0;
const STEP: f64 = 26.0;
const BAR: f64 = 16.0;

/// The name of a measure's plot: `http-1-1-keep-alive-cpu-per-request.svg`.
pub(crate) fn file_name(measure: &str) -> String {
    let letters = measure.to_lowercase();
    let words = letters.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-") + ".svg"
}

/// A bar for each proxy, with a line from the least to the greatest value.
pub(crate) fn bars(measure: &Measure) -> String {
    let rows: Vec<_> = Proxy::PROCESSES
        .into_iter()
        .filter_map(|proxy| measure.spread(proxy).map(|spread| (proxy, spread)))
        .collect();
    // A round that was disturbed reaches far beyond all of these: its line ends where the room does.
    let most =
        rows.iter().map(|(_, spread)| spread.typical).fold(f64::MIN_POSITIVE, f64::max) * 1.2;
    let scale = |value: f64| value.clamp(0.0, most) / most * (WIDTH - LEFT - RIGHT);
    let height = TOP + STEP * rows.len() as f64 + 6.0;
    let title = format!("{} ({})", measure.name, measure.unit);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" font-family=\"sans-serif\" \
         font-size=\"13\" fill=\"#7d8590\">\n<title>{title}</title>\n\
         <text x=\"{LEFT}\" y=\"18\" font-weight=\"bold\">{title}</text>\n"
    );
    for (row, (proxy, spread)) in rows.iter().enumerate() {
        let y = TOP + STEP * row as f64;
        let (text, middle) = (y + 13.0, y + BAR / 2.0);
        let colour = if *proxy == Proxy::Weft { "#2f81f7" } else { "#8b949e" };
        let (least, greatest) = (LEFT + scale(spread.least), LEFT + scale(spread.greatest));
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\n\
             <path d=\"M{least:.1} {middle}H{greatest:.1}\" stroke=\"#d29922\" stroke-width=\"2\"/>\n\
             <text x=\"{:.1}\" y=\"{text}\">{}</text>",
            LEFT - 8.0,
            proxy.name(),
            scale(spread.typical),
            greatest + 8.0,
            figure(spread.typical),
        );
    }
    svg + "</svg>\n"
}
