//! Medians and ratios: a Markdown table to read and JSON to keep.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};

use crate::{
    check::Faults,
    frame::Outcome,
    number::median,
    scenario::{Better, Measured},
};

/// The runs of one broker in one scenario.
#[derive(Default)]
struct Cell {
    figures: Vec<(&'static str, Better, Vec<f64>)>,
    faults: Faults,
    failures: Vec<String>,
}

impl Cell {
    fn median(&self, name: &str) -> Option<f64> {
        let (_, _, values) = self.figures.iter().find(|(figure, ..)| *figure == name)?;
        median(values)
    }
}

pub struct Report {
    brokers: Vec<String>,
    scenarios: Vec<String>,
    cells: BTreeMap<(usize, usize), Cell>,
}

impl Report {
    pub fn new(brokers: Vec<String>, scenarios: Vec<String>) -> Self {
        Self { brokers, scenarios, cells: BTreeMap::new() }
    }

    pub fn add(&mut self, scenario: usize, broker: usize, outcome: Outcome<Measured>) {
        let cell = self.cells.entry((scenario, broker)).or_default();
        match outcome {
            Ok(measured) => {
                cell.faults.add(measured.faults);
                for figure in measured.figures {
                    match cell.figures.iter_mut().find(|(name, ..)| *name == figure.name) {
                        Some((.., values)) => values.push(figure.value),
                        None => cell.figures.push((figure.name, figure.better, vec![figure.value])),
                    }
                }
            }
            Err(error) => cell.failures.push(error.to_string()),
        }
    }

    /// One row per scenario and compared figure; the first broker is what the ratios are against.
    pub fn markdown(&self) -> String {
        let mut text = String::from("| scenario | figure |");
        for broker in &self.brokers {
            let _ = write!(text, " {broker} |");
        }
        for broker in self.brokers.iter().skip(1) {
            let _ = write!(text, " {broker} / {} |", self.brokers[0]);
        }
        text.push_str("\n|---|---|");
        text.push_str(&"---:|".repeat(self.brokers.len() * 2 - 1));
        text.push('\n');
        for (index, scenario) in self.scenarios.iter().enumerate() {
            for figure in self.compared(index) {
                self.row(&mut text, index, scenario, figure);
            }
        }
        text
    }

    fn compared(&self, scenario: usize) -> Vec<&'static str> {
        let mut names = Vec::new();
        for broker in 0..self.brokers.len() {
            let figures = self.cells.get(&(scenario, broker)).map_or(&[][..], |cell| &cell.figures);
            for (name, better, _) in figures {
                if *better != Better::Neither && !names.contains(name) {
                    names.push(*name);
                }
            }
        }
        if names.is_empty() { vec!["-"] } else { names }
    }

    fn row(&self, text: &mut String, index: usize, scenario: &str, figure: &str) {
        let _ = write!(text, "| {scenario} | {figure} |");
        let cell = |broker| self.cells.get(&(index, broker));
        for broker in 0..self.brokers.len() {
            let _ = match cell(broker) {
                Some(cell) if !cell.failures.is_empty() => write!(text, " failed |"),
                Some(cell) => {
                    let mark = if cell.faults.none() { "" } else { " !" };
                    write!(text, " {}{mark} |", cell.median(figure).map_or_else(|| "-".to_owned(), short))
                }
                None => write!(text, " - |"),
            };
        }
        let reference = cell(0).and_then(|cell| cell.median(figure));
        for broker in 1..self.brokers.len() {
            let ratio =
                cell(broker).and_then(|cell| Some(cell.median(figure)? / reference?)).filter(|ratio| ratio.is_finite());
            let _ = write!(text, " {} |", ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")));
        }
        text.push('\n');
    }

    /// Each run of each broker, with what went wrong.
    pub fn json(&self) -> Value {
        let scenarios: BTreeMap<_, _> = self
            .scenarios
            .iter()
            .enumerate()
            .map(|(index, name)| {
                let brokers: BTreeMap<_, _> = self
                    .brokers
                    .iter()
                    .enumerate()
                    .filter_map(|(broker, name)| {
                        let cell = self.cells.get(&(index, broker))?;
                        let figures: BTreeMap<_, _> = cell
                            .figures
                            .iter()
                            .map(|(name, _, values)| (*name, json!({"median": median(values), "runs": values})))
                            .collect();
                        Some((
                            name,
                            json!({"figures": figures, "faults": cell.faults.json(), "failures": cell.failures}),
                        ))
                    })
                    .collect();
                (name, brokers)
            })
            .collect();
        json!({"reference": self.brokers.first(), "scenarios": scenarios})
    }

    /// What the runs of one scenario have shown so far, one line per broker.
    pub fn progress(&self, scenario: usize) -> String {
        let mut text = self.scenarios[scenario].clone();
        for (broker, name) in self.brokers.iter().enumerate() {
            let Some(cell) = self.cells.get(&(scenario, broker)) else { continue };
            let _ = write!(text, "\n  {name:<12}");
            for (figure, _, values) in &cell.figures {
                let runs: Vec<_> = values.iter().copied().map(short).collect();
                let _ = write!(text, " {figure}: {};", runs.join(" "));
            }
            if !cell.faults.none() {
                let _ = write!(text, " {:?}", cell.faults);
            }
            for failure in &cell.failures {
                let _ = write!(text, " failed: {failure}");
            }
        }
        text
    }
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2}M", value / 1e6),
        value if value >= 1e4 => format!("{:.1}k", value / 1e3),
        value if value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}
