//! What stands between the devices and the broker: a relay that can lose, hold and cut what passes.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::chance::Chance;

/// Bytes that pass at once.
const BUFFER: usize = 8 * 1_024;
/// After how many bytes a connection is cut at the least and at the most, while they are.
const CUT_AFTER: (u32, u32) = (40, 1_500);

/// What is wrong with the air at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Air {
    /// Nothing passes, and nobody can connect.
    is_held: bool,
    /// Connections made before the client lost its power so many times.
    outages: u32,
    /// Connections are cut.
    is_cut: bool,
}

/// One client's way to the broker: an address of its own, so that it is known who connects.
#[derive(Debug)]
pub(super) struct Station {
    address: SocketAddr,
    air: watch::Sender<Air>,
    task: JoinHandle<()>,
}

impl Station {
    /// Listens on the loopback address.
    pub(super) async fn open(broker: SocketAddr, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (air, _) = watch::channel(Air::default());
        let task = tokio::spawn(serve(listener, broker, air.clone(), Chance::new(seed)));
        Ok(Self { address, air, task })
    }

    /// Where the client connects to.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nothing passes, or passes again. What was under way meanwhile arrives then.
    pub(super) fn hold(&self, is_held: bool) {
        self.air.send_modify(|air| air.is_held = is_held);
    }

    /// The client's end of all connections is gone; the broker's stays open until the broker closes it.
    pub(super) fn lose_power(&self) {
        self.air.send_modify(|air| air.outages += 1);
    }

    /// Connections are cut after some random bytes, or no more.
    pub(super) fn cut(&self, is_cut: bool) {
        self.air.send_modify(|air| air.is_cut = is_cut);
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, broker: SocketAddr, air: watch::Sender<Air>, mut chance: Chance) {
    let mut relays = tokio::task::JoinSet::new();
    loop {
        while relays.try_join_next().is_some() {}
        let Ok((client, _)) = listener.accept().await else {
            // Descriptors ran out: a task gives some back.
            let _ = relays.join_next().await;
            continue;
        };
        if !air.borrow().is_held {
            relays.spawn(relay(client, broker, air.subscribe(), chance.between(CUT_AFTER.0, CUT_AFTER.1)));
        }
    }
}

async fn relay(mut client: TcpStream, broker: SocketAddr, mut air: watch::Receiver<Air>, cut_after: u32) {
    let Ok(mut broker) = TcpStream::connect(broker).await else { return };
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let outages = air.borrow_and_update().outages;
    let left = AtomicU32::new(cut_after);
    let lost = {
        let (client_out, client_in) = client.split();
        let (broker_out, broker_in) = broker.split();
        tokio::select! {
            () = pump(client_out, broker_in, air.clone(), &left) => false,
            () = pump(broker_out, client_in, air.clone(), &left) => false,
            result = air.wait_for(|air| air.outages != outages) => result.is_ok(),
        }
    };
    drop(client);
    if lost {
        // As cables do: what the broker sends is gone, and it hears nothing.
        let mut nowhere = vec![0; BUFFER];
        while broker.read(&mut nowhere).await.is_ok_and(|len| len > 0) {}
    }
}

/// Moves bytes one way until that end is over or the connection is to be cut.
async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut air: watch::Receiver<Air>,
    left: &AtomicU32,
) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let Ok(len) = from.read(&mut buffer).await else { return };
        if len == 0 || air.wait_for(|air| !air.is_held).await.is_err() {
            return;
        }
        let mut may_pass = len;
        if air.borrow().is_cut {
            let before = left.load(Ordering::Relaxed);
            may_pass = len.min(usize::try_from(before).unwrap_or(0));
            left.store(before - u32::try_from(may_pass).unwrap_or(0), Ordering::Relaxed);
        }
        let is_written = to.write_all(buffer.get(..may_pass).unwrap_or_default()).await.is_ok();
        if !is_written || may_pass < len {
            return;
        }
    }
}
