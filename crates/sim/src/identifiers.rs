//! What Packet Identifiers stand for.

/// A few identifiers, in their order: to move those behind one costs less than the nodes of a tree.
#[derive(Debug)]
pub(crate) struct Identifiers<T>(Vec<(u16, T)>);

impl<T> Default for Identifiers<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Identifiers<T> {
    fn place(&self, id: u16) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |(other, _)| *other)
    }

    pub(crate) fn get(&self, id: u16) -> Option<&T> {
        self.0.get(self.place(id).ok()?).map(|(_, value)| value)
    }

    /// What it stood for before.
    pub(crate) fn insert(&mut self, id: u16, value: T) -> Option<T> {
        match self.place(id) {
            Ok(place) => self.0.get_mut(place).map(|(_, old)| std::mem::replace(old, value)),
            Err(place) => {
                self.0.insert(place, (id, value));
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, id: u16) {
        if let Ok(place) = self.place(id) {
            self.0.remove(place);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &T)> {
        self.0.iter().map(|(id, value)| (*id, value))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    pub(crate) fn retain(&mut self, is_kept: impl Fn(&T) -> bool) {
        self.0.retain(|(_, value)| is_kept(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_in_their_order_and_each_is_there_once() {
        let mut identifiers = Identifiers::default();
        for (id, value) in [(7, 'a'), (2, 'b'), (65_535, 'c'), (4, 'd')] {
            assert_eq!(identifiers.insert(id, value), None);
        }
        assert_eq!(identifiers.insert(2, 'e'), Some('b'));
        identifiers.remove(7);
        identifiers.remove(8);
        assert_eq!((identifiers.get(7), identifiers.get(4), identifiers.len()), (None, Some(&'d'), 3));
        identifiers.retain(|value| *value != 'd');
        identifiers.values_mut().for_each(char::make_ascii_uppercase);
        assert_eq!(identifiers.iter().collect::<Vec<_>>(), [(2, &'E'), (65_535, &'C')]);
        identifiers.clear();
        assert_eq!(identifiers.len(), 0);
    }
}
