//! A fleet of devices: 1,000 topics `site/{n}/line/{n}/dev/{n}/{metric}` per site, as many sites as it takes, and one
//! filter per topic, of which 89 % are the topic itself, 10 % have `+` and 1 % end in `#`.

use super::random::{Random, Zipf};

const METRICS: [&str; 10] =
    ["temperature", "pressure", "humidity", "voltage", "current", "speed", "torque", "vibration", "level", "status"];

/// The filters; filter n belongs to subscriber n.
#[derive(Clone, Debug)]
pub struct Fleet {
    filters: Vec<String>,
}

/// The topic with this number.
pub fn topic(number: usize) -> String {
    let (site, line, device, metric) = parts(number);
    format!("site/{site}/line/{line}/dev/{device}/{metric}")
}

fn parts(number: usize) -> (usize, usize, usize, &'static str) {
    (number / 1000, number / 100 % 10, number / 10 % 10, METRICS[number % 10])
}

fn with_plus(number: usize, shape: usize) -> String {
    let (site, line, device, metric) = parts(number);
    match shape {
        0 => format!("site/{site}/line/+/dev/{device}/{metric}"),
        1 => format!("site/{site}/line/{line}/dev/+/{metric}"),
        2 => format!("site/{site}/line/{line}/dev/{device}/+"),
        3 => format!("site/{site}/line/+/dev/+/{metric}"),
        4 => format!("site/{site}/line/{line}/dev/+/+"),
        _ => format!("site/{site}/line/+/dev/{device}/+"),
    }
}

fn with_hash(number: usize, shape: usize) -> String {
    let (site, line, device, _) = parts(number);
    match shape {
        0 => format!("site/{site}/#"),
        1 => format!("site/{site}/line/{line}/#"),
        _ => format!("site/{site}/line/{line}/dev/{device}/#"),
    }
}

impl Fleet {
    /// `count` filters, the same ones each time.
    pub fn new(count: usize) -> Self {
        let mut random = Random::new(0xf1ee7);
        let filters = (0..count)
            .map(|number| match random.below(100) {
                0 => with_hash(number, random.below(3)),
                1..=10 => with_plus(number, random.below(6)),
                _ => topic(number),
            })
            .collect();
        Self { filters }
    }

    /// In the order of their subscribers.
    pub fn filters(&self) -> &[String] {
        &self.filters
    }

    /// Topics to publish to: 80 % of them zipf-distributed (0.99) over all topics, 20 % uniform.
    pub fn publishes(&self, count: usize) -> Vec<String> {
        let total = self.filters.len();
        let zipf = Zipf::new(total, 0.99);
        let mut random = Random::new(0x9b11);
        (0..count)
            .map(|_| {
                if random.below(100) < 20 {
                    return topic(random.below(total));
                }
                // The popular topics lie all over the fleet, not in its first sites.
                topic(zipf.rank(&mut random).wrapping_mul(7_919) % total)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_exact_and_wildcard_filters_are_as_stated() {
        let fleet = Fleet::new(10_000);

        let share = |wildcard: char| fleet.filters().iter().filter(|filter| filter.contains(wildcard)).count();

        assert!((900..1100).contains(&share('+')), "{}", share('+'));
        assert!((60..140).contains(&share('#')), "{}", share('#'));
    }
}
