//! `mqtt bench`: clients of one process load a broker, and rates and latencies are measured.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use clap::Args;
use damselfly_client::Outcome;
use damselfly_codec::{Properties, QoS, SubscriptionOptions};
use damselfly_examples::client::{Client, Completion, Drain, Inbox, Subscription};
use damselfly_topic::TopicFilter;
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet, time};

use crate::{
    Failure,
    args::{ConnectArgs, qos, seconds, topic_name},
    connect::Link,
    histogram::Histogram,
    subscribe::{check_outcome, interrupted},
};

/// A payload begins with the time it was made, in microseconds.
const STAMP: usize = 8;
/// How long nothing may come after the last message was sent, until what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// `mqtt bench`
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
    /// Topic under which each publisher has one of its own, which all subscribers subscribe to.
    #[arg(short = 't', long, value_name = "TOPIC", default_value = "bench", value_parser = topic_name)]
    pub(crate) topic: String,
    /// How many clients publish.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) publishers: u32,
    /// How many clients subscribe; each gets every message.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) subscribers: u32,
    /// QoS of messages and subscriptions: 0, 1 or 2.
    #[arg(short = 'q', long, value_name = "QOS", default_value = "0", value_parser = qos)]
    pub(crate) qos: QoS,
    /// Payload of each message, in bytes; the first 8 are the time.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(8..=268_000_000))]
    pub(crate) size: u32,
    /// Messages per second of all publishers together; without it, as many as they can.
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// How many messages of each publisher may be without an outcome.
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) window: u32,
    /// For how long to publish, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) duration: Duration,
    /// How many messages each publisher sends, instead of a duration.
    #[arg(long, value_name = "COUNT", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Print the result as JSON on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What has happened, since the beginning and since the last second.
struct Totals {
    sent: u64,
    /// Messages that were refused, or of which nobody knows.
    failed: u64,
    received: u64,
    latency: Histogram,
    recent: Histogram,
}

/// What all clients share.
struct Shared {
    start: Instant,
    totals: Mutex<Totals>,
}

impl Shared {
    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Loads the broker as the flags say.
pub(crate) async fn run(args: BenchArgs) -> Result<(), Failure> {
    let (failed, mut failures) = mpsc::channel(1);
    let (streams, clients) = connect(&args, &failed).await?;
    let totals = Totals { sent: 0, failed: 0, received: 0, latency: Histogram::new(), recent: Histogram::new() };
    let shared = Arc::new(Shared { start: Instant::now(), totals: Mutex::new(totals) });
    let mut subscribers = JoinSet::new();
    for stream in streams {
        subscribers.spawn(receive(Arc::clone(&shared), stream));
    }
    let mut publishers = JoinSet::new();
    for (number, client) in (0..args.publishers).zip(&clients) {
        publishers.spawn(publish(Arc::clone(&shared), client.clone(), Load::new(&args, number)));
    }
    let work = async {
        while publishers.join_next().await.is_some() {}
        let elapsed = shared.start.elapsed();
        wait_for_last(&shared, u64::from(args.subscribers)).await;
        elapsed
    };
    tokio::pin!(work);
    let mut ticks = time::interval_at(time::Instant::now() + Duration::from_secs(1), Duration::from_secs(1));
    let mut before = (0, 0);
    let elapsed = loop {
        tokio::select! {
            elapsed = &mut work => break elapsed,
            failure = failures.recv() => return Err(failure.unwrap_or(Failure::BrokenPipe)),
            () = interrupted() => break shared.start.elapsed(),
            _ = ticks.tick() => before = say_second(&args, &shared, before),
        }
    };
    say_end(&args, &shared.totals(), elapsed);
    // Publishers that were interrupted go on until their client is closed.
    let closing: Vec<_> = clients.iter().map(|client| client.close(Drain::at_once())).collect();
    futures::future::join_all(closing).await;
    Ok(())
}

/// Connects all clients, publishers first, and has the streams of those that subscribe.
async fn connect(
    args: &BenchArgs,
    failed: &mpsc::Sender<Failure>,
) -> Result<(Vec<Subscription>, Vec<Client>), Failure> {
    if args.connect.record.is_some() {
        return Err(Failure::Usage("--record is for one client: mqtt pub, mqtt sub or mqtt rr".into()));
    }
    let properties = args.connect.property_args().map_err(Failure::Usage)?;
    let (mut streams, mut clients) = (Vec::new(), Vec::new());
    for number in 0..args.publishers.saturating_add(args.subscribers) {
        let mut link = Link::open_with(&args.connect, &properties, |config| {
            config.client_id = format!("{}-{number}", config.client_id).into();
        })?;
        link.connected().await?;
        if number >= args.publishers {
            streams.push(subscribe(args, &mut link).await?);
        }
        clients.push(link.client.clone());
        let failed = failed.clone();
        tokio::spawn(async move {
            loop {
                match link.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return,
                    Err(failure) => {
                        let _ = failed.try_send(failure);
                        return;
                    }
                }
            }
        });
    }
    Ok((streams, clients))
}

