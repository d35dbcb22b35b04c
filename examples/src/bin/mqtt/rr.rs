//! `mqtt rr`: publish a request and print its response.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args};
use damselfly_client::{InboundMessage, Outcome, UnansweredReason, UsageError};
use damselfly_codec::{Properties, QoS, SubscriptionOptions, Version};
use damselfly_examples::client::{Inbox, Subscription};
use damselfly_session::Message;
use damselfly_topic::{TopicFilter, TopicNameBuf};

use crate::{
    Failure,
    args::{ConnectArgs, qos, seconds, topic_name},
    connect::Link,
    output::{OutputArgs, Paper},
    publish::{Outgoing, Payload, refusal, settled},
    subscribe::{check_outcome, interrupted},
};

/// As good as for ever.
const WITHOUT_END: Duration = Duration::from_secs(100 * 365 * 86_400);

/// `mqtt rr`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["message", "file", "stdin_file", "null_message"]))]
pub(crate) struct RrArgs {
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// Topic of the request.
    #[arg(short = 't', long, value_name = "TOPIC", value_parser = topic_name, required_unless_present = "url")]
    pub(crate) topic: Option<String>,
    /// Topic of the response. Without it, with 5.0, the broker's Response Information or the client identifier makes one.
    #[arg(short = 'e', long, value_name = "TOPIC", value_parser = topic_name)]
    pub(crate) response_topic: Option<String>,
    /// Payload of the request.
    #[arg(short = 'm', long, value_name = "PAYLOAD", allow_hyphen_values = true)]
    pub(crate) message: Option<String>,
    /// Send the content of a file.
    #[arg(short = 'f', long, value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,
    /// Send all of stdin.
    #[arg(short = 's', long)]
    pub(crate) stdin_file: bool,
    /// Send an empty request.
    #[arg(short = 'n', long)]
    pub(crate) null_message: bool,
    /// QoS of the request and, before 5.0, at most of the response: 0, 1 or 2.
    #[arg(short = 'q', long, value_name = "QOS", default_value = "0", value_parser = qos)]
    pub(crate) qos: QoS,
    /// Before 5.0: do not take a retained message for the response. With 5.0 its correlation data tells it.
    #[arg(short = 'R', long)]
    pub(crate) no_retained: bool,
    /// Give up after this many seconds (exit status 27).
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Publishes what the flags say and prints the first response.
pub(crate) async fn run(args: RrArgs) -> Result<(), Failure> {
    let properties = args.connect.property_args().map_err(Failure::Usage)?;
    let topic = args.topic.clone().or_else(|| args.connect.url.as_ref().and_then(|url| url.topic.clone()));
    let Some(topic) = topic else {
        return Err(Failure::Usage("no topic: give --topic, or put it at the end of an mqtt:// URL".into()));
    };
    let response_topic = args.response_topic.as_deref().map(TopicNameBuf::new).transpose();
    let response_topic = response_topic.map_err(|error| Failure::Usage(error.to_string()))?;
    if args.connect.protocol_version != Version::V5_0 && response_topic.is_none() {
        return Err(Failure::Usage(
            "before MQTT 5.0 a request cannot say where its response goes: give --response-topic".into(),
        ));
    }
    let payload = Payload { message: args.message.as_ref(), file: args.file.as_ref(), is_stdin: args.stdin_file };
    let payload = payload.read()?;
    let outgoing = Outgoing { topic, qos: args.qos, retain: false, properties: properties.publish.clone() };
    let mut link =
        Link::open_with(&args.connect, &properties, |config| config.response_topic.clone_from(&response_topic))?;
    let timeout = args.timeout.unwrap_or(WITHOUT_END);
    let work = async {
        link.connected().await?;
        let message = outgoing.message(&link.client, &payload)?;
        let response = match response_topic {
            Some(topic) if args.connect.protocol_version != Version::V5_0 => {
                by_topic(&mut link, &args, message, &topic).await?
            }
            _ => by_request(&mut link, message, timeout).await?,
        };
        Paper::new(&args.output).print(&response)
    };
    let result = tokio::select! {
        result = tokio::time::timeout(timeout, work) => result.unwrap_or(Err(Failure::Timeout)),
        () = interrupted() => Ok(()),
    };
    if !matches!(result, Err(Failure::Connection(_))) {
        link.close().await;
    }
    result
}

/// 5.0: the response is told by its Correlation Data.
async fn by_request(link: &mut Link, message: Message, timeout: Duration) -> Result<Box<InboundMessage>, Failure> {
    let response = link.client.request(message, timeout).map_err(|refused| match refused.why {
        UsageError::HasResponseTopic => Failure::Usage(
            "response topic and correlation data are added to the request: leave them out, \
             or give the topic by --response-topic"
                .into(),
        ),
        why => Failure::Refused(format!("the request cannot be sent: {why}")),
    })?;
    match link.until(response).await? {
        Ok(response) => Ok(response),
        Err(Outcome::Unanswered(UnansweredReason::Deadline)) => Err(Failure::Timeout),
        Err(Outcome::Unanswered(UnansweredReason::NoSubscribers)) => {
            Err(Failure::Refused("nobody subscribes to the topic of the request: is who answers it connected?".into()))
        }
        Err(Outcome::Refused(refused)) => Err(refusal(&refused)),
        Err(outcome) => Err(Failure::Connection(format!("there is no response: {outcome}"))),
    }
}

/// Before 5.0: the response is what comes first to its topic.
async fn by_topic(
    link: &mut Link,
    args: &RrArgs,
    message: Message,
    topic: &TopicNameBuf,
) -> Result<Box<InboundMessage>, Failure> {
    let filter = TopicFilter::new(topic.as_str()).map_err(|error| Failure::Usage(error.to_string()))?;
    let options = SubscriptionOptions { qos: args.qos, ..SubscriptionOptions::default() };
    let stream = link.client.subscribe(&[(filter, options)], Properties::EMPTY, Inbox::default());
    let mut stream = stream.map_err(|error| Failure::Refused(format!("the subscription cannot be sent: {error}")))?;
    let granted = link.until(stream.granted()).await?;
    check_outcome(&granted, &[topic.as_str().to_owned()])?;
    let published = link.client.publish(message);
    let published =
        published.map_err(|refused| Failure::Refused(format!("the request cannot be sent: {}", refused.why)))?;
    settled(link.until(published).await?)?;
    let response = link.until(first(&mut stream, args.no_retained)).await?;
    response.map(Box::new).ok_or_else(|| Failure::Connection("the connection ended".into()))
}

async fn first(stream: &mut Subscription, no_retained: bool) -> Option<InboundMessage> {
    loop {
        let inbound = stream.next().await?;
        if !(no_retained && inbound.message.retain()) {
            return Some(inbound);
        }
    }
}
