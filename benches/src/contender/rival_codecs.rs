//! The codecs of others, each used the way its own documentation shows.

use std::{error::Error, hint::black_box, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use damselfly_codec::Version;
use tokio_util::codec::{Decoder, Encoder as _};

use super::codec::{Codec, Decode, Encoder};

const BOTH: &[Version] = &[Version::V3_1_1, Version::V5_0];
/// A packet size that nothing here reaches.
const LARGE: usize = 256 * 1024 * 1024;

/// All of them.
pub const ALL: [Codec; 7] = [
    Codec { name: "rumqttc", versions: BOTH, decode: Decode::Buffer(rumqttc_decode), encoder: rumqttc_encoder },
    Codec { name: "rmqtt-codec", versions: BOTH, decode: Decode::Buffer(rmqtt_decode), encoder: rmqtt_encoder },
    Codec { name: "mqttbytes", versions: BOTH, decode: Decode::Buffer(mqttbytes_decode), encoder: mqttbytes_encoder },
    Codec {
        name: "mqttrs",
        versions: &[Version::V3_1_1],
        decode: Decode::Slice(mqttrs_decode),
        encoder: mqttrs_encoder,
    },
    Codec { name: "mqtt-proto", versions: BOTH, decode: Decode::Slice(proto_decode), encoder: proto_encoder },
    Codec { name: "mqtt-protocol-core", versions: BOTH, decode: Decode::Slice(core_decode), encoder: core_encoder },
    Codec { name: "mqtt5-protocol", versions: BOTH, decode: Decode::Buffer(mqtt5_decode), encoder: mqtt5_encoder },
];

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

/// Repeats `next` until the input is used up.
fn repeat<P>(input: &mut BytesMut, mut next: impl FnMut(&mut BytesMut) -> Result<P, String>) -> Result<usize, String> {
    let mut count = 0;
    while !input.is_empty() {
        black_box(&next(input)?);
        count += 1;
    }
    Ok(count)
}

/// Encodes into a buffer that is used again.
fn reusing(mut write: impl FnMut(&mut BytesMut) -> bool + 'static) -> Encoder {
    let mut out = BytesMut::with_capacity(64 * 1024);
    Box::new(move || {
        out.clear();
        if write(&mut out) { out.len() } else { 0 }
    })
}

fn rumqttc_decode(version: Version, input: &mut BytesMut) -> Result<usize, String> {
    if version == Version::V5_0 {
        repeat(input, |input| rumqttc::v5::mqttbytes::v5::Packet::read(input, None).map_err(text))
    } else {
        repeat(input, |input| rumqttc::Packet::read(input, LARGE).map_err(text))
    }
}

fn rumqttc_encoder(version: Version, frame: &[u8]) -> Result<Encoder, String> {
    let mut input = BytesMut::from(frame);
    if version == Version::V5_0 {
        let packet = rumqttc::v5::mqttbytes::v5::Packet::read(&mut input, None).map_err(text)?;
        return Ok(reusing(move |out| black_box(&packet).write(out, None).is_ok()));
    }
    let packet = rumqttc::Packet::read(&mut input, LARGE).map_err(text)?;
    Ok(reusing(move |out| black_box(&packet).write(out, LARGE).is_ok()))
}

fn rmqtt_decode(version: Version, input: &mut BytesMut) -> Result<usize, String> {
    if version == Version::V5_0 {
        let mut codec = rmqtt_codec::v5::Codec::default();
        repeat(input, |input| codec.decode(input).map_err(text)?.ok_or_else(|| "incomplete".to_owned()))
    } else {
        let mut codec = rmqtt_codec::v3::Codec::default();
        repeat(input, |input| codec.decode(input).map_err(text)?.ok_or_else(|| "incomplete".to_owned()))
    }
}

fn rmqtt_encoder(version: Version, frame: &[u8]) -> Result<Encoder, String> {
    let mut input = BytesMut::from(frame);
    if version == Version::V5_0 {
        let mut codec = rmqtt_codec::v5::Codec::default();
        let (packet, _) = codec.decode(&mut input).map_err(text)?.ok_or("incomplete")?;
        // It takes packets by value: the copy of one is part of sending it to several.
        return Ok(reusing(move |out| codec.encode(black_box(&packet).clone(), out).is_ok()));
    }
    let mut codec = rmqtt_codec::v3::Codec::default();
    let (packet, _) = codec.decode(&mut input).map_err(text)?.ok_or("incomplete")?;
    Ok(reusing(move |out| codec.encode(black_box(&packet).clone(), out).is_ok()))
}

fn mqttbytes_decode(version: Version, input: &mut BytesMut) -> Result<usize, String> {
    if version == Version::V5_0 {
        repeat(input, |input| mqttbytes::v5::read(input, LARGE).map_err(text))
    } else {
        repeat(input, |input| mqttbytes::v4::read(input, LARGE).map_err(text))
    }
}

fn mqttbytes_encoder(version: Version, frame: &[u8]) -> Result<Encoder, String> {
    let mut input = BytesMut::from(frame);
    // Its packet enum has no encoder, its packets have.
    if version == Version::V5_0 {
        return Ok(match mqttbytes::v5::read(&mut input, LARGE).map_err(text)? {
            mqttbytes::v5::Packet::Publish(publish) => reusing(move |out| black_box(&publish).write(out).is_ok()),
            mqttbytes::v5::Packet::PubAck(puback) => reusing(move |out| black_box(&puback).write(out).is_ok()),
            mqttbytes::v5::Packet::Connect(connect) => reusing(move |out| black_box(&connect).write(out).is_ok()),
            mqttbytes::v5::Packet::Subscribe(subscribe) => reusing(move |out| black_box(&subscribe).write(out).is_ok()),
            other => return Err(text(other)),
        });
    }
    Ok(match mqttbytes::v4::read(&mut input, LARGE).map_err(text)? {
        mqttbytes::v4::Packet::Publish(publish) => reusing(move |out| black_box(&publish).write(out).is_ok()),
        mqttbytes::v4::Packet::PubAck(puback) => reusing(move |out| black_box(&puback).write(out).is_ok()),
        mqttbytes::v4::Packet::Connect(connect) => reusing(move |out| black_box(&connect).write(out).is_ok()),
        mqttbytes::v4::Packet::Subscribe(subscribe) => reusing(move |out| black_box(&subscribe).write(out).is_ok()),
        other => return Err(text(other)),
    })
}

fn mqttrs_decode(_version: Version, mut input: &[u8]) -> Result<usize, String> {
    let mut count = 0;
    while !input.is_empty() {
        // Its packets borrow, but do not say how long their frame was.
        let frame = whole_frame(input)?;
        black_box(&mqttrs::decode_slice(frame).map_err(text)?.ok_or("incomplete")?);
        input = &input[frame.len()..];
        count += 1;
    }
    Ok(count)
}

fn mqttrs_encoder(_version: Version, frame: &[u8]) -> Result<Encoder, String> {
    let frame: &'static [u8] = frame.to_vec().leak();
    let packet = mqttrs::decode_slice(frame).map_err(text)?.ok_or("incomplete")?;
    let mut out = vec![0; 64 * 1024];
    Ok(Box::new(move || mqttrs::encode_slice(black_box(&packet), &mut out).unwrap_or(0)))
}

fn proto_decode(version: Version, mut input: &[u8]) -> Result<usize, String> {
    let mut count = 0;
    while !input.is_empty() {
        let frame = whole_frame(input)?;
        if version == Version::V5_0 {
            black_box(&mqtt_proto::v5::Packet::decode(frame).map_err(text)?.ok_or("incomplete")?);
        } else {
            black_box(&mqtt_proto::v3::Packet::decode(frame).map_err(text)?.ok_or("incomplete")?);
        }
        input = &input[frame.len()..];
        count += 1;
    }
    Ok(count)
}

fn proto_encoder(version: Version, frame: &[u8]) -> Result<Encoder, String> {
    if version == Version::V5_0 {
        let packet = mqtt_proto::v5::Packet::decode(frame).map_err(text)?.ok_or("incomplete")?;
        return Ok(Box::new(move || black_box(&packet).encode().map_or(0, |bytes| bytes.as_ref().len())));
    }
    let packet = mqtt_proto::v3::Packet::decode(frame).map_err(text)?.ok_or("incomplete")?;
    Ok(Box::new(move || black_box(&packet).encode().map_or(0, |bytes| bytes.as_ref().len())))
}

/// First byte and body of the frame that is all of `frame`.
fn parts(frame: &[u8]) -> Result<(u8, &[u8]), String> {
    let (&first, rest) = frame.split_first().ok_or("empty")?;
    let length = rest.iter().position(|&byte| byte < 0x80).ok_or("incomplete")?;
    Ok((first, &rest[length + 1..]))
}

fn whole_frame(input: &[u8]) -> Result<&[u8], String> {
    let mut remaining = 0;
    for (index, &byte) in input.iter().skip(1).take(4).enumerate() {
        remaining |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return input.get(..2 + index + remaining).ok_or_else(|| "incomplete".to_owned());
        }
    }
    Err("incomplete".to_owned())
}

