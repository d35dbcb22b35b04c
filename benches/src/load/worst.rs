//! Filters made to hurt a matcher.

use super::random::Random;

/// Filters and the topics that are looked up among them; filter n belongs to subscriber n.
#[derive(Clone, Debug)]
pub struct Worst {
    /// What it is called in every table.
    pub name: &'static str,
    /// The filters.
    pub filters: Vec<String>,
    /// The topics to look up.
    pub topics: Vec<String>,
}

/// For each of 40 topics of eight levels, all 256 ways to put `+` in place of its levels.
pub fn plus() -> Worst {
    let topics: Vec<String> = (0..40).map(|number| eight_levels(number, 8).join("/")).collect();
    let mut filters = Vec::new();
    for number in 0..topics.len() {
        for mask in 0..256_usize {
            let levels = eight_levels(number, 8);
            let chosen = levels.iter().enumerate().map(|(at, level)| if mask >> at & 1 == 1 { "+" } else { level });
            filters.push(chosen.collect::<Vec<_>>().join("/"));
        }
    }
    Worst { name: "plus-8", filters, topics }
}

/// 10,000 subscribers on `#` filters along a few branches of eight levels: thousands of matches each.
pub fn hash() -> Worst {
    let mut random = Random::new(0x4a5);
    let filters = (0..10_000)
        .map(|_| {
            let depth = 1 + random.below(8);
            let mut levels = eight_levels(random.below(8), depth);
            levels.push("#".to_owned());
            levels.join("/")
        })
        .collect();
    let topics = (0..8).map(|number| eight_levels(number, 8).join("/")).collect();
    Worst { name: "hash-heavy", filters, topics }
}

/// Topics with the same first levels, which differ from level five on in the bits of their number.
fn eight_levels(number: usize, depth: usize) -> Vec<String> {
    (0..depth).map(|level| format!("l{level}x{}", if level < 2 { 0 } else { number >> (level % 3) })).collect()
}
