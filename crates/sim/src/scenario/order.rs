//! In which order a receiver may get what a publisher sent.

use std::collections::BTreeMap;

use damselfly_codec::QoS;

/// A receiver, a publisher, a topic, and the QoS it was published with.
pub(super) type Row = (usize, usize, usize, QoS);

#[derive(Debug, Default)]
pub(super) struct Order {
    rows: BTreeMap<Row, Place>,
    /// How many messages came late to each receiver because their first copy was dropped.
    late: BTreeMap<usize, u64>,
}

/// How far a receiver is.
#[derive(Debug, Default)]
struct Place {
    /// The last message in the order of publishing.
    newest: Option<usize>,
    /// When the broker took the copy that came last.
    taken: u64,
}

impl Order {
    /// May this message come to its receiver now, for the first time?
    ///
    /// Messages come in the order in which they were published. One of QoS 1 may come behind later ones all the same: its
    /// publisher sends it again, and all that it sent behind it, so that what the broker takes is 1, 2, 1, 2, which section
    /// 4.6 of 5.0 has as an example of what is right. If the first copy of 1 was dropped for this receiver, because its queue
    /// was full or the time of the message over, 2, 1, 2 is what is left of that in its order.
    ///
    /// `taken` is when the broker took it, each time; empty but for QoS 1. `dropped` is how many messages it has dropped for
    /// this receiver, which is one for each that comes late; `None` if copies may also be lost, which at QoS 0 they may.
    pub(super) fn is_kept(
        &mut self,
        row: Row,
        number: usize,
        taken: &[u64],
        dropped: impl FnOnce() -> Option<u64>,
    ) -> bool {
        let place = self.rows.entry(row).or_default();
        let copy = taken.iter().enumerate().find(|(_, at)| **at > place.taken);
        if place.newest.is_none_or(|newest| newest < number) {
            place.newest = Some(number);
            place.taken = copy.map_or(place.taken, |(_, at)| *at);
            return true;
        }
        let Some((_, at)) = copy.filter(|(repeats, _)| *repeats > 0) else { return false };
        place.taken = *at;
        let (late, dropped) = (self.late.entry(row.0).or_default(), dropped());
        *late += u64::from(dropped.is_some());
        dropped.is_none_or(|dropped| *late <= dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Row = (0, 1, 2, QoS::AtLeastOnce);

    /// What came, each with the times at which the broker took it, and whether the last of it may come.
    fn is_last_kept(dropped: Option<u64>, came: &[(usize, &[u64])]) -> bool {
        let mut order = Order::default();
        let (last, before) = came.split_last().unwrap();
        for (number, taken) in before {
            assert!(order.is_kept(ROW, *number, taken, || dropped), "{number} of {came:?}");
        }
        order.is_kept(ROW, last.0, last.1, || dropped)
    }

    #[test]
    fn message_does_not_come_behind_a_later_one_unless_it_was_sent_again_behind_that() {
        let dropped = Some(9);
        assert!(is_last_kept(dropped, &[(5, &[1]), (6, &[2])]));
        assert!(!is_last_kept(dropped, &[(6, &[2]), (5, &[1])]), "sent once");
        assert!(!is_last_kept(dropped, &[(6, &[3]), (5, &[1, 2])]), "sent again before the later one");
        assert!(!is_last_kept(dropped, &[(6, &[1]), (5, &[2])]), "sent for the first time behind the later one");
        assert!(!is_last_kept(dropped, &[(6, &[]), (5, &[])]), "no repeats at all");
        assert!(is_last_kept(dropped, &[(6, &[2, 4]), (5, &[1, 3])]));
    }

    #[test]
    fn messages_that_come_late_are_in_the_order_in_which_they_were_sent_again() {
        let dropped = Some(9);
        assert!(is_last_kept(dropped, &[(7, &[3, 6]), (5, &[1, 4]), (6, &[2, 5]), (8, &[7])]));
        assert!(!is_last_kept(dropped, &[(7, &[3, 6]), (6, &[2, 5]), (5, &[1, 4])]));
        assert!(is_last_kept(dropped, &[(7, &[3, 6, 9]), (6, &[2, 5, 8]), (5, &[1, 4, 7])]), "the third time");
    }

    #[test]
    fn as_many_messages_come_late_as_were_dropped_if_none_is_lost_in_other_ways() {
        let late: [(usize, &[u64]); 3] = [(7, &[3, 6]), (5, &[1, 4]), (6, &[2, 5])];
        assert!(!is_last_kept(Some(0), &late[..2]));
        assert!(is_last_kept(Some(1), &late[..2]));
        assert!(!is_last_kept(Some(1), &late));
        assert!(is_last_kept(Some(2), &late));
        assert!(is_last_kept(None, &late));
    }
}
