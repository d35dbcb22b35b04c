//! Who said what to whom, from the top down.

use std::fmt::Write;

use super::Format;
use super::svg::{Canvas, Class};

/// One participant, in the order in which they stand beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lane(usize);

/// Packets between a broker and its clients in the order in which they were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The broker first.
    lanes: Vec<String>,
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Packet { from: Lane, to: Lane, text: String },
    Note { lane: Lane, text: String },
}

const LANE_WIDTH: u32 = 330;
const STEP_HEIGHT: u32 = 34;
const TOP: u32 = 64;
const MARGIN: u32 = 30;

impl Lane {
    pub(super) const BROKER: Self = Self(0);

    pub(super) const fn of_client(index: usize) -> Self {
        Self(index + 1)
    }

    pub(super) const fn client(self) -> Option<usize> {
        self.0.checked_sub(1)
    }
}

impl Sequence {
    pub(super) fn new(broker: &str) -> Self {
        Self { lanes: vec![broker.to_owned()], steps: Vec::new() }
    }

    pub(super) fn lane(&mut self, name: &str) -> Lane {
        self.lanes.push(name.to_owned());
        Lane(self.lanes.len() - 1)
    }

    pub(super) fn packets(&mut self, from: Lane, to: Lane, texts: &[String]) {
        self.steps.extend(texts.iter().map(|text| Step::Packet { from, to, text: text.clone() }));
    }

    /// Said once, however often it is so in a row.
    pub(super) fn note(&mut self, lane: Lane, text: &str) {
        let note = Step::Note { lane, text: text.to_owned() };
        if self.steps.last() != Some(&note) {
            self.steps.push(note);
        }
    }

    /// The packets in words, in their order, each with the names of its two ends.
    pub fn packets_in_words(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.steps.iter().filter_map(|step| match step {
            Step::Packet { from, to, text } => Some((self.name(*from), self.name(*to), text.as_str())),
            Step::Note { .. } => None,
        })
    }

    /// The picture.
    pub fn draw(&self, format: Format) -> String {
        match format {
            Format::Svg => self.svg(),
            Format::Mermaid => self.mermaid(),
        }
    }

    fn name(&self, lane: Lane) -> &str {
        self.lanes.get(lane.0).map_or("", String::as_str)
    }

    /// The broker stands in the middle: it is who all others talk to.
    fn order(&self) -> Vec<Lane> {
        let mut order: Vec<_> = (1..self.lanes.len()).map(Lane).collect();
        order.insert(order.len().div_ceil(2), Lane::BROKER);
        order
    }

    fn mermaid(&self) -> String {
        let mut text = String::from("sequenceDiagram\n");
        for lane in self.order() {
            // A String takes everything, here and below.
            let _ = writeln!(text, "    participant p{} as {}", lane.0, plain(self.name(lane)));
        }
        for step in &self.steps {
            let _ = match step {
                Step::Packet { from, to, text: words } => {
                    writeln!(text, "    p{}->>p{}: {}", from.0, to.0, plain(words))
                }
                Step::Note { lane, text: words } => writeln!(text, "    Note over p{}: {}", lane.0, plain(words)),
            };
        }
        text
    }

    fn svg(&self) -> String {
        let order = self.order();
        let place = |lane: Lane| {
            let at = order.iter().position(|other| *other == lane).unwrap_or(0);
            MARGIN + LANE_WIDTH / 2 + u32::try_from(at).unwrap_or(0) * LANE_WIDTH
        };
        let lanes = u32::try_from(order.len()).unwrap_or(1);
        let steps = u32::try_from(self.steps.len()).unwrap_or(0);
        let (width, height) = (2 * MARGIN + lanes * LANE_WIDTH, TOP + (steps + 1) * STEP_HEIGHT);
        let names: Vec<_> = order.iter().map(|lane| self.name(*lane)).collect();
        let mut canvas = Canvas::new(width, height, &format!("What {} say to each other", names.join(", ")));
        for lane in &order {
            let x = place(*lane);
            canvas.line((x, TOP - 14), (x, height - 12), Class::Faint);
            canvas.boxed((x - 100, 14), (200, 34), Class::Box);
            canvas.text((x, 36), self.name(*lane), Class::Title);
        }
        for (number, step) in (1_u32..).zip(&self.steps) {
            let y = TOP + number * STEP_HEIGHT;
            match step {
                Step::Packet { from, to, text } => {
                    let (start, end) = (place(*from), place(*to));
                    canvas.arrow((start, y), (end, y), Class::of_packet(text));
                    canvas.text((start.midpoint(end), y - 7), text, Class::Label);
                }
                Step::Note { lane, text } => {
                    let x = place(*lane);
                    // Letters of 12 pixels are some 6 wide.
                    let half = 12 + u32::try_from(text.chars().count()).unwrap_or(0).min(80) * 3;
                    canvas.boxed((x.saturating_sub(half), y - 18), (2 * half, 24), Class::Note);
                    canvas.text((x, y - 2), text, Class::Small);
                }
            }
        }
        canvas.finish()
    }
}

/// What Mermaid takes as text and nothing else.
fn plain(text: &str) -> String {
    text.chars().map(|char| if matches!(char, ';' | '#' | '<' | '>' | '\n') { ' ' } else { char }).collect()
}
