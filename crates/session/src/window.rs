//! Flow control: how many QoS 1 and 2 messages may be under way on one Network Connection. [MQTT-4.9]

use core::num::NonZeroU16;

use crate::PeerError;

/// The send quota of one Network Connection: what the other side's Receive Maximum still lets us send. [MQTT-4.9]
///
/// It belongs to the connection, never to the session: each connection starts with nothing in use, and the messages
/// resent on it take their slots again. The slot of a QoS 1 message is held until PUBACK, that of a QoS 2 message
/// until PUBCOMP or a PUBREC that refuses it. Nothing but PUBLISH waits for the window. [MQTT-4.9.0-3]
///
/// ```
/// use damselfly_session::Window;
///
/// let mut window = Window::from_property(Some(2));
/// assert!(window.take() && window.take());
/// assert!(!window.take(), "a third PUBLISH has to wait");
/// window.release();
/// assert_eq!(window.available(), 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    receive_maximum: NonZeroU16,
    in_use: u16,
}

impl Window {
    /// A new connection's window, all of it free. [MQTT-4.9.0-1]
    pub const fn new(receive_maximum: NonZeroU16) -> Self {
        Self { receive_maximum, in_use: 0 }
    }

    /// From the Receive Maximum property; absent, as always before 5.0, means 65,535. [MQTT-3.1.2.11.3]
    ///
    /// Zero cannot come from a decoded packet; it counts as one.
    pub fn from_property(receive_maximum: Option<u16>) -> Self {
        Self::new(NonZeroU16::new(receive_maximum.unwrap_or(u16::MAX)).unwrap_or(NonZeroU16::MIN))
    }

    /// Takes the slot of a PUBLISH about to be sent, also of a resent one. `false`: it has to wait. [MQTT-4.9.0-2]
    #[must_use = "without a slot nothing may be sent"]
    pub const fn take(&mut self) -> bool {
        if self.in_use >= self.receive_maximum.get() {
            return false;
        }
        self.in_use += 1;
        true
    }

    /// Gives a slot back that was taken on this connection. A PUBREL that was resent took none, so its PUBCOMP gives none
    /// back: else more PUBLISH packets would be under way than Receive Maximum says. More than were taken are ignored.
    pub const fn release(&mut self) {
        self.in_use = self.in_use.saturating_sub(1);
    }

    /// The send quota left.
    pub const fn available(&self) -> u16 {
        self.receive_maximum.get() - self.in_use
    }

    /// Must the next PUBLISH wait?
    pub const fn is_full(&self) -> bool {
        self.available() == 0
    }

    /// Slots taken.
    pub const fn in_use(&self) -> u16 {
        self.in_use
    }

    /// The limit the other side set.
    pub const fn receive_maximum(&self) -> NonZeroU16 {
        self.receive_maximum
    }
}

/// The other direction: holds the peer to *our* Receive Maximum on one Network Connection. [MQTT-3.3.4-7] [MQTT-3.3.4-9]
///
/// Nobody is accused who kept to the standard. Its send quota rises with *each* PUBCOMP (section 4.9), also with that of
/// a PUBREL resent from an earlier connection, which had lowered nothing. So on a connection that resumes a session a
/// peer may be above by as many messages as it resent PUBRELs, at most one more Receive Maximum: [`resumed`](Self::resumed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveWindow {
    receive_maximum: NonZeroU16,
    in_use: u16,
    limit: u16,
}

impl ReceiveWindow {
    /// A new connection's count, with the Receive Maximum we announced. In 3.1.1 nothing is announced: use 65,535.
    pub const fn new(receive_maximum: NonZeroU16) -> Self {
        Self { receive_maximum, in_use: 0, limit: receive_maximum.get() }
    }

    /// The connection resumes a session.
    pub const fn resumed(&mut self) {
        self.limit = self.receive_maximum.get().saturating_mul(2);
    }

    /// Counts a QoS 1 or 2 PUBLISH that arrived, repeats included.
    ///
    /// # Errors
    ///
    /// [`PeerError::ReceiveMaximumExceeded`]; it is not counted then.
    pub const fn received(&mut self) -> Result<(), PeerError> {
        if self.is_full() {
            return Err(PeerError::ReceiveMaximumExceeded);
        }
        self.in_use += 1;
        Ok(())
    }

    /// Would one more be refused?
    pub const fn is_full(&self) -> bool {
        self.in_use >= self.limit
    }

    /// Counts the PUBACK, PUBCOMP or refusing PUBREC that was sent for one.
    pub const fn answered(&mut self) {
        self.in_use = self.in_use.saturating_sub(1);
    }

    /// Messages received and not finished.
    pub const fn in_use(&self) -> u16 {
        self.in_use
    }

    /// The limit we announced.
    pub const fn receive_maximum(&self) -> NonZeroU16 {
        self.receive_maximum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonzero(value: u16) -> NonZeroU16 {
        NonZeroU16::new(value).expect("tests use no zero")
    }

    /// [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-3.3.4-7] [MQTT-3.3.4-9]
    #[test]
    fn third_publish_passes_a_receive_maximum_of_three_and_a_fourth_waits() {
        let mut window = Window::new(nonzero(3));
        assert_eq!(window.available(), 3);
        assert!(window.take() && window.take() && window.take());
        assert!(window.is_full());
        assert!(!window.take());
        assert_eq!(window.in_use(), 3, "a refused slot is not counted");
        window.release();
        assert!(window.take());
    }

    #[test]
    fn quota_never_rises_above_receive_maximum() {
        let mut window = Window::new(nonzero(3));
        window.release();
        assert_eq!(window.available(), 3);
    }

    #[test]
    fn absent_receive_maximum_means_65535() {
        assert_eq!(Window::from_property(None).available(), 65_535);
        assert_eq!(Window::from_property(Some(7)).available(), 7);
        assert_eq!(Window::from_property(Some(0)).available(), 1);
    }

    /// [MQTT-3.3.4-7] [MQTT-3.3.4-9]
    #[test]
    fn peer_may_use_all_of_our_receive_maximum_and_no_more() {
        let mut inbound = ReceiveWindow::new(nonzero(3));
        for _ in 0..3 {
            assert_eq!(inbound.received(), Ok(()));
        }
        assert_eq!(inbound.received(), Err(PeerError::ReceiveMaximumExceeded));
        inbound.answered();
        assert_eq!(inbound.received(), Ok(()));
        assert_eq!(inbound.in_use(), 3);
    }

    /// Section 4.9 of 5.0: the quota of a sender rises with each PUBCOMP, whatever its PUBREL had cost.
    #[test]
    fn peer_is_not_accused_for_the_quota_that_a_resent_pubrel_gave_it() {
        let mut inbound = ReceiveWindow::new(nonzero(3));
        inbound.resumed();
        for _ in 0..6 {
            assert_eq!(inbound.received(), Ok(()));
        }
        assert_eq!(inbound.received(), Err(PeerError::ReceiveMaximumExceeded));
    }
}
