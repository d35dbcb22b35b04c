//! The task of one client: it opens sockets when the core asks for one, moves bytes and keeps the time.

use std::{
    future::{Future, poll_fn},
    io, mem,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use damselfly_client::{NeedTransport, TransportLost};
use tokio::{
    task::yield_now,
    time::{Sleep, sleep, timeout},
};

use super::{
    input::Input,
    options::{Endpoint, Provider},
    socket::Socket,
    state::Shared,
};
use crate::transport::{ClientTls, Tls, Transport};

/// How long opening a connection may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the last bytes may take once the core wants to close.
const LINGER: Duration = Duration::from_secs(2);
/// A timer without a deadline ends after this, which does no harm.
const NO_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);
/// How many slices one write takes.
const MAX_CHUNKS: usize = 32;

/// Tells that the task is over, also when the runtime ends it or never begins it.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.lock().end();
    }
}

/// Runs until the client is closed.
pub(super) fn run(shared: Arc<Shared>, provider: Provider, tls: ClientTls) -> impl Future<Output = ()> + Send {
    let ending = Ending(shared);
    async move { serve(&ending.0, provider, tls).await }
}

async fn serve(shared: &Shared, mut provider: Provider, tls: ClientTls) {
    loop {
        let (need, is_finished, deadline) = {
            let mut state = shared.lock();
            (state.need.take(), state.is_finished, state.core.poll_timeout().map(|at| state.clock.until(at)))
        };
        if is_finished {
            return;
        }
        if let Some(need) = need {
            attempt(shared, need, &mut provider, &tls).await;
            continue;
        }
        tokio::select! {
            () = shared.wake.notified() => {}
            () = wait(deadline) => handle_timeout(shared),
        }
    }
}

/// One attempt to connect and, if it succeeds, the whole life of the connection.
async fn attempt(shared: &Shared, need: NeedTransport, provider: &mut Provider, tls: &ClientTls) {
    if !wait_for_start(shared, &need).await {
        return;
    }
    let asked = provider(need);
    let opening = async {
        let (endpoint, parameters) = asked.await?;
        let opened = timeout(OPEN_TIMEOUT, open(&endpoint, tls)).await;
        let (transport, input) = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        Ok((transport, input, parameters))
    };
    let opened = tokio::select! {
        opened = opening => opened,
        () = closed(shared) => return,
    };
    match opened {
        Ok((mut transport, input, parameters)) => {
            {
                let mut state = shared.lock();
                let now = state.clock.now();
                state.core.handle_transport_up(now, &parameters);
                state.take_outputs();
            }
            let (why, error) = converse(shared, &mut transport, input).await;
            transport.finish();
            shared.lock().transport_lost(why, error.as_ref());
        }
        Err(error) => shared.lock().transport_lost(TransportLost::NotOpened, Some(&error)),
    }
}

