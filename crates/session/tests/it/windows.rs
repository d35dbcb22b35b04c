//! The getters of windows and timers, beside what they are about.

use core::{num::NonZeroU16, time::Duration};

use damselfly_session::{KeepAlive, ReceiveWindow, Timestamp, Window};

fn nonzero(value: u16) -> NonZeroU16 {
    NonZeroU16::new(value).expect("tests use no zero")
}

/// [MQTT-4.9.0-1] [MQTT-4.9.0-2]
#[test]
fn slots_taken_and_slots_left_make_up_receive_maximum() {
    let mut window = Window::new(nonzero(3));
    for taken in 0..=3 {
        assert_eq!((window.in_use(), window.available(), window.is_full()), (taken, 3 - taken, taken == 3));
        assert_eq!(window.receive_maximum().get(), 3);
        assert_eq!(window.take(), taken < 3);
    }
    window.release();
    assert_eq!((window.in_use(), window.available(), window.is_full()), (2, 1, false));
}

/// [MQTT-3.3.4-7] [MQTT-3.3.4-9]
#[test]
fn messages_received_count_until_they_are_answered() {
    let mut inbound = ReceiveWindow::new(nonzero(3));
    inbound.answered();
    for received in 0..=3 {
        assert_eq!((inbound.in_use(), inbound.is_full()), (received, received == 3));
        assert_eq!(inbound.receive_maximum().get(), 3);
        assert_eq!(inbound.received().is_ok(), received < 3);
    }
    inbound.answered();
    assert_eq!((inbound.in_use(), inbound.is_full()), (2, false));
    inbound.resumed();
    assert_eq!((inbound.in_use(), inbound.receive_maximum().get()), (2, 3), "what was announced stays");
}

#[test]
fn largest_receive_maximum_is_no_less_after_a_resume() {
    let mut inbound = ReceiveWindow::new(NonZeroU16::MAX);
    inbound.resumed();
    for _ in 0..u16::MAX {
        assert_eq!(inbound.received(), Ok(()));
    }
    assert!(inbound.is_full());
}

#[test]
fn keep_alive_tells_its_seconds() {
    for seconds in [0, 7, 65_535] {
        assert_eq!(KeepAlive::new(seconds, Timestamp::ZERO).seconds(), seconds);
    }
}

#[test]
fn what_is_added_to_a_time_can_be_taken_away() {
    let (start, step) = (Timestamp::from_micros(1_000_250), Duration::from_micros(1_000_249));
    assert_eq!(start.saturating_sub(step), Timestamp::from_micros(1));
    assert_eq!(start.saturating_add(step).saturating_sub(step), start);
}