async fn subscribe(args: &BenchArgs, link: &mut Link) -> Result<Subscription, Failure> {
    let text = format!("{}/+", args.topic);
    let filter = TopicFilter::new(&text).map_err(|error| Failure::Usage(format!("the topic {text:?}: {error}")))?;
    let options = SubscriptionOptions { qos: args.qos, ..SubscriptionOptions::default() };
    let stream = link.client.subscribe(&[(filter, options)], Properties::EMPTY, Inbox::default());
    let mut stream = stream.map_err(|error| Failure::Refused(format!("the subscription cannot be sent: {error}")))?;
    let granted = link.until(stream.granted()).await?;
    check_outcome(&granted, &[text])?;
    Ok(stream)
}

/// What one publisher does.
struct Load {
    topic: String,
    qos: QoS,
    payload: Vec<u8>,
    window: usize,
    /// Seconds between two messages.
    pace: Option<f64>,
    end: Option<Duration>,
    left: Option<u64>,
}

impl Load {
    fn new(args: &BenchArgs, number: u32) -> Self {
        Self {
            topic: format!("{}/{number}", args.topic),
            qos: args.qos,
            payload: vec![b'x'; usize::try_from(args.size).unwrap_or(STAMP)],
            window: usize::try_from(args.window).unwrap_or(usize::MAX),
            pace: args.rate.map(|rate| f64::from(args.publishers) / f64::from(rate)),
            end: args.count.is_none().then_some(args.duration),
            left: args.count,
        }
    }

    /// Is there another message to send? Counts it.
    fn goes_on(&mut self, start: Instant) -> bool {
        if let Some(left) = &mut self.left {
            let goes_on = *left > 0;
            *left = left.saturating_sub(1);
            return goes_on;
        }
        self.end.is_none_or(|end| start.elapsed() < end)
    }
}

async fn publish(shared: Arc<Shared>, client: Client, mut load: Load) {
    let mut pending = VecDeque::new();
    let mut due = Duration::ZERO;
    while load.goes_on(shared.start) {
        if let Some(pace) = load.pace {
            time::sleep_until((shared.start + due).into()).await;
            due += Duration::from_secs_f64(pace);
        }
        if pending.len() >= load.window {
            settle(&shared, pending.pop_front()).await;
        }
        if let Some(stamp) = load.payload.first_chunk_mut::<STAMP>() {
            *stamp = shared.micros().to_be_bytes();
        }
        let Ok(message) = client.message(&load.topic, &load.payload, load.qos, false, Properties::EMPTY) else {
            return;
        };
        match client.publish_when_room(message).await {
            Ok(completion) => pending.push_back(completion),
            Err(_) => shared.totals().failed += 1,
        }
    }
    while !pending.is_empty() {
        settle(&shared, pending.pop_front()).await;
    }
}

