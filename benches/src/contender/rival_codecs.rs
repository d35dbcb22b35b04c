//! The codecs of others, each used the way its own documentation shows.

use std::{hint::black_box, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use damselfly_codec::Version;
use tokio_util::codec::{Decoder, Encoder as _};

use super::codec::{Codec, Decode, Encode, Encoder, Prepare, decode_all, reusing};

const BOTH: &[Version] = &[Version::V3_1_1, Version::V5_0];
/// A packet size that nothing here reaches.
const LARGE: usize = 256 * 1024 * 1024;

/// All of them.
pub const ALL: [Codec; 7] = [
    codec("rumqttc", BOTH, Decode::Buffer(rumqttc_decode), rumqttc_encoder),
    codec("rmqtt-codec", BOTH, Decode::Buffer(rmqtt_decode), rmqtt_encoder),
    codec("mqttbytes", BOTH, Decode::Buffer(mqttbytes_decode), mqttbytes_encoder),
    codec("mqttrs", &[Version::V3_1_1], Decode::Slice(mqttrs_decode), mqttrs_encoder),
    codec("mqtt-proto", BOTH, Decode::Slice(proto_decode), proto_encoder),
    codec("mqtt-protocol-core", BOTH, Decode::Slice(core_decode), core_encoder),
    codec("mqtt5-protocol", BOTH, Decode::Buffer(mqtt5_decode), mqtt5_encoder),
];

const fn codec(name: &'static str, versions: &'static [Version], decode: Decode, encoder: Prepare) -> Codec {
    Codec { name, versions, decode, encoder, forwarder: None }
}

fn text(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}

/// Encodes into memory that the codec asks for each time, or in a way that gives only the length.
struct Fresh<P, F, G> {
    packet: P,
    measure: F,
    write: G,
}

impl<P, F: FnMut(&P) -> usize, G: FnMut(&P) -> Vec<u8>> Encode for Fresh<P, F, G> {
    fn run(&mut self) -> usize {
        (self.measure)(black_box(&self.packet))
    }

    fn written(&mut self) -> Vec<u8> {
        (self.write)(&self.packet)
    }
}

fn fresh<P: 'static>(
    packet: P,
    measure: impl FnMut(&P) -> usize + 'static,
    write: impl FnMut(&P) -> Vec<u8> + 'static,
) -> Encoder {
    Box::new(Fresh { packet, measure, write })
}

fn buffer() -> BytesMut {
    BytesMut::with_capacity(64 * 1024)
}

fn rumqttc_decode(version: Version, input: &mut BytesMut) -> Result<usize, String> {
    if version == Version::V5_0 {
        decode_all!(input, rumqttc::v5::mqttbytes::v5::Packet::read(input, None), Ok(packet) => packet)
    } else {
        decode_all!(input, rumqttc::Packet::read(input, LARGE), Ok(packet) => packet)
    }
}

fn rumqttc_encoder(version: Version, frame: &[u8]) -> Result<Encoder, String> {
    let mut input = BytesMut::from(frame);
    if version == Version::V5_0 {
        let packet = rumqttc::v5::mqttbytes::v5::Packet::read(&mut input, None).map_err(text)?;
        return Ok(reusing(packet, buffer(), |packet, out| packet.write(out, None).is_ok()));
    }
    let packet = rumqttc::Packet::read(&mut input, LARGE).map_err(text)?;
    Ok(reusing(packet, buffer(), |packet, out| packet.write(out, LARGE).is_ok()))
}

fn rmqtt_decode(version: Version, input: &mut BytesMut) -> Result<usize, String> {
    if version == Version::V5_0 {
        let mut codec = rmqtt_codec::v5::Codec::default();
        decode_all!(input, codec.decode(input), Ok(Some(packet)) => packet)
    } else {
        let mut codec = rmqtt_codec::v3::Codec::default();
        decode_all!(input, codec.decode(input), Ok(Some(packet)) => packet)
    }
}

fn rmqtt_encoder(version: Version, frame: &[u8]) -> Result<Encoder, String> {
    let mut input = BytesMut::from(frame);
    if version == Version::V5_0 {
        let mut codec = rmqtt_codec::v5::Codec::default();
        let (packet, _) = codec.decode(&mut input).map_err(text)?.ok_or("incomplete")?;
        // It takes packets by value: the copy of one is part of sending it to several.
        return Ok(reusing(packet, buffer(), move |packet, out| codec.encode(packet.clone(), out).is_ok()));
    }
    let mut codec = rmqtt_codec::v3::Codec::default();
    let (packet, _) = codec.decode(&mut input).map_err(text)?.ok_or("incomplete")?;
    Ok(reusing(packet, buffer(), move |packet, out| codec.encode(packet.clone(), out).is_ok()))
}

