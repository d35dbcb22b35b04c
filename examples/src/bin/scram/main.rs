//! Enhanced authentication from both sides: a broker that knows a user, and clients that show who they are by
//! SCRAM-SHA-256, on a free port of this machine.
//!
//! ```text
//! cargo run --bin scram
//! ```

use std::error::Error;
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use damselfly_broker::Broker;
use damselfly_client::{Config, ConnectParameters, ConnectionEnd, Event, Outcome};
use damselfly_codec::{Properties, QoS};
use damselfly_examples::broker::{Driver, Settings};
use damselfly_examples::client::{Client, Drain, Endpoint, Events, Options};
use damselfly_examples::scram::{Credentials, Host, LEAST_ITERATIONS, Login, nonce};

const USER: &str = "greenhouse";
const PASSWORD: &str = "Tomatoes, mostly.";
/// Published while the client authenticates anew.
const MESSAGES: u32 = 100;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut host = Host::new()?;
    host.set_user(USER, Credentials::new(PASSWORD, nonce()?.as_bytes(), LEAST_ITERATIONS)?);
    // A guess at the seed would only slow this broker down, and nobody is here to make one.
    let broker = Broker::new(damselfly_broker::Config::default(), 42)?;
    let mut driver = Driver::new(broker, host, Settings::default())?;
    let address = driver.listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let stop = driver.stop();
    println!("listening on mqtt://{address}");
    let broker = thread::spawn(move || driver.run().map(drop));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        accepted(address).await?;
        refused(address, USER, "Cucumbers.").await?;
        refused(address, "shed", PASSWORD).await
    });
    stop.stop()?;
    broker.join().map_err(|_| "the broker panicked")??;
    result
}

/// What an exchange came to.
enum Came {
    Connected,
    Reauthenticated,
    /// The broker said no, or the connection broke.
    Ended(ConnectionEnd),
}

fn connect(address: SocketAddr, login: &Arc<Login>) -> (Client, Events) {
    let endpoint = Endpoint::new(address.ip().to_string(), address.port());
    let login = Arc::clone(login);
    // Asked at each attempt: no nonce is used twice.
    Client::connect(Options::asking(Config::new(USER), move |_| {
        let mut parameters = ConnectParameters::default();
        let begun = login.begin().map(|properties| parameters.properties = properties);
        ready(begun.map(|()| (endpoint.clone(), parameters)).map_err(io::Error::other))
    }))
}

/// Answers the broker's steps until there is nothing more to answer.
async fn authenticate(client: &Client, events: &mut Events, login: &Login) -> Result<Came, Failure> {
    loop {
        match events.next().await {
            Some(Event::AuthenticationStep { properties }) => {
                client.authenticate(login.answer(properties.as_properties())?.as_properties())?;
            }
            Some(Event::Connected(connected)) => {
                login.verify(connected.properties.as_properties())?;
                return Ok(Came::Connected);
            }
            Some(Event::Reauthenticated { properties }) => {
                login.verify(properties.as_properties())?;
                return Ok(Came::Reauthenticated);
            }
            Some(Event::Disconnected(end)) => return Ok(Came::Ended(end)),
            Some(_) => {}
            None => return Err("the client ended".into()),
        }
    }
}

/// The right password: connects, and authenticates anew while messages flow.
async fn accepted(address: SocketAddr) -> Result<(), Failure> {
    let login = Arc::new(Login::new(USER, PASSWORD));
    let (client, mut events) = connect(address, &login);
    let Came::Connected = authenticate(&client, &mut events, &login).await? else {
        return Err("the broker refused the right password".into());
    };
    println!("{USER} is connected: each side knows who the other is");

    let publish = async {
        for number in 0..MESSAGES {
            let payload = number.to_string();
            let message =
                client.message("greenhouse/count", payload.as_bytes(), QoS::AtLeastOnce, false, Properties::EMPTY)?;
            let outcome = client.publish(message)?.await;
            if !matches!(outcome, Outcome::Acknowledged { .. }) {
                return Err(format!("message {number}: {outcome:?}").into());
            }
        }
        Ok::<(), Failure>(())
    };
    client.reauthenticate(login.begin_again()?.as_properties())?;
    let (published, came) = tokio::join!(publish, authenticate(&client, &mut events, &login));
    published?;
    let Came::Reauthenticated = came? else { return Err("the broker refused a re-authentication".into()) };
    println!("{USER} authenticated anew while {MESSAGES} messages were acknowledged");
    client.close(Drain::within(Duration::from_secs(5)));
    events.join().await;
    Ok(())
}

/// Somebody whom the broker must not let in.
async fn refused(address: SocketAddr, user: &str, password: &str) -> Result<(), Failure> {
    let login = Arc::new(Login::new(user, password));
    let (client, mut events) = connect(address, &login);
    let came = authenticate(&client, &mut events, &login).await?;
    client.close(Drain::at_once());
    events.join().await;
    match came {
        Came::Ended(why) => println!("{user} with another password is refused: {why}"),
        Came::Connected | Came::Reauthenticated => return Err(format!("{user} was let in").into()),
    }
    Ok(())
}
