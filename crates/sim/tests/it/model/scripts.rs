//! Histories that were not agreed about once, in the words they were found in or thought of.

use super::{run, script::Script};

#[test]
fn scripts_of_what_was_wrong_once_are_agreed_about() {
    for script in [
        PUBREL_NEEDS_NO_WINDOW,
        AWAY_IS_A_SUBSCRIBER,
        LIVE_AS_RETAINED,
        SUBSCRIBED_AGAIN,
        TWO_REPLAYS,
        LEFT_AT_QOS_0,
        TAKEN_UP_BEFORE_ITS_COMMIT,
        REPLAY_FIRST,
        TOLD_THOUGH_ANOTHER_IS_SMALL,
        ONCE_FOR_WHO_GOT_IT,
        EXPIRED_BEFORE_ITS_COMMIT,
        DRIVES_NOTHING_OUT,
        LIVE_BEFORE_THE_SUBACK,
        TWO_THAT_DO_NOT_FIT,
        THE_OTHER_MEMBER,
    ] {
        let script: Script = script.parse().unwrap();
        if let Err(error) = run::play_aloud(&script) {
            panic!("{error}");
        }
    }
}

/// What is no PUBLISH does not wait for the window. [MQTT-3.3.4-10]
const PUBREL_NEEDS_NO_WINDOW: &str = r#"
    alice: connect 5.0 expiry=30 receive=5 manual
    alice: subscribe "a" qos2
    bob: connect 3.1.1
    bob: publish qos1 "a" "m1"
    bob: publish qos1 "a" "m2"
    bob: publish qos2 "a" "m3"
    alice: ack pubrec
    alice: connect 5.0 expiry=30 receive=1 manual
    alice: ack 5
    alice: ack 5
    alice: ack 5
"#;

/// 0x10 is for where nobody has subscribed. [MQTT-3.4.2.1]
const AWAY_IS_A_SUBSCRIBER: &str = r#"
    carol: connect 5.0 expiry=30
    carol: subscribe "a/+" qos0
    alice: connect 5.0 expiry=30
    carol: cut
    alice: publish qos2 "a/c" "m93"
"#;

/// The repeated message is newer than the SUBSCRIBE: it comes live, and in the same words as the replay it replaces.
const LIVE_AS_RETAINED: &str = r#"
    alice: connect 5.0 expiry=12 receive=1
    alice: subscribe "a" qos2
    alice: deaf
    alice: publish qos1 "a" "m1"
    alice: publish qos1 retain "b" "m2"
    alice: subscribe "b" qos1 rap
"#;

/// The replay of a subscription that ended looks the same as that of the next one.
const SUBSCRIBED_AGAIN: &str = r#"
    carol: connect 5.0 clean expiry=4
    dave: connect 5.0 expiry=30 receive=1 manual
    carol: publish qos1 retain "b" "m8"
    dave: subscribe "a" qos1
    carol: publish qos1 "a" "m9"
    dave: subscribe "b" qos2
    dave: unsubscribe "b"
    dave: subscribe "b" qos1
"#;

/// What was buffered for a subscription that ended may come, the live message between two replays that look the same too.
const TWO_REPLAYS: &str = r##"
    bob: connect 3.1.1 manual
    carol: connect 3.1.1
    carol: publish qos2 retain "$s/a" "m16"
    bob: publish qos1 retain "a/b" "m17"
    bob: subscribe "a/b" qos1
    carol: publish qos2 "a/b" "m21"
    carol: publish qos1 "a/b" "m22"
    dave: connect 3.1.1
    bob: subscribe "$s/#" qos1
    bob: subscribe "#" qos1
    dave: publish qos1 "a/b" "m27"
    bob: unsubscribe "a/b"
    bob: subscribe "a/+" qos2
"##;

/// What waits at QoS 0 for a member whose session ends goes to one that gets it at more.
const LEFT_AT_QOS_0: &str = r##"
    erin: connect 5.0 expiry=4 receive=1 manual
    erin: subscribe "a/b" qos2
    carol: connect 5.0 expiry=30 receive=3 manual
    erin: subscribe "$share/g/#" qos0 id=19
    carol: publish qos1 "a/b" "m31"
    carol: subscribe "$share/g/#" qos2 id=19
    erin: subscribe "#" qos1
    erin: publish qos2 retain "b" "m67"
    erin: subscribe "+/b" qos1
    erin: publish qos2 "a/b" "m69"
    carol: publish qos2 "b" "m77"
    dave: connect 3.1.1
    carol: publish qos1 "a/b" "m82"
    dave: publish qos0 "a/b" "m104"
    erin: connect 5.0 manual
    carol: ack pubcomp cut=0
    erin: cut
"##;

/// A retained message that is sent at QoS 0 is the one there is until the commit of the QoS 2 message that replaces it.
const TAKEN_UP_BEFORE_ITS_COMMIT: &str = r##"
    alice: connect 5.0 expiry=4294967295 will delay=0 qos1 "a/b" "w0"
    bob: connect 3.1.1 manual will delay=0 qos1 retain "a/b" "w1"
    carol: connect 5.0 expiry=12
    dave: connect 3.1.1
    erin: connect 3.1.1
    bob: subscribe "+/b" qos1
    erin: publish qos2 "a/b" "m91"
    carol: publish qos2 "a/b" "m119"
    bob: connect 3.1.1 manual
    alice: connect 5.0
    dave: publish qos2 "a/b" "m139"
    bob: subscribe "#" qos0
    bob: publish qos2 retain "a/b" "m170" cut=0