fn mqttbytes_decode(version: Version, input: &mut BytesMut) -> Result<usize, String> {
    if version == Version::V5_0 {
        decode_all!(input, mqttbytes::v5::read(input, LARGE), Ok(packet) => packet)
    } else {
        decode_all!(input, mqttbytes::v4::read(input, LARGE), Ok(packet) => packet)
    }
}

fn mqttbytes_encoder(version: Version, frame: &[u8]) -> Result<Encoder, String> {
    let mut input = BytesMut::from(frame);
    // Its packet enum has no encoder, its packets have.
    if version == Version::V5_0 {
        return Ok(match mqttbytes::v5::read(&mut input, LARGE).map_err(text)? {
            mqttbytes::v5::Packet::Publish(publish) => {
                reusing(publish, buffer(), |packet, out| packet.write(out).is_ok())
            }
            mqttbytes::v5::Packet::PubAck(puback) => reusing(puback, buffer(), |packet, out| packet.write(out).is_ok()),
            mqttbytes::v5::Packet::Connect(connect) => {
                reusing(connect, buffer(), |packet, out| packet.write(out).is_ok())
            }
            mqttbytes::v5::Packet::Subscribe(subscribe) => {
                reusing(subscribe, buffer(), |packet, out| packet.write(out).is_ok())
            }
            other => return Err(text(other)),
        });
    }
    Ok(match mqttbytes::v4::read(&mut input, LARGE).map_err(text)? {
        mqttbytes::v4::Packet::Publish(publish) => reusing(publish, buffer(), |packet, out| packet.write(out).is_ok()),
        mqttbytes::v4::Packet::PubAck(puback) => reusing(puback, buffer(), |packet, out| packet.write(out).is_ok()),
        mqttbytes::v4::Packet::Connect(connect) => reusing(connect, buffer(), |packet, out| packet.write(out).is_ok()),
        mqttbytes::v4::Packet::Subscribe(subscribe) => {
            reusing(subscribe, buffer(), |packet, out| packet.write(out).is_ok())
        }
        other => return Err(text(other)),
    })
}

fn mqttrs_decode(_version: Version, mut input: &[u8]) -> Result<usize, String> {
    decode_all!(
        input,
        {
            // Its packets borrow, but do not say how long their frame was.
            let (_, frame, _) = take_frame(&mut input).ok_or("incomplete")?;
            mqttrs::decode_slice(frame)
        },
        Ok(Some(packet)) => packet
    )
}

fn mqttrs_encoder(_version: Version, frame: &[u8]) -> Result<Encoder, String> {
    let frame: &'static [u8] = frame.to_vec().leak();
    let packet = mqttrs::decode_slice(frame).map_err(text)?.ok_or("incomplete")?;
    let mut out = vec![0; 64 * 1024];
    let write = |packet: &mqttrs::Packet<'static>| {
        let mut out = vec![0; 64 * 1024];
        let length = mqttrs::encode_slice(packet, &mut out).unwrap_or(0);
        out.truncate(length);
        out
    };
    Ok(fresh(packet, move |packet| mqttrs::encode_slice(packet, &mut out).unwrap_or(0), write))
}

fn proto_decode(version: Version, mut input: &[u8]) -> Result<usize, String> {
    if version == Version::V5_0 {
        decode_all!(
            input,
            {
                let (_, frame, _) = take_frame(&mut input).ok_or("incomplete")?;
                mqtt_proto::v5::Packet::decode(frame)
            },
            Ok(Some(packet)) => packet
        )
    } else {
        decode_all!(
            input,
            {
                let (_, frame, _) = take_frame(&mut input).ok_or("incomplete")?;
                mqtt_proto::v3::Packet::decode(frame)
            },
            Ok(Some(packet)) => packet
        )
    }
}

fn proto_encoder(version: Version, frame: &[u8]) -> Result<Encoder, String> {
    if version == Version::V5_0 {
        let packet = mqtt_proto::v5::Packet::decode(frame).map_err(text)?.ok_or("incomplete")?;
        return Ok(fresh(
            packet,
            |packet| packet.encode().map_or(0, |bytes| bytes.as_ref().len()),
            |packet| packet.encode().map_or_else(|_| Vec::new(), |bytes| bytes.as_ref().to_vec()),
        ));
    }
    let packet = mqtt_proto::v3::Packet::decode(frame).map_err(text)?.ok_or("incomplete")?;
    Ok(fresh(
        packet,
        |packet| packet.encode().map_or(0, |bytes| bytes.as_ref().len()),
        |packet| packet.encode().map_or_else(|_| Vec::new(), |bytes| bytes.as_ref().to_vec()),
    ))
}

/// Takes one frame off the input for a codec that leaves this to its caller: first byte, frame, body.
#[inline]
fn take_frame<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8], &'a [u8])> {
    let (&first, behind) = input.split_first()?;
    let (mut remaining, mut header) = (0, 1);
    for &byte in behind.iter().take(4) {
        remaining |= usize::from(byte & 0x7f) << (7 * (header - 1));
        header += 1;
        if byte < 0x80 {
            let (frame, behind) = input.split_at_checked(header + remaining)?;
            *input = behind;
            return Some((first, frame, &frame[header..]));
        }
    }
    None
}