/// The packet of a frame, of either version.
fn core_packet(version: Version, frame: &[u8]) -> Result<mqtt_protocol_core::mqtt::packet::Packet, String> {
    use mqtt_protocol_core::mqtt::packet::{v3_1_1 as old, v5_0 as new};
    let (first, body) = parts(frame)?;
    // Its connection hands the body of a PUBLISH over in an `Arc` of its own, and the others as a slice.
    Ok(match (version == Version::V5_0, first >> 4) {
        (false, 1) => old::Connect::parse(body).map_err(text)?.0.into(),
        (false, 3) => old::Publish::parse(first & 15, Arc::from(body)).map_err(text)?.0.into(),
        (false, 4) => old::Puback::parse(body).map_err(text)?.0.into(),
        (false, 5) => old::Pubrec::parse(body).map_err(text)?.0.into(),
        (false, 6) => old::Pubrel::parse(body).map_err(text)?.0.into(),
        (false, 7) => old::Pubcomp::parse(body).map_err(text)?.0.into(),
        (false, 8) => old::Subscribe::parse(body).map_err(text)?.0.into(),
        (false, 10) => old::Unsubscribe::parse(body).map_err(text)?.0.into(),
        (false, 12) => old::Pingreq::parse(body).map_err(text)?.0.into(),
        (true, 1) => new::Connect::parse(body).map_err(text)?.0.into(),
        (true, 3) => new::Publish::parse(first & 15, Arc::from(body)).map_err(text)?.0.into(),
        (true, 4) => new::Puback::parse(body).map_err(text)?.0.into(),
        (true, 5) => new::Pubrec::parse(body).map_err(text)?.0.into(),
        (true, 6) => new::Pubrel::parse(body).map_err(text)?.0.into(),
        (true, 7) => new::Pubcomp::parse(body).map_err(text)?.0.into(),
        (true, 8) => new::Subscribe::parse(body).map_err(text)?.0.into(),
        (true, 10) => new::Unsubscribe::parse(body).map_err(text)?.0.into(),
        (true, 12) => new::Pingreq::parse(body).map_err(text)?.0.into(),
        (_, other) => return Err(format!("packet type {other}")),
    })
}

