use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// A relay on the loopback address that cuts connections in the middle of whatever passes.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    target: SocketAddr,
    /// After how many bytes, both ways together, each of the next connections is cut; the last is the next.
    cuts: Mutex<Vec<usize>>,
    /// Of the connection that is open, both sides.
    open: Mutex<Vec<TcpStream>>,
    made: AtomicUsize,
}

impl Proxy {
    /// Cuts so many connections, each after a random number of bytes up to `longest`; those that follow live.
    pub(crate) fn start(target: SocketAddr, seed: u64, cuts: usize, longest: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut random = seed;
        let cuts = (0..cuts).map(|_| {
            // A linear congruential generator, whose upper bits are good enough to cut anywhere.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            1 + usize::try_from(random >> 33).unwrap() % longest
        });
        let state = Arc::new(State {
            target,
            cuts: Mutex::new(cuts.collect()),
            open: Mutex::new(Vec::new()),
            made: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // Without a target nobody needs the relay any more.
                let Ok(broker) = TcpStream::connect(shared.target) else { return };
                shared.join(client, broker);
            }
        });
        Self { address, state }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were made through it.
    pub(crate) fn connections(&self) -> usize {
        self.state.made.load(Ordering::SeqCst)
    }

    /// Cuts the open connection.
    pub(crate) fn cut(&self) {
        end(&self.state.open.lock().unwrap());
    }
}

impl State {
    fn join(&self, client: TcpStream, broker: TcpStream) {
        self.made.fetch_add(1, Ordering::SeqCst);
        for stream in [&client, &broker] {
            stream.set_nodelay(true).unwrap();
        }
        let both = [&client, &broker].map(|stream| stream.try_clone().unwrap());
        *self.open.lock().unwrap() = both.into();
        let left = self.cuts.lock().unwrap().pop().unwrap_or(usize::MAX);
        let left = Arc::new(Mutex::new(left));
        let (to_client, to_broker) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
        let other = Arc::clone(&left);
        thread::spawn(move || relay(client, to_broker, &left));
        thread::spawn(move || relay(broker, to_client, &other));
    }
}

/// Moves bytes until one side ends or no byte may pass.
fn relay(mut from: TcpStream, mut to: TcpStream, left: &Mutex<usize>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let len = from.read(&mut buffer).unwrap_or(0);
        let may_pass = {
            let mut left = left.lock().unwrap();
            let may_pass = len.min(*left);
            *left -= may_pass;
            may_pass
        };
        if to.write_all(&buffer[..may_pass]).is_err() || may_pass < len || len == 0 {
            return end(&[from, to]);
        }
    }
}

fn end(streams: &[TcpStream]) {
    for stream in streams {
        // Fails if the other side has ended already, which is as well.
        let _ = stream.shutdown(Shutdown::Both);
    }
}