/// The packet of a frame, of either version.
#[inline]
fn core_packet(
    version: Version,
    first: u8,
    body: &[u8],
) -> Result<mqtt_protocol_core::mqtt::packet::Packet, mqtt_protocol_core::mqtt::result_code::MqttError> {
    use mqtt_protocol_core::mqtt::packet::{v3_1_1 as old, v5_0 as new};
    // Its connection hands the body of a PUBLISH over in an `Arc` of its own, and the others as a slice.
    Ok(match (version == Version::V5_0, first >> 4) {
        (false, 1) => old::Connect::parse(body)?.0.into(),
        (false, 3) => old::Publish::parse(first & 15, Arc::from(body))?.0.into(),
        (false, 4) => old::Puback::parse(body)?.0.into(),
        (false, 5) => old::Pubrec::parse(body)?.0.into(),
        (false, 6) => old::Pubrel::parse(body)?.0.into(),
        (false, 7) => old::Pubcomp::parse(body)?.0.into(),
        (false, 8) => old::Subscribe::parse(body)?.0.into(),
        (false, 10) => old::Unsubscribe::parse(body)?.0.into(),
        (false, 12) => old::Pingreq::parse(body)?.0.into(),
        (true, 1) => new::Connect::parse(body)?.0.into(),
        (true, 3) => new::Publish::parse(first & 15, Arc::from(body))?.0.into(),
        (true, 4) => new::Puback::parse(body)?.0.into(),
        (true, 5) => new::Pubrec::parse(body)?.0.into(),
        (true, 6) => new::Pubrel::parse(body)?.0.into(),
        (true, 7) => new::Pubcomp::parse(body)?.0.into(),
        (true, 8) => new::Subscribe::parse(body)?.0.into(),
        (true, 10) => new::Unsubscribe::parse(body)?.0.into(),
        (true, 12) => new::Pingreq::parse(body)?.0.into(),
        _ => return Err(mqtt_protocol_core::mqtt::result_code::MqttError::MalformedPacket),
    })
}

fn core_decode(version: Version, mut input: &[u8]) -> Result<usize, String> {
    decode_all!(
        input,
        {
            let (first, _, body) = take_frame(&mut input).ok_or("incomplete")?;
            core_packet(version, first, body)
        },
        Ok(packet) => packet
    )
}

fn core_encoder(version: Version, mut frame: &[u8]) -> Result<Encoder, String> {
    use mqtt_protocol_core::mqtt::packet::GenericPacketTrait;
    let (first, _, body) = take_frame(&mut frame).ok_or("incomplete")?;
    let packet = core_packet(version, first, body).map_err(text)?;
    Ok(fresh(
        packet,
        |packet| {
            let slices = packet.to_buffers();
            black_box(&slices).iter().map(|slice| slice.len()).sum()
        },
        |packet| packet.to_buffers().iter().flat_map(|slice| slice.to_vec()).collect(),
    ))
}

#[inline]
fn mqtt5_packet(version: Version, input: &mut Bytes) -> mqtt5_protocol::Result<mqtt5_protocol::Packet> {
    let header = mqtt5_protocol::FixedHeader::decode(input)?;
    let length = usize::try_from(header.remaining_length).unwrap_or(usize::MAX);
    if input.remaining() < length {
        return Err(mqtt5_protocol::MqttError::MalformedPacket("incomplete".to_owned()));
    }
    let mut body = input.split_to(length);
    let level = if version == Version::V5_0 { 5 } else { 4 };
    mqtt5_protocol::Packet::decode_from_body_with_version(header.packet_type, &header, &mut body, level)
}

fn mqtt5_decode(version: Version, input: &mut BytesMut) -> Result<usize, String> {
    let mut input = input.split().freeze();
    decode_all!(input, mqtt5_packet(version, &mut input), Ok(packet) => packet)
}

fn mqtt5_encoder(version: Version, frame: &[u8]) -> Result<Encoder, String> {
    use mqtt5_protocol::packet::MqttPacket;
    let packet = mqtt5_packet(version, &mut Bytes::copy_from_slice(frame)).map_err(text)?;
    Ok(match packet {
        mqtt5_protocol::Packet::Publish(packet) => reusing(packet, buffer(), |packet, out| packet.encode(out).is_ok()),
        mqtt5_protocol::Packet::PubAck(packet) => reusing(packet, buffer(), |packet, out| packet.encode(out).is_ok()),
        mqtt5_protocol::Packet::Connect(packet) => reusing(packet, buffer(), |packet, out| packet.encode(out).is_ok()),
        mqtt5_protocol::Packet::Subscribe(packet) => {
            reusing(packet, buffer(), |packet, out| packet.encode(out).is_ok())
        }
        other => return Err(text(other)),
    })
}
