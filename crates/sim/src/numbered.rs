//! Values with numbers that are never used twice.

use core::fmt;

/// The number of a value, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number {
    number: u64,
    place: usize,
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}

/// Values in the order in which they came. The place of one that is removed stays empty, which is a word for each there
/// ever was: nothing has to be searched for.
#[derive(Debug)]
pub(crate) struct Numbered<T> {
    values: Vec<(u64, Option<Box<T>>)>,
    /// All before this place are removed.
    first: usize,
}

impl<T> Numbered<T> {
    pub(crate) const fn new() -> Self {
        Self { values: Vec::new(), first: 0 }
    }

    /// The number is higher than all before it.
    pub(crate) fn push(&mut self, number: u64, value: T) -> Number {
        let place = self.values.len();
        self.values.push((number, Some(Box::new(value))));
        Number { number, place }
    }

    /// Puts it where another list has one of this number, which is higher than all before it.
    pub(crate) fn push_as(&mut self, number: Number, value: T) {
        self.values.resize_with(number.place, || (0, None));
        self.push(number.number, value);
    }

    pub(crate) fn get(&self, number: Number) -> Option<&T> {
        self.values.get(number.place)?.1.as_deref()
    }

    pub(crate) fn get_mut(&mut self, number: Number) -> Option<&mut T> {
        self.values.get_mut(number.place)?.1.as_deref_mut()
    }

    pub(crate) fn remove(&mut self, number: Number) {
        if let Some((_, value)) = self.values.get_mut(number.place) {
            *value = None;
        }
        while let Some((_, None)) = self.values.get(self.first) {
            self.first += 1;
        }
    }

    /// What is left, in order.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (Number, &T)> {
        let values = self.values.iter().enumerate().skip(self.first);
        values.filter_map(|(place, (number, value))| Some((Number { number: *number, place }, value.as_deref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_found_by_its_number_until_it_is_removed() {
        let mut numbered = Numbered::new();
        let [three, five, nine] = [3, 5, 9].map(|number| numbered.push(number, number * 10));
        numbered.remove(five);
        assert_eq!(numbered.get(three), Some(&30));
        assert_eq!(numbered.get(five), None);
        if let Some(value) = numbered.get_mut(nine) {
            *value = 91;
        }
        assert_eq!(numbered.iter().collect::<Vec<_>>(), [(three, &30), (nine, &91)]);
        numbered.remove(three);
        assert_eq!(numbered.iter().collect::<Vec<_>>(), [(nine, &91)]);

        let mut other = Numbered::new();
        other.push_as(nine, 'x');
        assert_eq!((other.get(three), other.get(nine)), (None, Some(&'x')));
        assert_eq!(nine.to_string(), "9");
    }
}
