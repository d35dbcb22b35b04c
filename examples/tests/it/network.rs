//! A broker whose network is taken away and given back.

use std::{net::SocketAddr, thread, time::Duration};

use damselfly_broker::{Broker, Config};
use damselfly_client::{Config as ClientConfig, Event, SessionExpiry, SessionStatus};
use damselfly_codec::QoS;
use damselfly_examples::{
    broker::{AllowAll, Driver, Settings},
    client::{Client, Drain, Options},
};

use crate::support::{LIMIT, endpoint, message, next_payload, run, subscribe};

/// [MQTT-3.1.2-8] is not asked: the client has no will, and a session that stays.
#[test]
fn driver_listens_again_on_its_ports_and_has_kept_the_sessions() {
    let mut driver = Driver::new(Broker::new(Config::default(), 7).unwrap(), AllowAll, Settings::default()).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let addresses = [driver.listen(any).unwrap(), driver.listen(any).unwrap()];
    let (network, stop) = (driver.network(), driver.stop());
    let broker = thread::spawn(move || driver.run());
    run(async move {
        for address in addresses {
            let mut config = ClientConfig::new(&format!("client-{}", address.port()));
            config.session_expiry = SessionExpiry::Never;
            config.backoff.first = Duration::from_millis(20);
            config.backoff.longest = Duration::from_millis(50);
            let (client, mut events) = Client::connect(Options::new(endpoint(address), config));
            subscribe(&client, "t", QoS::AtLeastOnce).await;

            network.interrupt(Duration::from_millis(100)).unwrap();
            let mut is_refused = false;
            let session = loop {
                match events.next().await.unwrap() {
                    Event::Connected(connected) if connected.session != SessionStatus::New => break connected.session,
                    Event::Disconnected(_) => is_refused |= std::net::TcpStream::connect(address).is_err(),
                    _ => {}
                }
            };
            assert_eq!((session, is_refused), (SessionStatus::Resumed, true), "nobody listened meanwhile");
            client.publish(message(&client, "again", QoS::AtLeastOnce)).unwrap().await;
            assert_eq!(next_payload(&mut events).await, "again", "the subscription is there");
            client.close(Drain::within(LIMIT)).await;
        }
    });
    stop.stop().unwrap();
    broker.join().unwrap().unwrap();
}
