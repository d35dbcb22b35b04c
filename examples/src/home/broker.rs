//! The broker of the house, in a thread of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use damselfly_broker::{Broker, Config};

use super::doorkeeper::Doorkeeper;
use crate::broker::{Driver, Host, Listening, Network, Origin, Origins, Settings, Stop, TransportKind};

/// A broker that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct HouseBroker {
    /// Where the devices come in, by the access point: MQTT over TCP.
    pub devices: SocketAddr,
    /// Where pages come in: MQTT over WebSocket.
    pub pages: SocketAddr,
    /// What takes its network away.
    pub network: Network,
    stop: Stop,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// Where it listens beside the loopback ports that the system chooses.
#[derive(Clone, Debug, Default)]
pub struct Listen {
    /// MQTT over TCP for programs of others; `None` is a port that the system chooses.
    pub tcp: Option<SocketAddr>,
    /// Whose pages may connect over WebSocket, beside those of the broker's own address.
    pub page_origins: Vec<Origin>,
}

impl HouseBroker {
    /// Starts it with the users of the house with this [secret](super::Settings::secret); what it hears beside them goes to `host`.
    pub fn start<H: Host + Send + 'static>(secret: u64, listen: Listen, host: H) -> io::Result<Self> {
        let (said, heard) = mpsc::channel::<io::Result<(SocketAddr, SocketAddr, Network, Stop)>>();
        let thread = thread::Builder::new().name("broker".to_owned()).spawn(move || {
            match open(secret, listen, host) {
                Ok((driver, devices, pages)) => {
                    // Nobody listens only if the one who started us is gone.
                    let _ = said.send(Ok((devices, pages, driver.network(), driver.stop())));
                    driver.run().map(|_| ())
                }
                Err(error) => {
                    let _ = said.send(Err(error));
                    Ok(())
                }
            }
        })?;
        let gone = |_| io::Error::other("the broker's thread ended before it began");
        let (devices, pages, network, stop) = heard.recv().map_err(gone)??;
        Ok(Self { devices, pages, network, stop, thread: Some(thread) })
    }

    /// Closes all connections and waits for the end.
    pub fn stop(mut self) -> io::Result<()> {
        self.stop.stop()?;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the broker's thread panicked")),
            None => Ok(()),
        }
    }
}

type Opened<H> = (Driver<Doorkeeper<H>>, SocketAddr, SocketAddr);

fn open<H: Host>(secret: u64, listen: Listen, host: H) -> io::Result<Opened<H>> {
    let broker = Broker::new(Config::default(), secret).map_err(io::Error::other)?;
    let mut driver = Driver::new(broker, Doorkeeper::new(secret, host), Settings::default())?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let devices = driver.listen(listen.tcp.unwrap_or(any))?;
    let mut pages = Listening::at(any);
    (pages.kind, pages.origins) = (TransportKind::WebSocket, Origins::allowing(listen.page_origins));
    let pages = driver.listen_as(&pages)?.tcp().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((driver, devices, pages))
}

impl Drop for HouseBroker {
    fn drop(&mut self) {
        let _ = self.stop.stop();
    }
}
