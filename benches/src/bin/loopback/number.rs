//! Counts as fractions, for rates and means.

use std::time::Duration;

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "rates need no more than 53 bits")]
pub fn float(count: u64) -> f64 {
    count as f64
}

pub fn per_second(count: u64, time: Duration) -> Option<f64> {
    (!time.is_zero()).then(|| float(count) / time.as_secs_f64())
}

/// The middle value; of an even number of values, the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The value that this share (in per cent) of all values does not exceed.
pub fn percentile(values: &mut [u32], percent: usize) -> Option<f64> {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied().map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_ones() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[5.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let mut values: Vec<u32> = (1..=100).rev().collect();

        assert_eq!(percentile(&mut values, 50), Some(50.0));
        assert_eq!(percentile(&mut values, 99), Some(99.0));
        assert_eq!(percentile(&mut [], 99), None);
    }
}
