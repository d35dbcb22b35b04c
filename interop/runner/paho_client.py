"""paho-mqtt behind lines of JSON: requests on standard input, reports on standard output."""

import json
import os
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

PROTOCOLS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}
output = threading.Lock()


def report(kind, **values):
    with output:
        print(json.dumps({"report": kind, **values}), flush=True)


def connect(request):
    is_v5 = request["version"] == "5.0"
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        client_id=request["client_id"],
        protocol=PROTOCOLS[request["version"]],
        transport="websockets" if request["scheme"] in ("ws", "wss") else "tcp",
        clean_session=None if is_v5 else request["clean"],
    )
    client.on_connect = lambda _c, _u, flags, reason, _p: on_connect(flags, reason)
    client.on_disconnect = lambda _c, _u, _f, reason, _p: on_disconnect(reason)
    client.on_subscribe = lambda _c, _u, _mid, codes, _p: report("subscribed", code=codes[0].value)
    client.on_unsubscribe = lambda _c, _u, _mid, _codes, _p: report("unsubscribed")
    client.on_message = lambda _c, _u, message: on_message(message)
    if will := request.get("will"):
        client.will_set(will["topic"], bytes.fromhex(will["payload"]), will["qos"], will["retain"])
    if tls := request["tls"]:
        client.tls_set(tls["ca"], tls["certificate"], tls["key"])
    arguments = {}
    if is_v5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = request["expiry"]
        arguments = {"clean_start": request["clean"], "properties": properties}
    try:
        client.connect(request["host"], request["port"], keepalive=30, **arguments)
    except (OSError, mqtt.WebsocketConnectionError) as error:
        report("closed", reason=str(error))
        os._exit(1)
    client.loop_start()
    return client


def on_connect(flags, reason):
    if reason.is_failure:
        report("closed", reason=reason.value)
        os._exit(1)
    report("connected", session_present=bool(flags.session_present))


def on_disconnect(reason):
    report("closed", reason=reason.value)
    os._exit(0)


def on_message(message):
    report(
        "message",
        topic=message.topic,
        payload=message.payload.hex(),
        qos=message.qos,
        retain=bool(message.retain),
        properties=read_properties(getattr(message, "properties", None)),
    )


def read_properties(properties):
    values = {}
    for key, name in NAMES.items():
        if properties is not None and hasattr(properties, name):
            value = getattr(properties, name)
            values[key] = value.decode() if isinstance(value, bytes) else value
    return values


NAMES = {
    "content_type": "ContentType",
    "response_topic": "ResponseTopic",
    "correlation_data": "CorrelationData",
    "expiry": "MessageExpiryInterval",
    "user": "UserProperty",
    "subscription_ids": "SubscriptionIdentifier",
}


def publish(client, request):
    properties = None
    if request["properties"]:
        properties = Properties(PacketTypes.PUBLISH)
        for key, value in request["properties"].items():
            if key == "user":
                for pair in value:
                    properties.UserProperty = tuple(pair)
            else:
                setattr(properties, NAMES[key], value.encode() if key == "correlation_data" else value)
    payload = bytes.fromhex(request["payload"])
    info = client.publish(request["topic"], payload, request["qos"], request["retain"], properties=properties)
    info.wait_for_publish(20)
    if not info.is_published():
        sys.exit(1)
    report("published")


def subscribe(client, request):
    flags = request["flags"]
    if not flags:
        client.subscribe(request["filter"], request["qos"])
        return
    options = SubscribeOptions(
        qos=request["qos"],
        noLocal=flags.get("no_local", False),
        retainAsPublished=flags.get("retain_as_published", False),
        retainHandling=flags.get("retain_handling", 0),
    )
    properties = None
    if "subscription_id" in flags:
        properties = Properties(PacketTypes.SUBSCRIBE)
        properties.SubscriptionIdentifier = flags["subscription_id"]
    client.subscribe(request["filter"], options=options, properties=properties)


def main():
    client = None
    for line in sys.stdin:
        request = json.loads(line)
        kind = request["request"]
        if kind == "connect":
            client = connect(request)
        elif kind == "subscribe":
            subscribe(client, request)
        elif kind == "unsubscribe":
            client.unsubscribe(request["filter"])
        elif kind == "publish":
            publish(client, request)
        elif kind == "disconnect":
            client.disconnect()
            client.loop_stop()
            return


main()
