//! Pictures of what brokers and clients do, as SVG or Mermaid: who subscribes to what, and which packets go in which order.
//!
//! What is drawn has happened: [`Exchange`] plays the real cores against each other and writes down their packets, and
//! [`Topology`] is read from a broker core, from what was recorded of one, or from what a running one says of itself.
//!
//! ```
//! use damselfly_examples::diagram::{Exchange, Format};
//!
//! let picture = Exchange::QoS2.play()?.draw(Format::Mermaid);
//! assert!(picture.contains("PUBREC") && picture.contains("PUBCOMP"));
//! # Ok::<(), damselfly_examples::diagram::DiagramError>(())
//! ```

mod exchange;
mod map;
mod sequence;
mod stage;
mod svg;
mod topology;

use std::time::Duration;

use crate::home;

pub use exchange::Exchange;
pub use sequence::Sequence;
pub use topology::{Shown, Topology};

/// What a picture is written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A picture of its own, in the colours of the reader's light or dark scheme.
    #[default]
    Svg,
    /// Text that many pages of documentation draw: <https://mermaid.js.org>.
    Mermaid,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiagramError {
    /// The broker core does not take its config.
    #[error(transparent)]
    Broker(#[from] damselfly_broker::ConfigError),
    /// What is played does not go on.
    #[error("the exchange came to no end")]
    Endless,
    /// There is no house to draw.
    #[error(transparent)]
    House(#[from] home::SimulationError),
    /// The recording cannot be read or played.
    #[error(transparent)]
    Recording(#[from] damselfly_sim::flight::ReadError),
    /// The recording is of a client.
    #[error("the recording is of a client, and only a broker knows who subscribes to what. Give one of a broker")]
    NoBroker,
    /// The text is no topology.
    #[error("what the broker says of itself cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// The name or filter cannot be used.
    #[error(transparent)]
    Topic(#[from] damselfly_topic::TopicError),
    /// A client does not take what it is asked for.
    #[error(transparent)]
    Usage(#[from] damselfly_client::UsageError),
}

/// How long the smart home has lived in its picture.
const A_WHILE: Duration = Duration::from_secs(20);

/// The pictures of this project's documentation: names of files and what is in them.
pub fn documentation() -> Result<Vec<(String, String)>, DiagramError> {
    let mut files = Vec::new();
    for (name, exchange) in Exchange::ALL {
        let sequence = exchange.play()?;
        files.push((format!("{name}.svg"), sequence.draw(Format::Svg)));
        files.push((format!("{name}.mermaid"), sequence.draw(Format::Mermaid)));
    }
    let house = home::broker_after(home::Settings::new(7), A_WHILE, Topology::of_broker)??;
    files.push(("house.svg".to_owned(), house.draw(Format::Svg, Shown { max_clients: 30, max_topics: 32 })));
    Ok(files)
}
