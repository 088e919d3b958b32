//! The results as a picture: bars of each scene's first metric, the median, with a line for the range. The SVG is
//! written by hand.

use crate::machine::Distance;
use crate::sample::{Runs, Spread};
use crate::scenes::{SCENES, SOCAT, Scene, TRANSIT_RELAY};
use crate::table::contenders;
use std::fmt::Write;

const WIDTH: f64 = 960.0;
const NAMES: f64 = 300.0;
const BARS: f64 = 480.0;
const ROW: f64 = 20.0;
const MARGIN: f64 = 16.0;
const PEER: &str = "#c98a3a";

/// All scenes below each other. Each scene shows the runs of the distance that has most, near ones first.
pub(crate) fn plot(title: &str, runs: &Runs) -> String {
    let mut y = 2.0 * MARGIN;
    let mut body = String::new();
    let _ = writeln!(body, "<text x=\"{MARGIN}\" y=\"{y}\" class=\"h\">{}</text>", escape(title));
    for scene in SCENES {
        let found = Distance::ALL.into_iter().map(|it| (runs_of(scene, it, runs), it)).rev();
        let found = found.max_by_key(|(count, _)| *count).filter(|(count, _)| *count > 0);
        if let Some((_, distance)) = found {
            y += 2.0 * ROW;
            draw(&mut body, &mut y, scene, distance, runs);
        }
    }
    let height = y + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\">\n\
         <style>text{{font:13px sans-serif;fill:#222}} .h{{font-weight:bold}} .r{{text-anchor:end}}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

fn runs_of(scene: &Scene, distance: Distance, runs: &Runs) -> usize {
    bars(scene, distance, runs).iter().map(|(_, spread)| spread.count).sum()
}

fn bars<'r>(scene: &Scene, distance: Distance, runs: &'r Runs) -> Vec<(&'r str, Spread)> {
    let Some(metric) = scene.metrics.first() else { return Vec::new() };
    let spread = |name| Some((name, runs.spread(scene.name, name, *metric, distance)?));
    contenders(scene, runs).into_iter().filter_map(spread).collect()
}

fn draw(body: &mut String, y: &mut f64, scene: &Scene, distance: Distance, runs: &Runs) {
    let bars = bars(scene, distance, runs);
    let most = bars.iter().map(|(_, spread)| spread.most).fold(f64::MIN_POSITIVE, f64::max);
    let Some(metric) = scene.metrics.first() else { return };
    let heading = format!("{}: {} ({distance})", scene.title, metric.heading());
    let _ =
        writeln!(body, "<text x=\"{MARGIN}\" y=\"{y}\" class=\"h\">{}</text>", escape(&heading));
    let digits = metric.digits();
    for (name, spread) in bars {
        *y += ROW;
        let x = |value: f64| NAMES + BARS * value / most;
        let (top, middle) = (*y - 12.0, *y - 5.0);
        let _ = writeln!(
            body,
            "<text x=\"{:.1}\" y=\"{y}\" class=\"r\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{top}\" width=\"{:.1}\" height=\"14\" fill=\"{}\"/>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"#222\"/>\
             <text x=\"{:.1}\" y=\"{y}\">{:.digits$}</text>",
            NAMES - 6.0,
            escape(name),
            BARS * spread.median / most,
            colour(name),
            x(spread.least),
            x(spread.most),
            x(spread.most) + 6.0,
            spread.median,
        );
    }
}

/// Colours tell ours, the peers, and the limits, which have names in lower case.
fn colour(name: &str) -> &'static str {
    match name {
        name if name.starts_with("idontstore") => "#2a7f62",
        name if ["nginx", SOCAT, TRANSIT_RELAY].iter().any(|peer| name.starts_with(peer)) => PEER,
        name if name.starts_with(|it: char| it.is_uppercase()) => PEER,
        _ => "#9aa5b1",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