"##;

/// A live QoS 0 message does not overtake the retained one of its topic that waits behind the window.
const REPLAY_FIRST: &str = r#"
    alice: connect 5.0 receive=1 manual
    bob: connect 3.1.1
    bob: publish qos1 retain "a/b" "m1"
    alice: subscribe "b" qos1
    bob: publish qos1 "b" "m2"
    bob: publish qos1 "b" "m3"
    alice: subscribe "a/b" qos0
    bob: publish qos0 "a/b" "m4"
    alice: ack
"#;

/// That a queue is full is told, whatever the reason why another receiver does not get the message.
const TOLD_THOUGH_ANOTHER_IS_SMALL: &str = r#"
    limits queue=1
    alice: connect 5.0 expiry=30
    bob: connect 5.0 expiry=30 packet=30
    carol: connect 5.0 expiry=30
    alice: subscribe "a/b" qos1
    alice: cut
    bob: subscribe "a/b" qos1
    carol: publish qos1 "a/b" "m1"
    carol: publish qos1 size=40 "a/b" "m2"
"#;

/// A QoS 2 message is delivered once to whoever got it, though another had no room for it. [MQTT-4.3.3-10]
const ONCE_FOR_WHO_GOT_IT: &str = r#"
    limits queue=1
    alice: connect 5.0 expiry=30
    bob: connect 5.0 expiry=30
    carol: connect 5.0 expiry=30
    alice: subscribe "a/b" qos2
    bob: subscribe "a/b" qos2
    alice: cut
    carol: publish qos1 "a/b" "m1"
    hold commits
    carol: publish qos2 "a/b" "m2"
    carol: cut
    commit
    carol: connect 5.0 expiry=30
"#;

/// One that expires before it is durable is taken for all that: its repeat is not a new one.
const EXPIRED_BEFORE_ITS_COMMIT: &str = r#"
    bob: connect 5.0
    bob: subscribe "a/b" qos2
    carol: connect 5.0 expiry=30
    hold commits
    carol: publish qos2 expiry=4 "a/b" "m32"
    carol: cut
    wait 11
    commit
    carol: connect 5.0 expiry=30
"#;

/// A message that an empty queue would not take leaves the others there.
const DRIVES_NOTHING_OUT: &str = r#"
    limits bytes=4000 when-full=drop-oldest
    alice: connect 5.0 expiry=30
    bob: connect 3.1.1
    alice: subscribe "a/b" qos1
    alice: cut
    bob: publish qos1 "a/b" "m1"
    bob: publish qos1 size=5000 "a/b" "m2"
"#;

/// What comes live between a SUBSCRIBE and its SUBACK stands before the retained messages.
const LIVE_BEFORE_THE_SUBACK: &str = r##"
    alice: connect 5.0 expiry=4294967295
    bob: connect 3.1.1
    dave: connect 3.1.1 manual
    dave: subscribe "#" qos1
    hold commits
    dave: publish qos1 "a" "m12"
    bob: publish qos1 retain "b" "m15"
    alice: publish qos1 "a/ccc" "m16"
    alice: publish qos1 "a/b" "m19"
    dave: publish qos2 "b" "m20"
    bob: publish qos1 "a/b" "m26"
    dave: subscribe "#" qos0
"##;

/// Two deliveries of one PUBLISH that do not fit into a queue together drive out all that is older.
const TWO_THAT_DO_NOT_FIT: &str = r##"
    limits bytes=8000 when-full=drop-oldest
    alice: connect 5.0 clean expiry=12
    dave: connect 5.0 expiry=4294967295
    dave: subscribe "$share/g/#" qos1 id=20
    dave: subscribe "#" qos2
    dave: connect 5.0 expiry=30 manual will delay=0 qos2 "a/ccc" "w90"
    dave: publish qos2 "b" "m95"
    alice: publish qos1 "a" "m99"
    carol: connect 5.0
    dave: connect 5.0 expiry=4 manual
    carol: publish qos2 "b" "m108"
    alice: publish qos1 size=5000 "a" "m111"
"##;

/// A shared message drives nothing out of the queue of a member that did not get it.
const THE_OTHER_MEMBER: &str = r#"
    limits queue=1 when-full=drop-oldest
    alice: connect 5.0 expiry=12
    dave: connect 5.0 expiry=12 manual
    alice: subscribe "$share/g/a/+" qos2 id=18
    dave: subscribe "b" qos1
    alice: publish qos1 "b" "m12"
    bob: connect 3.1.1 will delay=0 qos2 "b" "w13"
    bob: cut
    dave: connect 5.0 expiry=30 receive=2 manual
    dave: subscribe "$share/g/a/+" qos2 id=18
    dave: publish qos2 "b" "m39"
    alice: publish qos1 "a/q" "m46"
"#;
