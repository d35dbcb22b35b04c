//! `mqtt sub`

use damselfly_client::{Event, InboundMessage, Outcome, Refusal};
use damselfly_codec::{Properties, QoS, RetainHandling, SubscriptionOptions};
use damselfly_examples::client::Completion;
use damselfly_topic::{TopicFilter, TopicFilterBuf};
use tokio::{signal, time};

use crate::{Failure, args::SubArgs, connect::Link, output::Paper};

/// Subscribes as the flags say and prints what arrives.
pub(crate) async fn run(args: SubArgs) -> Result<(), Failure> {
    let properties = args.connect.property_args().map_err(Failure::Usage)?;
    let filters = filters(&args)?;
    let mut printer = Printer::new(&args)?;
    let mut link = Link::open(&args.connect, &properties)?;
    let timeout = args.timeout;
    let limit = async {
        match timeout {
            Some(limit) => time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let work = async {
        link.connected().await?;
        let unsubscribed = unsubscribe(&link, &args, properties.unsubscribe.as_properties())?;
        let subscribed = subscribe(&link, &args, &filters, properties.subscribe.as_properties())?;
        receive(&mut link, &args, &mut printer, unsubscribed, subscribed).await
    };
    let result = tokio::select! {
        result = work => result,
        () = limit => Err(Failure::Timeout),
        () = interrupted() => Ok(()),
    };
    if !matches!(result, Err(Failure::Connection(_))) {
        link.close().await;
    }
    result
}

fn filters(args: &SubArgs) -> Result<Vec<TopicFilterBuf>, Failure> {
    let of_url = args.connect.url.as_ref().and_then(|url| url.topic.as_ref());
    let texts = args.topic.iter().chain(of_url);
    let filters: Vec<_> = texts.map(|text| owned(text)).collect::<Result<_, _>>()?;
    if filters.is_empty() && args.unsubscribe.is_empty() {
        return Err(Failure::Usage("no topic: give --topic, or put it at the end of an mqtt:// URL".into()));
    }
    Ok(filters)
}

fn owned(text: &str) -> Result<TopicFilterBuf, Failure> {
    TopicFilterBuf::new(text).map_err(|error| Failure::Usage(format!("the topic filter {text:?}: {error}")))
}

fn unsubscribe(link: &Link, args: &SubArgs, properties: Properties<'_>) -> Result<Option<Completion>, Failure> {
    if args.unsubscribe.is_empty() {
        return Ok(None);
    }
    let owned: Vec<_> = args.unsubscribe.iter().map(|text| owned(text)).collect::<Result<_, _>>()?;
    let filters: Vec<TopicFilter<'_>> = owned.iter().map(TopicFilterBuf::as_filter).collect();
    let completion = link.client.unsubscribe(&filters, properties);
    completion.map(Some).map_err(|error| Failure::Refused(format!("the unsubscription cannot be sent: {error}")))
}

fn subscribe(
    link: &Link,
    args: &SubArgs,
    filters: &[TopicFilterBuf],
    properties: Properties<'_>,
) -> Result<Option<Completion>, Failure> {
    if filters.is_empty() {
        return Ok(None);
    }
    let mut options = SubscriptionOptions { qos: args.qos, ..SubscriptionOptions::default() };
    if args.connect.protocol_version.has_properties() {
        // Retained messages that nobody wants to see need not travel.
        options.retain_handling =
            if args.no_retained { RetainHandling::DoNotSend } else { RetainHandling::SendAtSubscribe };
    }
    let filters: Vec<_> = filters.iter().map(|filter| (filter.as_filter(), options)).collect();
    let completion = link.client.subscribe_to_events(&filters, properties);
    completion.map(Some).map_err(|error| Failure::Refused(format!("the subscription cannot be sent: {error}")))
}

async fn receive(
    link: &mut Link,
    args: &SubArgs,
    printer: &mut Printer,
    mut unsubscribed: Option<Completion>,
    mut subscribed: Option<Completion>,
) -> Result<(), Failure> {
    loop {
        if unsubscribed.is_none() && subscribed.is_none() && (args.exit_after_subscribed || args.topic_is_missing()) {
            return Ok(());
        }
        tokio::select! {
            biased;
            outcome = outcome_of(&mut unsubscribed) => check_outcome(&outcome, &[])?,
            outcome = outcome_of(&mut subscribed) => check_outcome(&outcome, &args.topic)?,
            event = link.next() => match event? {
                Some(Event::Message(inbound)) => {
                    if args.remove_retained && inbound.message.retain() {
                        remove_retained(link, &inbound);
                    }
                    if printer.take(&inbound)?.is_done {
                        return Ok(());
                    }
                }
                Some(Event::SubscriptionLost { filter, reason_code }) => {
                    return Err(Failure::Refused(format!("the broker ended the subscription to {filter}: {reason_code}")));
                }
                Some(_) => {}
                None => return Err(Failure::Connection("the connection ended".into())),
            }
        }
    }
}

/// The outcome of a request that is under way; afterwards there is none.
async fn outcome_of(completion: &mut Option<Completion>) -> Outcome {
    match completion {
        Some(under_way) => {
            let outcome = under_way.await;
            *completion = None;
            outcome
        }
        None => std::future::pending().await,
    }
}

pub(crate) fn check_outcome(outcome: &Outcome, filters: &[String]) -> Result<(), Failure> {
    tracing::debug!(?outcome, "outcome");
    let refused = match outcome {
        Outcome::Subscribed(results) => results.iter().enumerate().find_map(|(at, result)| Some((at, result.err()?))),
        Outcome::Unsubscribed(results) => results.iter().enumerate().find_map(|(at, result)| Some((at, result.err()?))),
        Outcome::Refused(Refusal::ByLimit(error)) => {
            return Err(Failure::Refused(format!("the subscription cannot be sent: {error}")));
        }
        _ => return Err(Failure::Connection("the connection ended before the subscription was acknowledged".into())),
    };
    match refused {
        None => Ok(()),
        Some((at, reason_code)) => {
            let filter = filters.get(at).map_or("a topic filter", String::as_str);
            Err(Failure::Refused(format!("the broker refused {filter}: {reason_code}")))
        }
    }
}

/// Publishes the empty retained message that deletes the one that came. What becomes of it is not waited for.
fn remove_retained(link: &Link, inbound: &InboundMessage) {
    let topic = inbound.message.topic();
    let empty = link.client.message(topic.as_str(), b"", QoS::AtMostOnce, true, Properties::EMPTY);
    if let Ok(message) = empty {
        let _ = link.client.publish(message).map(drop);
    }
}

/// Ends at SIGINT or SIGTERM.
pub(crate) async fn interrupted() {
    let terminated = async {
        #[cfg(unix)]
        if let Ok(mut stream) = signal::unix::signal(signal::unix::SignalKind::terminate()) {
            stream.recv().await;
            return;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = signal::ctrl_c() => if result.is_err() { std::future::pending::<()>().await },
        () = terminated => {}
    }
}

/// Decides what is shown, and shows it.
struct Printer {
    paper: Paper,
    no_retained: bool,
    retained_only: bool,
    filtered_out: Vec<TopicFilterBuf>,
    left: Option<u64>,
}

/// After one message.
struct Step {
    is_done: bool,
}

impl Printer {
    fn new(args: &SubArgs) -> Result<Self, Failure> {
        Ok(Self {
            paper: Paper::new(&args.output),
            no_retained: args.no_retained,
            retained_only: args.retained_only,
            filtered_out: args.filter_out.iter().map(|text| owned(text)).collect::<Result<_, _>>()?,
            left: args.count,
        })
    }

    fn take(&mut self, inbound: &InboundMessage) -> Result<Step, Failure> {
        let message = &inbound.message;
        if self.retained_only && !message.retain() {
            return Ok(Step { is_done: true });
        }
        let is_hidden = self.no_retained && message.retain()
            || self.filtered_out.iter().any(|filter| filter.as_filter().matches(message.topic()));
        if is_hidden {
            return Ok(Step { is_done: false });
        }
        self.paper.print(inbound)?;
        self.left = self.left.map(|left| left - 1);
        Ok(Step { is_done: self.left == Some(0) })
    }
}