/// Opens a connection on which packets can be sent. What has arrived already comes with it.
async fn open(endpoint: &Endpoint, tls: &ClientTls) -> io::Result<(Transport<Socket>, Input)> {
    let socket = Socket::connect(endpoint).await?;
    let unfit = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
    let uri = endpoint.websocket.as_ref().map(|_| endpoint.to_string());
    let mut transport = match (endpoint.is_secure, uri) {
        (false, None) => Transport::Plain(socket),
        (false, Some(uri)) => Transport::websocket(socket, &uri).map_err(unfit)?,
        (true, None) => Transport::Tls(Box::new(Tls::client(socket, tls.connect(&endpoint.host)?))),
        (true, Some(uri)) => {
            let tls = Tls::client(socket, tls.connect(&endpoint.host)?);
            Transport::secure_websocket(tls, &uri).map_err(unfit)?
        }
    };
    let mut input = Input::default();
    while !transport.is_open() {
        let is_blocked = transport.flush()?;
        let stream = transport.stream();
        tokio::select! {
            ready = stream.writable(), if is_blocked => ready?,
            ready = stream.readable() => ready?,
        }
        match input.read(&mut transport) {
            Ok(Some(_)) => {}
            Ok(None) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the connection was closed within the handshake",
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok((transport, input))
}

/// Waits until the attempt may start: false if the client was closed meanwhile.
async fn wait_for_start(shared: &Shared, need: &NeedTransport) -> bool {
    loop {
        let (wait_for, deadline) = {
            let state = shared.lock();
            if state.is_finished {
                return false;
            }
            let deadline = state.core.poll_timeout().map(|at| state.clock.until(at));
            (state.clock.until(need.not_before), deadline)
        };
        if wait_for.is_zero() {
            return true;
        }
        tokio::select! {
            () = sleep(wait_for) => return true,
            () = shared.wake.notified() => {}
            () = wait(deadline) => handle_timeout(shared),
        }
    }
}

/// Ends when the client is closed.
async fn closed(shared: &Shared) {
    loop {
        let deadline = {
            let state = shared.lock();
            if state.is_finished {
                return;
            }
            state.core.poll_timeout().map(|at| state.clock.until(at))
        };
        tokio::select! {
            () = shared.wake.notified() => {}
            () = wait(deadline) => handle_timeout(shared),
        }
    }
}

/// Moves bytes both ways until the connection ends.
async fn converse(
    shared: &Shared,
    transport: &mut Transport<Socket>,
    mut input: Input,
) -> (TransportLost, Option<io::Error>) {
    // One timer for all turns: to begin another at each would cost more than most turns do.
    let mut timer = pin!(sleep(NO_DEADLINE));
    let mut has_read = false;
    loop {
        let is_blocked = match flush(shared, transport) {
            Ok(is_blocked) => is_blocked,
            Err(error) => return (TransportLost::Failed, Some(error)),
        };
        if mem::take(&mut has_read) {
            // The application's turn, while the cache still holds what came: a socket that always has more would take many.
            yield_now().await;
        }
        let (is_closing, is_paused, deadline) = {
            let state = shared.lock();
            let deadline = state.core.poll_timeout().and_then(|at| state.clock.instant(at));
            (state.is_closing, state.is_input_paused, deadline)
        };
        if is_closing {
            linger(shared, transport).await;
            return (TransportLost::Closed, None);
        }
        if !is_paused && input.is_ready() && hand_in(shared, &mut input) {
            continue;
        }
        bring_forward(timer.as_mut(), deadline);
        let has_unread = transport.has_unread();
        let stream = transport.stream();
        // In this order none keeps another from its turn: what there is to write is written at each, and the timer is
        // rarely due.
        tokio::select! {
            biased;
            () = timer.as_mut() => {
                timer.as_mut().reset(tokio::time::Instant::now() + NO_DEADLINE);
                handle_timeout(shared);
            }
            ready = readable(stream, has_unread), if !is_paused => {
                match ready.and_then(|()| input.read(transport)) {
                    Ok(None) => return (TransportLost::Closed, None),
                    // None of it is MQTT: no sign of life to the core.
                    Ok(Some(0)) => {}
                    Ok(Some(_)) => {
                        hand_in(shared, &mut input);
                        has_read = true;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return (TransportLost::Failed, Some(error)),
                }
            }
            ready = poll_fn(|context| stream.poll_write_ready(context)), if is_blocked => if let Err(error) = ready {
                return (TransportLost::Failed, Some(error));
            },
            () = shared.wake.notified() => {}
        }
    }
}

/// Waits until there may be something to read: at the socket, unless a layer above it has some.
async fn readable(socket: &Socket, has_unread: bool) -> io::Result<()> {
    if has_unread { Ok(()) } else { poll_fn(|context| socket.poll_read_ready(context)).await }
}

/// Has the timer end no later than the deadline. It may end before: deadlines move ahead with nearly every turn, and to
/// look up in vain once in a while is cheaper than to follow them.
fn bring_forward(timer: Pin<&mut Sleep>, deadline: Option<Instant>) {
    if let Some(deadline) = deadline.map(tokio::time::Instant::from_std).filter(|at| *at < timer.deadline()) {
        timer.reset(deadline);
    }
}

/// Hands input to the core: true if it took some of it.
fn hand_in(shared: &Shared, input: &mut Input) -> bool {
    let mut state = shared.lock();
    let now = state.clock.now();
    let intake = input.hand_in(&mut state.core, now);
    state.is_input_paused = intake.paused;
    state.take_outputs();
    intake.consumed > 0
}

/// Writes what there is: true if the socket takes no more at the moment.
fn flush(shared: &Shared, transport: &mut Transport<Socket>) -> io::Result<bool> {
    let mut state = shared.lock();
    loop {
        let mut chunks = [&[][..]; MAX_CHUNKS];
        let count = state.core.transmit(&mut chunks);
        let slices = chunks.map(io::IoSlice::new);
        let Some(slices @ [_, ..]) = slices.get(..count) else { return transport.flush() };
        let written = transport.write(slices)?;
        if written.len > 0 {
            let now = state.clock.now();
            state.core.handle_transmitted(now, written.len);
            state.take_outputs();
        }
        if written.is_blocked {
            return Ok(true);
        }
    }
}

/// Writes the last bytes, for a bounded time.
async fn linger(shared: &Shared, transport: &mut Transport<Socket>) {
    let write = async {
        while let Ok(true) = flush(shared, transport) {
            if transport.stream().writable().await.is_err() {
                return;
            }
        }
    };
    let _ = timeout(LINGER, write).await;
}

fn handle_timeout(shared: &Shared) {
    let mut state = shared.lock();
    let now = state.clock.now();
    state.core.handle_timeout(now);
    state.take_outputs();
}

/// Sleeps, or for ever if there is no deadline.
async fn wait(deadline: Option<Duration>) {
    match deadline {
        Some(duration) => sleep(duration).await,
        None => std::future::pending().await,
    }
}