async fn settle(shared: &Shared, completion: Option<Completion>) {
    let Some(completion) = completion else { return };
    let outcome = completion.await;
    let mut totals = shared.totals();
    match outcome {
        Outcome::Transmitted | Outcome::Acknowledged { .. } => totals.sent += 1,
        _ => totals.failed += 1,
    }
}

async fn receive(shared: Arc<Shared>, mut stream: Subscription) {
    while let Some(inbound) = stream.next().await {
        let now = shared.micros();
        let mut totals = shared.totals();
        totals.received += 1;
        // A message of somebody else has no time in it that means anything here.
        if let Some(stamp) = inbound.message.payload().first_chunk::<STAMP>() {
            let latency = Duration::from_micros(now.saturating_sub(u64::from_be_bytes(*stamp)));
            totals.latency.record(latency);
            totals.recent.record(latency);
        }
    }
}

/// Waits until each subscriber has everything, or nothing has come for a while.
async fn wait_for_last(shared: &Shared, subscribers: u64) {
    let mut seen = shared.totals().received;
    let mut since = Instant::now();
    loop {
        let (received, expected) = {
            let totals = shared.totals();
            (totals.received, totals.sent.saturating_mul(subscribers))
        };
        if received >= expected {
            return;
        }
        if received != seen {
            (seen, since) = (received, Instant::now());
        }
        if since.elapsed() >= PATIENCE {
            return;
        }
        time::sleep(Duration::from_millis(1)).await;
    }
}

fn say_second(args: &BenchArgs, shared: &Shared, before: (u64, u64)) -> (u64, u64) {
    let mut totals = shared.totals();
    let now = (totals.sent, totals.received);
    if !args.connect.quiet {
        eprintln!(
            "{:>4} s  sent {}/s  received {}/s  {}",
            shared.start.elapsed().as_secs(),
            now.0 - before.0,
            now.1 - before.1,
            in_words(&totals.recent)
        );
    }
    totals.recent.clear();
    now
}

fn in_words(latency: &Histogram) -> String {
    format!(
        "latency p50 {:?}  p99 {:?}  longest {:?}",
        latency.per_mille(500),
        latency.per_mille(990),
        latency.longest()
    )
}

/// Per second, rounded down.
fn rate(count: u64, elapsed: Duration) -> u64 {
    let micros = elapsed.as_micros().max(1);
    u64::try_from(u128::from(count) * 1_000_000 / micros).unwrap_or(u64::MAX)
}

fn say_end(args: &BenchArgs, totals: &Totals, elapsed: Duration) {
    let expected = totals.sent.saturating_mul(u64::from(args.subscribers));
    let missing = expected.saturating_sub(totals.received);
    let (sent_rate, received_rate) = (rate(totals.sent, elapsed), rate(totals.received, elapsed));
    if !args.connect.quiet {
        eprintln!(
            "in {:.3} s: sent {} ({sent_rate}/s), failed {}, received {} ({received_rate}/s), missing {missing}; {}",
            elapsed.as_secs_f64(),
            totals.sent,
            totals.failed,
            totals.received,
            in_words(&totals.latency)
        );
    }
    if args.json {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let latency = &totals.latency;
        let object = json!({
            "seconds": elapsed.as_secs_f64(),
            "publishers": args.publishers,
            "subscribers": args.subscribers,
            "qos": u8::from(args.qos),
            "size": args.size,
            "sent": totals.sent,
            "failed": totals.failed,
            "received": totals.received,
            "missing": missing,
            "sent_per_second": sent_rate,
            "received_per_second": received_rate,
            "latency_us": {
                "p50": micros(latency.per_mille(500)),
                "p90": micros(latency.per_mille(900)),
                "p99": micros(latency.per_mille(990)),
                "p999": micros(latency.per_mille(999)),
                "longest": micros(latency.longest()),
            },
        });
        println!("{object}");
    }
}
