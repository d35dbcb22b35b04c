"""What every foreign client is made to do, and what it then has to report.

That nothing more comes is shown by a last message behind it: where it arrives next, nothing was in between.
"""

import hashlib
import traceback

from .brokers import LISTENERS
from .clients import Message, Options
from .processes import Failure, Refused

CASES = []
ALL = ("mosquitto", "paho", "mqttjs", "rumqttc")
LIBRARIES = ("paho", "mqttjs", "rumqttc")
ALL_VERSIONS = ("3.1", "3.1.1", "5.0")
V5 = ("5.0",)
ALL_LISTENERS = tuple(LISTENERS)
# TLS changes nothing of what is within: what is asked over it is that all of it passes.
PLAIN = tuple(name for name, (scheme, _) in LISTENERS.items() if scheme in ("mqtt", "ws"))
MUTUAL = tuple(name for name, (_, has_certificate) in LISTENERS.items() if has_certificate)
LARGE = 256 * 1024


class Case:
    def __init__(self, function, name, programs, versions, listeners, arguments):
        self.name, self._function, self._arguments = name, function, arguments
        self._programs, self._versions, self._listeners = programs, versions, listeners

    def applies_to(self, program, version):
        is_spoken = program.name in self._programs and version in self._versions
        return is_spoken and program.listener in self._listeners

    def run(self, program, version, broker, number):
        """Runs the case; returns what went wrong, or None."""
        scene = Scene(program, version, broker, number)
        try:
            self._function(scene, *self._arguments)
        except Failure as failure:
            return str(failure)
        except Exception:  # a broken case is a failed case, and the others go on
            return traceback.format_exc()
        finally:
            scene.end()
        return None


def case(programs=ALL, versions=ALL_VERSIONS, listeners=PLAIN, each=((),)):
    """Registers a case, once for each tuple of arguments in `each`."""

    def register(function):
        for arguments in each:
            name = " ".join([function.__name__, *(str(argument) for argument in arguments)])
            CASES.append(Case(function, name, programs, versions, listeners, arguments))
        return function

    return register


class Scene:
    """The client under test, a broker, and names that no other case uses."""

    def __init__(self, program, version, broker, number):
        self.program, self.version, self.broker, self.prefix = program, version, broker, f"c{number}"
        self._open, self._clients = [], 0

    def topic(self, rest):
        return f"{self.prefix}/{rest}"

    def client_id(self, name):
        return f"{self.prefix}-{name}"

    def open(self, name, broker=None, **options):
        options = Options(self.client_id(name), **options)
        connection = self.program.open(broker or self.broker, self.version, options)
        self._open.append(connection)
        return connection

    def publish(self, messages, version=None, **options):
        self._clients += 1
        client_id = self.client_id(f"pub{self._clients}")
        self.program.publish(self.broker, version or self.version, client_id, messages, **options)

    def ask(self, name, topic, response_topic, payload):
        """Starts a client that publishes a request and then waits for the response."""
        asking = self.program.request(
            self.broker, self.version, self.client_id(name), topic, response_topic, payload
        )
        self._open.append(asking)
        return asking

    def end(self):
        for connection in self._open:
            connection.kill()


def equal(actual, expected):
    if actual == expected:
        return
    raise Failure(f"expected {show(expected)}\nreported {show(actual)}")


def show(value):
    text = repr(value)
    return text if len(text) < 1500 else f"{text[:1500]}... ({hashlib.sha256(text.encode()).hexdigest()[:12]})"


def numbered(topic, count, qos):
    return [Message(topic, f"message {i}".encode(), qos, False) for i in range(count)]


@case(listeners=ALL_LISTENERS, each=((0,), (1,), (2,)))
def messages_arrive_once_and_in_order_at_qos(scene, qos):
    topic = scene.topic("room/temperature")
    subscriber = scene.open("sub", subscriptions=[(topic, qos)])
    messages = numbered(topic, 60, qos)

    scene.publish(messages)

    equal(subscriber.receive(60), messages)
    scene.publish([Message(topic, b"end", qos, False)])
    equal(subscriber.receive(1), [Message(topic, b"end", qos, False)])


@case(each=((2, 1), (2, 0), (1, 0), (0, 2), (1, 2)))
def the_lower_qos_counts(scene, published, granted):
    topic = scene.topic("lower")
    subscriber = scene.open("sub", subscriptions=[(topic, granted)])

    scene.publish(numbered(topic, 10, published))

    equal(subscriber.receive(10), numbered(topic, 10, min(published, granted)))


