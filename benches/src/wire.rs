//! MQTT frames by hand, so that no codec under test makes the load it is measured with.

/// Appends a whole frame: first byte, Remaining Length, body.
pub fn frame(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.push(first);
    variable(out, body.len());
    out.extend_from_slice(body);
}

/// Appends a Variable Byte Integer; the values here stay below 268,435,456.
pub fn variable(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or_default();
        value >>= 7;
        out.push(if value > 0 { low | 0x80 } else { low });
        if value == 0 {
            return;
        }
    }
}

/// Appends a UTF-8 Encoded String or Binary Data; longer than 65,535 bytes is cut there.
pub fn prefixed(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&text[..usize::from(length)]);
}
