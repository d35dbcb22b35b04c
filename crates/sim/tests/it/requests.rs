//! A request and its response through the broker.

use core::time::Duration;

use damselfly_client::{Config, Event, Outcome, UnansweredReason};
use damselfly_codec::{Properties, QoS};
use damselfly_session::Message;
use damselfly_sim::{Sim, World};
use damselfly_topic::{TopicFilter, TopicName};

/// [MQTT-4.10]
#[test]
fn lamp_answers_who_asks_it_and_nobody_answers_for_a_lamp_that_is_gone() {
    let mut sim = Sim::new(World::default(), 7).unwrap();
    let [asker, lamp] = ["asker", "lamp"].map(|name| sim.add(Config::new(name)));
    sim.subscribe(lamp, TopicFilter::new("lamp/get").unwrap(), QoS::AtLeastOnce).unwrap();
    sim.run_for(Duration::from_secs(1));

    let ask = |sim: &mut Sim| {
        let topic = TopicName::new("lamp/get").unwrap();
        sim.act(asker, |client, now| {
            let message = Message::compose(topic, b"?", QoS::AtLeastOnce, false, Properties::EMPTY, now);
            client.request(now, message, now.saturating_add(Duration::from_secs(5))).unwrap()
        })
    };
    let outcomes = |sim: &mut Sim| -> Vec<_> {
        let completed =
            |event| if let Event::Completed { ticket, outcome } = event { Some((ticket, outcome)) } else { None };
        sim.take_events(asker).into_iter().filter_map(completed).collect()
    };

    let ticket = ask(&mut sim);
    sim.run_for(Duration::from_secs(1));
    let request = sim.take_events(lamp).into_iter().find_map(|event| match event {
        Event::Message(inbound) => Some(inbound),
        _ => None,
    });
    let request = request.unwrap();
    sim.act(lamp, |client, now| client.publish(now, request.reply(now, b"on", Properties::EMPTY).unwrap())).unwrap();
    sim.run_for(Duration::from_secs(1));
    let [(answered, Outcome::Response(response))] = &outcomes(&mut sim)[..] else { panic!("one response") };
    assert_eq!((*answered, response.message.payload()), (ticket, &b"on"[..]));

    let unanswered = ask(&mut sim);
    sim.run_for(Duration::from_secs(6));
    assert_eq!(outcomes(&mut sim), [(unanswered, Outcome::Unanswered(UnansweredReason::Deadline))]);

    let topic = TopicFilter::new("lamp/get").unwrap();
    sim.act(lamp, |client, now| client.unsubscribe(now, &[topic], Properties::EMPTY)).unwrap();
    sim.run_for(Duration::from_secs(1));
    let nobody = ask(&mut sim);
    sim.run_for(Duration::from_secs(1));
    assert_eq!(outcomes(&mut sim), [(nobody, Outcome::Unanswered(UnansweredReason::NoSubscribers))]);
}