@case()
def clients_of_all_versions_hear_each_other(scene):
    topic = scene.topic("mixed")
    subscriber = scene.open("sub", subscriptions=[(topic, 1)])

    for version in scene.program.versions:
        scene.publish([Message(topic, version.encode(), 1, False)], version=version)

    equal(subscriber.receive(len(scene.program.versions)), [
        Message(topic, version.encode(), 1, False) for version in scene.program.versions
    ])


@case(listeners=ALL_LISTENERS, each=((0,), (1,), (2,)))
def a_large_payload_arrives_whole_at_qos(scene, qos):
    topic = scene.topic("large")
    payload = hashlib.shake_128(b"large").digest(LARGE)
    subscriber = scene.open("sub", subscriptions=[(topic, qos)])

    scene.publish([Message(topic, payload, qos, False)])

    equal(subscriber.receive(1), [Message(topic, payload, qos, False)])


@case(listeners=ALL_LISTENERS)
def a_retained_message_meets_later_subscribers(scene):
    topic, end = scene.topic("state"), scene.topic("end")
    live = scene.open("live", subscriptions=[(topic, 1)])

    scene.publish([Message(topic, b"first", 1, True)])
    scene.publish([Message(topic, b"second", 1, True)])
    scene.publish([Message(topic, b"third", 1, False)])

    equal(live.receive(3), [Message(topic, text, 1, False) for text in (b"first", b"second", b"third")])
    later = scene.open("later", subscriptions=[(topic, 1), (end, 1)])
    scene.publish([Message(end, b"end", 1, False)])
    equal(later.receive(2), [Message(topic, b"second", 1, True), Message(end, b"end", 1, False)])


@case()
def an_empty_retained_message_clears_the_topic(scene):
    topic, end = scene.topic("state"), scene.topic("end")
    scene.publish([Message(topic, b"old", 1, True)])
    live = scene.open("live", subscriptions=[(topic, 1)])
    equal(live.receive(1), [Message(topic, b"old", 1, True)])

    scene.publish([Message(topic, b"", 1, True)])

    equal(live.receive(1), [Message(topic, b"", 1, False)])
    later = scene.open("later", subscriptions=[(topic, 1), (end, 1)])
    scene.publish([Message(end, b"end", 1, False)])
    equal(later.receive(1), [Message(end, b"end", 1, False)])


@case()
def retained_messages_meet_a_wildcard(scene):
    states = [Message(scene.topic(f"house/{room}/state"), room.encode(), 1, True) for room in ("attic", "bath", "hall")]
    for state in states:
        scene.publish([state])

    subscriber = scene.open("sub", subscriptions=[(scene.topic("house/+/state"), 1)])

    equal(sorted(subscriber.receive(3)), states)


@case(listeners=ALL_LISTENERS, each=((0, False), (1, False), (2, True)))
def the_will_of_a_killed_client_is_published(scene, qos, retain):
    topic, end = scene.topic("will"), scene.topic("end")
    will = Message(topic, b"gone", qos, retain)
    watcher = scene.open("watch", subscriptions=[(topic, 2)])
    client = scene.open("dies", will=will)

    client.kill()

    equal(watcher.receive(1), [will._replace(retain=False)])
    later = scene.open("later", subscriptions=[(topic, 2), (end, 2)])
    last = Message(end, b"end", 2, False)
    scene.publish([last])
    equal(later.receive(2 if retain else 1), [will, last] if retain else [last])


@case()
def no_will_follows_a_disconnect(scene):
    topic, will = scene.topic("live"), scene.topic("will")
    watcher = scene.open("watch", subscriptions=[(scene.topic("#"), 1)])

    scene.publish([Message(topic, b"live", 1, False)], will=Message(will, b"gone", 1, False))

    scene.publish([Message(topic, b"end", 1, False)])
    equal(watcher.receive(2), [Message(topic, text, 1, False) for text in (b"live", b"end")])


@case(each=((1,), (2,)))
def a_persistent_session_keeps_messages_at_qos(scene, qos):
    topic = scene.topic("kept")
    first = scene.open("keeps", clean=False, expiry=300, subscriptions=[(topic, qos)])
    first.close()
    messages = numbered(topic, 30, qos)

    scene.publish(messages)

    again = scene.open("keeps", clean=False, expiry=300, subscriptions=[(scene.topic("other"), qos)])
    if scene.version != "3.1":  # which has no such flag
        equal(again.session_present in (True, None), True)
    equal(again.receive(30), messages)
    scene.publish([Message(topic, b"end", qos, False)])
    equal(again.receive(1), [Message(topic, b"end", qos, False)])


