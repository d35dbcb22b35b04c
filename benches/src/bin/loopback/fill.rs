//! Scenarios that fill a broker with state, weigh it, and where that makes sense drain it again.

use damselfly_benches::{load::fleet::Fleet, process::Running};
use damselfly_codec::Version;

use crate::{
    check::{Check, Faults},
    client::Client,
    frame::{self, Outcome, Stamp, Template},
    number::{float, per_second},
    scenario::{Better, Measured},
};

/// What each of `count` things added to the resident memory since `before`.
fn each(measured: &mut Measured, count: usize, before: Option<u64>, broker: &Running) -> Outcome<()> {
    let grown = before.and_then(|before| Some(broker.settled()?.saturating_sub(before)));
    let count = float(u64::try_from(count)?);
    measured.push("bytes each", Better::Lower, grown.map(|grown| float(grown) / count));
    Ok(())
}

/// Idle connections with one subscription each.
pub fn idle(count: usize, broker: &Running, version: Version) -> Outcome<Measured> {
    let open = |from: usize, to: usize| {
        (from..to)
            .map(|index| {
                let mut client = Client::connect(broker.address, version, &format!("idle-{index:06}"), true)?;
                client.subscribe(&[format!("idle/{index:06}")], 0)?;
                Ok(client)
            })
            .collect::<Outcome<Vec<_>>>()
    };
    // The first hundred pay for what a broker allocates once.
    let warm = open(0, 100)?;
    let before = broker.settled();
    let clients = open(100, 100 + count)?;
    let mut measured = Measured::default();
    each(&mut measured, count, before, broker)?;
    drop((warm, clients));
    Ok(measured)
}

const SESSIONS: usize = 100;

/// Filters of the fleet, spread over a hundred sessions.
pub fn subscriptions(count: usize, broker: &Running, version: Version) -> Outcome<Measured> {
    const PER_PACKET: usize = 100;
    let fleet = Fleet::new(count);
    let mut clients = (0..SESSIONS)
        .map(|index| Client::connect(broker.address, version, &format!("fleet-{index}"), true))
        .collect::<Outcome<Vec<_>>>()?;
    let before = broker.settled();
    for (turn, filters) in fleet.filters().chunks(PER_PACKET).enumerate() {
        clients[turn % SESSIONS].subscribe(filters, 0)?;
    }
    let mut measured = Measured::default();
    each(&mut measured, count, before, broker)?;
    Ok(measured)
}

/// Publishes `count` messages with QoS 1, at most `window` without an acknowledgement.
fn publish_all(
    client: &mut Client,
    version: Version,
    count: usize,
    retain: bool,
    topic: impl Fn(usize) -> String,
    payload: usize,
) -> Outcome<()> {
    const WINDOW: usize = 500;
    let mut sent = 0;
    while sent < count {
        let group = WINDOW.min(count - sent);
        for index in sent..sent + group {
            let mut template = Template::new(version, &topic(index), 1, retain, payload);
            let packet_id = u16::try_from(index % 60_000)? + 1;
            let stamp = Stamp { publisher: 0, sequence: u64::try_from(index)?, sent_at: 0 };
            template.write(packet_id, stamp, client.out());
        }
        client.send()?;
        client.wait_for_count(frame::PUBACK, group)?;
        sent += group;
    }
    Ok(())
}

/// Small retained messages, weighed, then replayed to wildcard subscribers one after the other.
pub fn retained(count: usize, broker: &Running, version: Version) -> Outcome<Measured> {
    const REPLAYS: usize = 5;
    let topic = |index: usize| format!("retained/{:03}/{:06}", index % 1000, index);
    let mut publisher = Client::connect(broker.address, version, "retainer", true)?;
    let before = broker.settled();
    publish_all(&mut publisher, version, count, true, topic, frame::STAMP)?;
    let mut measured = Measured::default();
    each(&mut measured, count, before, broker)?;

    let expected = u64::try_from(count)?;
    let mut used = broker.cpu_time().map(|_| std::time::Duration::ZERO);
    for replay in 0..REPLAYS {
        let mut subscriber = Client::connect(broker.address, version, &format!("replay-{replay}"), true)?;
        let mut seen = vec![false; count];
        let (mut unique, mut faults) = (0, Faults::default());
        let before = broker.cpu_time();
        subscriber.subscribe_unseen(&["retained/#".to_owned()], 0)?;
        subscriber.receive(|first, payload| {
            let index = Stamp::read(payload).and_then(|stamp| usize::try_from(stamp.sequence).ok());
            match index.and_then(|index| seen.get_mut(index)) {
                Some(seen) if first & 1 == 1 => {
                    faults.duplicated += u64::from(*seen);
                    unique += u64::from(!*seen);
                    *seen = true;
                }
                _ => faults.misplaced += 1,
            }
            unique < expected
        })?;
        measured.faults.add(faults);
        let spent = before.and_then(|before| Some(broker.cpu_time()?.saturating_sub(before)));
        used = used.and_then(|used| Some(used + spent?));
    }
    let total = expected * u64::try_from(REPLAYS)?;
    measured.push("replayed per CPU second", Better::Higher, used.and_then(|used| per_second(total, used)));
    Ok(measured)
}

/// Messages queued for a session whose client is away, weighed, then delivered to it.
pub fn queued(count: usize, broker: &Running, version: Version) -> Outcome<Measured> {
    let mut subscriber = Client::connect(broker.address, version, "away", false)?;
    subscriber.subscribe(&["queued/topic".to_owned()], 1)?;
    subscriber.disconnect()?;
    let mut publisher = Client::connect(broker.address, version, "queuer", true)?;
    let before = broker.settled();
    publish_all(&mut publisher, version, count, false, |_| "queued/topic".to_owned(), 64)?;
    let mut measured = Measured::default();
    each(&mut measured, count, before, broker)?;

    let expected = u64::try_from(count)?;
    let cpu = broker.cpu_time();
    let mut subscriber = Client::begin(broker.address, version, "away", false)?;
    let mut check = Check::new(1, 1, false);
    let mut unique = 0;
    subscriber.receive(|_, payload| {
        match Stamp::read(payload) {
            Some(stamp) => unique += u64::from(check.record(0, 0, stamp.sequence)),
            None => check.misplaced(),
        }
        unique < expected
    })?;
    measured.faults.add(check.faults(expected));
    let used = cpu.and_then(|before| Some(broker.cpu_time()?.saturating_sub(before)));
    measured.push("drained per CPU second", Better::Higher, used.and_then(|used| per_second(expected, used)));
    Ok(measured)
}
