//! A host that answers from another thread, and learns where a client came in.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use damselfly_broker::{Answer, Broker, Config, Question, QuestionId, Timestamp};
use damselfly_codec::ReasonCode;
use damselfly_examples::broker::{Driver, Entrance, Host, Settings, Stop, Waker};
use damselfly_sim::flight::RecordedBroker;

use crate::support::Wire;

/// Has everybody at its door looked at by another thread, which lets in who came in at the second listener.
struct Elsewhere {
    asked: Sender<(Waker, QuestionId, u16)>,
    answered: Receiver<(QuestionId, Answer)>,
    waker: Option<Waker>,
}

impl Elsewhere {
    fn new() -> Self {
        let (asked, questions) = channel::<(Waker, QuestionId, u16)>();
        let (answers, answered) = channel();
        thread::spawn(move || {
            for (waker, id, listener) in questions {
                let answer = if listener == 1 { Answer::allow() } else { Answer::Deny(ReasonCode::NotAuthorized) };
                answers.send((id, answer)).unwrap();
                // Twice is as good as once.
                waker.wake().unwrap();
                waker.wake().unwrap();
            }
        });
        Self { asked, answered, waker: None }
    }
}

impl Host for Elsewhere {
    fn attach(&mut self, waker: Waker) {
        self.waker = Some(waker);
    }

    fn admit(&mut self, id: QuestionId, _question: &Question, entrance: &Entrance) -> Option<Answer> {
        self.asked.send((self.waker.clone().unwrap(), id, entrance.listener)).unwrap();
        None
    }

    fn woken(&mut self, broker: &mut RecordedBroker, now: Timestamp) {
        for (id, answer) in self.answered.try_iter() {
            broker.handle_answer(now, id, answer);
        }
    }
}

#[test]
fn another_thread_answers_and_wakes_the_driver() {
    let (tell, told) = channel::<(Stop, [SocketAddr; 2])>();
    let running = thread::spawn(move || {
        let broker = Broker::new(Config::default(), 42).unwrap();
        let mut driver = Driver::new(broker, Elsewhere::new(), Settings::default()).unwrap();
        let addresses = [(); 2].map(|()| driver.listen("127.0.0.1:0".parse().unwrap()).unwrap());
        tell.send((driver.stop(), addresses)).unwrap();
        driver.run().unwrap();
    });
    let (stop, [first, second]) = told.recv().unwrap();
    for level in [4, 5] {
        let mut refused = Wire::open(first);
        refused.send_connect(level, "at the first");
        let refusal = if level == 5 { 0x87 } else { 5 };
        assert_eq!(refused.receive().1[1], refusal);
        Wire::connect(second, level, "at the second").ping();
    }
    stop.stop().unwrap();
    running.join().unwrap();
}