@case()
def a_clean_session_begins_with_nothing(scene):
    topic, other = scene.topic("lost"), scene.topic("other")
    first = scene.open("forgets", clean=False, expiry=300, subscriptions=[(topic, 1)])
    first.close()
    scene.publish([Message(topic, b"queued", 1, False)])

    again = scene.open("forgets", clean=True, subscriptions=[(other, 1)])

    equal(again.session_present in (False, None), True)
    scene.publish([Message(topic, b"unheard", 1, False)])
    scene.publish([Message(other, b"end", 1, False)])
    equal(again.receive(1), [Message(other, b"end", 1, False)])


@case(each=(("a/+/c",), ("a/#",), ("+/b/c",), ("#",), ("a/b/+",), ("+/+",)))
def a_wildcard_finds_what_it_stands_for(scene, topic_filter):
    matching = {
        "a/+/c": ["a/b/c", "a//c"],
        "a/#": ["a", "a/b", "a/b/c", "a//c"],
        "+/b/c": ["a/b/c"],
        "#": ["a", "a/b", "a/b/c", "a//c", "b"],
        "a/b/+": ["a/b/c"],
        "+/+": ["a/b"],
    }[topic_filter]
    subscriber = scene.open("sub", subscriptions=[(scene.topic(topic_filter), 1)])

    for name in ("a", "a/b", "a/b/c", "a//c", "b"):
        scene.publish([Message(scene.topic(name), name.encode(), 1, False)])

    end = matching[-1]
    scene.publish([Message(scene.topic(end), b"end", 1, False)])
    expected = [Message(scene.topic(name), name.encode(), 1, False) for name in matching]
    equal(subscriber.receive(len(matching) + 1), expected + [Message(scene.topic(end), b"end", 1, False)])


@case()
def an_ended_subscription_receives_nothing(scene):
    ended, kept = scene.topic("ended"), scene.topic("kept")
    first = scene.open("sub", clean=False, expiry=300, subscriptions=[(ended, 1), (kept, 1)])
    first.close()

    again = scene.open("sub", clean=False, expiry=300, unsubscribe=[ended], subscriptions=[(kept, 1)])

    scene.publish([Message(ended, b"unheard", 1, False)])
    scene.publish([Message(kept, b"end", 1, False)])
    equal(again.receive(1), [Message(kept, b"end", 1, False)])


@case(each=((0,), (1,), (2,)))
def members_of_a_share_divide_the_messages_at_qos(scene, qos):
    topic, done = scene.topic("work"), scene.topic("done")
    share = f"$share/{scene.prefix}/{topic}"
    members = [scene.open(f"member{i}", subscriptions=[(share, qos), (done, qos)]) for i in range(3)]
    outsider = scene.open("outsider", subscriptions=[(topic, qos)])
    messages = numbered(topic, 60, qos)

    scene.publish(messages)
    equal(outsider.receive(60), messages)
    scene.publish([Message(done, b"end", qos, False)])

    parts = [until_end(member, done) for member in members]
    for part in parts:
        equal(part, [message for message in messages if message in part])
    equal(sorted(sum(parts, []), key=messages.index), messages)


def until_end(connection, end):
    received = []
    while True:
        message = connection.receive(1)[0]
        if message.topic == end:
            return received
        received.append(message)


@case(versions=V5)
def properties_reach_the_subscriber(scene):
    topic = scene.topic("properties")
    subscriber = scene.open("sub", subscriptions=[(topic, 1)])
    sent = {
        "content_type": "text/plain",
        "response_topic": scene.topic("response"),
        "correlation_data": "question-7",
        "user": [["b", "1"], ["a", "2"], ["b", "3"]],
    }
    if scene.program.name == "mqttjs":  # which holds them by name
        sent["user"] = [["b", "1"], ["b", "3"], ["a", "2"]]

    scene.publish([Message(topic, b"with", 1, False)], properties={**sent, "expiry": 300})

    equal(subscriber.receive(1), [Message(topic, b"with", 1, False)])
    got = subscriber.properties()[0]
    equal({name: as_lists(got.get(name)) for name in sent}, sent)
    equal(295 <= got.get("expiry", 0) <= 300, True)


def as_lists(value):
    return [list(pair) for pair in value] if isinstance(value, list) else value


@case(programs=LIBRARIES, versions=V5)
def a_client_with_no_local_does_not_hear_itself(scene):
    topic = scene.topic("own")
    client = scene.open("talks", subscriptions=[(topic, 1)], flags={"no_local": True})

    client.publish(Message(topic, b"own", 1, False))

    scene.publish([Message(topic, b"end", 1, False)])
    equal(client.receive(1), [Message(topic, b"end", 1, False)])


@case(versions=V5)
def retain_as_published_keeps_the_flag(scene):
    topic = scene.topic("flag")
    subscriber = scene.open("sub", subscriptions=[(topic, 1)], flags={"retain_as_published": True})
    messages = [Message(topic, b"kept", 1, True), Message(topic, b"live", 1, False)]

    scene.publish(messages)

    equal(subscriber.receive(2), messages)


