//! What a running broker says of itself, by a request of MQTT 5.0.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use damselfly_client::{Config, ConnectParameters, ConnectionEnd, Event, Outcome, Refused};
use damselfly_codec::{Properties, QoS};
use damselfly_examples::client::{Client, Drain, Endpoint, Options};
use damselfly_topic::TopicError;

/// How long the broker may take for its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the last packet may take.
const DRAIN: Duration = Duration::from_secs(1);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("{endpoint}: {why}. Is a broker listening there?")]
    NoConnection { endpoint: Endpoint, why: String },
    #[error("the broker does not let us in: {0}")]
    NotLetIn(ConnectionEnd),
    #[error("the topic cannot be asked at: {0}")]
    Topic(#[from] TopicError),
    #[error("the request cannot be sent: {0}")]
    Unsent(String),
    #[error("no answer at {topic} ({outcome}). Does this broker say who is there? smart-home's does")]
    NoAnswer { topic: String, outcome: Outcome },
    #[error("the answer is no text")]
    NoText,
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
}

/// Asks once.
pub(crate) fn ask(endpoint: &Endpoint, user: Option<(&str, &str)>, topic: &str) -> Result<String, AskError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(ask_by(endpoint, user, topic))
}

async fn ask_by(endpoint: &Endpoint, user: Option<(&str, &str)>, topic: &str) -> Result<String, AskError> {
    let mut parameters = ConnectParameters::default();
    if let Some((name, password)) = user {
        parameters.user_name = Some(name.into());
        parameters.password = Some(Bytes::copy_from_slice(password.as_bytes()));
    }
    let options = Options::with_parameters(endpoint.clone(), Config::default(), parameters);
    let (client, mut events) = Client::connect(options);
    loop {
        match events.next().await {
            Some(Event::Connected(_)) => break,
            Some(Event::Disconnected(end @ ConnectionEnd::Refused { .. })) => return Err(AskError::NotLetIn(end)),
            Some(Event::Disconnected(end)) => {
                let why = client.last_transport_error().unwrap_or_else(|| end.to_string());
                return Err(AskError::NoConnection { endpoint: endpoint.clone(), why });
            }
            Some(_) => {}
            None => return Err(AskError::Unsent("the client has ended".to_owned())),
        }
    }
    events.detach();
    let message = client.message(topic, b"{}", QoS::AtMostOnce, false, Properties::EMPTY)?;
    let response =
        client.request(message, PATIENCE).map_err(|refused: Refused| AskError::Unsent(refused.why.to_string()))?;
    let answer = response.await.map_err(|outcome| AskError::NoAnswer { topic: topic.to_owned(), outcome })?;
    let text = String::from_utf8(answer.message.payload().to_vec()).map_err(|_| AskError::NoText);
    client.close(Drain::within(DRAIN)).await;
    text
}