fn core_decode(version: Version, mut input: &[u8]) -> Result<usize, String> {
    let mut count = 0;
    while !input.is_empty() {
        let frame = whole_frame(input)?;
        black_box(&core_packet(version, frame)?);
        input = &input[frame.len()..];
        count += 1;
    }
    Ok(count)
}

fn core_encoder(version: Version, frame: &[u8]) -> Result<Encoder, String> {
    use mqtt_protocol_core::mqtt::packet::GenericPacketTrait;
    let packet = core_packet(version, frame)?;
    Ok(Box::new(move || {
        let slices = black_box(&packet).to_buffers();
        black_box(&slices).iter().map(|slice| slice.len()).sum()
    }))
}

fn mqtt5_packet(version: Version, input: &mut Bytes) -> Result<mqtt5_protocol::Packet, Box<dyn Error>> {
    let header = mqtt5_protocol::FixedHeader::decode(input)?;
    let length = usize::try_from(header.remaining_length)?;
    if input.remaining() < length {
        return Err("incomplete".into());
    }
    let mut body = input.split_to(length);
    let level = if version == Version::V5_0 { 5 } else { 4 };
    let packet_type = header.packet_type;
    Ok(mqtt5_protocol::Packet::decode_from_body_with_version(packet_type, &header, &mut body, level)?)
}

fn mqtt5_decode(version: Version, input: &mut BytesMut) -> Result<usize, String> {
    let mut input = input.split().freeze();
    let mut count = 0;
    while !input.is_empty() {
        black_box(&mqtt5_packet(version, &mut input).map_err(text)?);
        count += 1;
    }
    Ok(count)
}

fn mqtt5_encoder(version: Version, frame: &[u8]) -> Result<Encoder, String> {
    use mqtt5_protocol::packet::MqttPacket;
    let packet = mqtt5_packet(version, &mut Bytes::copy_from_slice(frame)).map_err(text)?;
    Ok(match packet {
        mqtt5_protocol::Packet::Publish(packet) => reusing(move |out| black_box(&packet).encode(out).is_ok()),
        mqtt5_protocol::Packet::PubAck(packet) => reusing(move |out| black_box(&packet).encode(out).is_ok()),
        mqtt5_protocol::Packet::Connect(packet) => reusing(move |out| black_box(&packet).encode(out).is_ok()),
        mqtt5_protocol::Packet::Subscribe(packet) => reusing(move |out| black_box(&packet).encode(out).is_ok()),
        other => return Err(text(other)),
    })
}