@case(programs=LIBRARIES, versions=V5)
def retain_handling_2_sends_nothing_retained(scene):
    topic = scene.topic("handling")
    scene.publish([Message(topic, b"old", 1, True)])

    subscriber = scene.open("sub", subscriptions=[(topic, 1)], flags={"retain_handling": 2})

    scene.publish([Message(topic, b"end", 1, False)])
    equal(subscriber.receive(1), [Message(topic, b"end", 1, False)])


@case(programs=("paho", "mqttjs"), versions=V5)
def a_delivery_names_its_subscription(scene):
    topic = scene.topic("named")
    subscriber = scene.open("sub", subscriptions=[(topic, 1)], flags={"subscription_id": 321})

    scene.publish([Message(topic, b"named", 1, False)])

    equal(subscriber.receive(1), [Message(topic, b"named", 1, False)])
    equal(subscriber.properties()[0].get("subscription_ids"), [321])


@case(programs=LIBRARIES)
def a_second_connection_takes_the_session_over(scene):
    topic = scene.topic("taken")
    first = scene.open("same", subscriptions=[(topic, 1)])

    second = scene.open("same", subscriptions=[(topic, 1)])

    reason = first.wait_until_closed()
    # rumqttc 0.25 does not read a DISCONNECT that ends with its Reason Code.
    if scene.version == "5.0" and scene.broker.says_taken_over and scene.program.name != "rumqttc":
        equal(reason, 0x8E)
    scene.publish([Message(topic, b"end", 1, False)])
    equal(second.receive(1), [Message(topic, b"end", 1, False)])


@case(programs=("mosquitto",), versions=("3.1.1", "5.0"))
def a_request_gets_its_response(scene):
    request, response = scene.topic("request"), scene.topic("response")
    responder = scene.open("responder", subscriptions=[(request, 1)])
    asking = scene.ask("asks", request, response, "what time is it")

    equal(responder.receive(1), [Message(request, b"what time is it", 1, False)])
    scene.publish([Message(response, b"late", 1, False)])

    equal(asking.line_where(lambda line: line.startswith("response ")), f"response {b'late'.hex()}")
    equal(asking.wait(), 0)


@case(programs=("mosquitto",), versions=V5)
def a_request_carries_its_response_topic(scene):
    request, response = scene.topic("request"), scene.topic("response")
    responder = scene.open("responder", subscriptions=[(request, 1)])
    scene.ask("asks", request, response, "where")

    responder.receive(1)
    equal(responder.properties()[0].get("response_topic"), response)


# The certificate that the client shows, and what the broker says of it.
REFUSED = {
    "by_another_ca": ("other-client", "the certificate is signed by no CA that is trusted here"),
    "that_has_expired": ("expired-client", "the certificate expired on "),
    "that_is_missing": (None, "no certificate was shown, and one is required"),
}

# The certificate that the broker shows, the CA that the client trusts, and what the broker says of it.
UNTRUSTED = {
    "by_another_ca": ("server", "other-ca", "the other side does not trust the CA"),
    "that_has_expired": ("expired-server", "ca", "the other side says that the certificate it was shown has expired"),
}


@case(programs=("paho", "mqttjs"), listeners=MUTUAL, each=[(kind,) for kind in REFUSED])
def nobody_connects_with_a_certificate(scene, kind):
    certificate, said = REFUSED[kind]
    # A broker of its own: of what comes often it says something once a minute.
    with scene.broker.another("server") as broker:
        refusal(scene, broker, broker.certificates.tls(certificate))
        has_said(broker, said)


@case(programs=("paho", "mqttjs"), listeners=MUTUAL, each=[(kind,) for kind in UNTRUSTED])
def nobody_trusts_a_broker_with_a_certificate(scene, kind):
    certificate, ca, said = UNTRUSTED[kind]
    with scene.broker.another(certificate) as broker:
        why = refusal(scene, broker, broker.certificates.tls("client", ca))
        equal("certificate" in why, True)
        if scene.program.name == "paho":  # node looks at the certificate after the handshake, and leaves without an alert
            has_said(broker, said)


def refusal(scene, broker, tls):
    """Connects in vain and returns why, as the client sees it."""
    try:
        scene.open("impostor", broker=broker, tls=tls)
    except Refused as refused:
        return str(refused)
    raise Failure("the client was let in")


def has_said(broker, text):
    if not broker.says_why:
        return
    refusals = broker.refusals()
    if [text in line for line in refusals] != [True]:
        raise Failure(f"expected one line with: {text}\nreported {refusals}")
