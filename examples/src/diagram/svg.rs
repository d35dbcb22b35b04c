//! As much of SVG as the pictures need.

use std::fmt::Write;

/// How something looks. The colours follow the reader's scheme, and none is the only thing that tells two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Box,
    Note,
    Faint,
    Title,
    Label,
    Small,
    QoS0,
    QoS1,
    QoS2,
    Control,
}

/// A picture under way; lengths are in pixels.
pub(super) struct Canvas {
    out: String,
}

type Point = (u32, u32);

const STYLE: &str = "<style>\n\
svg{font:13px system-ui,sans-serif;color-scheme:light dark}\n\
text{fill:#1d2733;text-anchor:middle}.left{text-anchor:start}\n\
.title{font-weight:600;font-size:14px}.label,.small{font-size:12px}\n\
.box{fill:#eef3f8;stroke:#5a6b7d}.note{fill:#fff6d8;stroke:#b99b3b}.faint{stroke:#9aa7b4;stroke-dasharray:3 4}\n\
.line{fill:none;stroke-width:1.6}.qos0{stroke:#5a6b7d}.qos1{stroke:#0b66c3}.qos2{stroke:#9c2bb5}\n\
.control{stroke:#5a6b7d;stroke-dasharray:6 3}\n\
@media(prefers-color-scheme:dark){text{fill:#dfe7ef}.box{fill:#22303d;stroke:#8fa3b5}.note{fill:#3d3620;stroke:#c9a94a}\n\
.faint{stroke:#55636f}.qos0,.control{stroke:#a9b7c4}.qos1{stroke:#6bb2ff}.qos2{stroke:#df8cf2}}\n\
</style>\n\
<defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\">\
<path d=\"M0 0L8 4L0 8z\" fill=\"context-stroke\"/></marker></defs>\n";

impl Class {
    const fn name(self) -> &'static str {
        match self {
            Self::Box => "box",
            Self::Note => "note",
            Self::Faint => "line faint",
            Self::Title => "title",
            Self::Label => "label",
            Self::Small => "small",
            Self::QoS0 => "line qos0",
            Self::QoS1 => "line qos1",
            Self::QoS2 => "line qos2",
            Self::Control => "line control",
        }
    }

    pub(super) const fn of_qos(qos: u8) -> Self {
        match qos {
            0 => Self::QoS0,
            1 => Self::QoS1,
            _ => Self::QoS2,
        }
    }

    /// By what the words say that a packet is.
    pub(super) fn of_packet(words: &str) -> Self {
        match words.split(' ').next() {
            Some("PUBACK") => Self::QoS1,
            Some("PUBREC" | "PUBREL" | "PUBCOMP") => Self::QoS2,
            Some("PUBLISH") if words.contains(" QoS 2 ") => Self::QoS2,
            Some("PUBLISH") if words.contains(" QoS 1 ") => Self::QoS1,
            Some("PUBLISH") => Self::QoS0,
            _ => Self::Control,
        }
    }
}

impl Canvas {
    /// `title` says what is to be seen to whoever cannot see it.
    pub(super) fn new(width: u32, height: u32, title: &str) -> Self {
        let title = escaped(title);
        let out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\">\n<title>{title}</title>\n{STYLE}"
        );
        Self { out }
    }

    pub(super) fn line(&mut self, from: Point, to: Point, class: Class) {
        let ((x1, y1), (x2, y2), class) = (from, to, class.name());
        self.add(format_args!("<path class=\"{class}\" d=\"M{x1} {y1}L{x2} {y2}\"/>"));
    }

    /// From left to right, bent so that lines that meet at one end can be told apart.
    pub(super) fn curve(&mut self, from: Point, to: Point, class: Class) {
        let ((x1, y1), (x2, y2), class) = (from, to, class.name());
        let middle = x1.midpoint(x2);
        self.add(format_args!("<path class=\"{class}\" d=\"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}\"/>"));
    }

    pub(super) fn arrow(&mut self, from: Point, to: Point, class: Class) {
        let ((x1, y1), (x2, y2), class) = (from, to, class.name());
        self.add(format_args!("<path class=\"{class}\" marker-end=\"url(#head)\" d=\"M{x1} {y1}L{x2} {y2}\"/>"));
    }

    pub(super) fn boxed(&mut self, at: Point, size: Point, class: Class) {
        let ((x, y), (width, height), class) = (at, size, class.name());
        self.add(format_args!(
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"5\"/>"
        ));
    }

    /// Centred at `at`.
    pub(super) fn text(&mut self, at: Point, text: &str, class: Class) {
        let ((x, y), class, text) = (at, class.name(), escaped(text));
        self.add(format_args!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>"));
    }

    /// Beginning at `at`.
    pub(super) fn text_from(&mut self, at: Point, text: &str, class: Class) {
        let ((x, y), class, text) = (at, class.name(), escaped(text));
        self.add(format_args!("<text class=\"left {class}\" x=\"{x}\" y=\"{y}\">{text}</text>"));
    }

    pub(super) fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // A String takes everything.
        let _ = writeln!(self.out, "{element}");
    }
}

/// Text that a peer may have chosen, as nothing but text; characters that XML does not allow are left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\u{FFFE}' | '\u{FFFF}' => {}
            char if char.is_control() => {}
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_stays_text() {
        assert_eq!(escaped("a<b>&\"c\"\u{1}\u{FFFF}é"), "a&lt;b&gt;&amp;&quot;c&quot;é");
    }

    #[test]
    fn a_packet_is_drawn_as_the_quality_of_service_it_belongs_to() {
        assert_eq!(Class::of_packet("PUBLISH a QoS 2 id 1, 3 bytes"), Class::QoS2);
        assert_eq!(Class::of_packet("PUBLISH a QoS 1 id 1, 3 bytes"), Class::QoS1);
        assert_eq!(Class::of_packet("PUBLISH a QoS 0, 3 bytes"), Class::QoS0);
        assert_eq!(Class::of_packet("PUBACK id 1"), Class::QoS1);
        assert_eq!(Class::of_packet("PUBCOMP id 1"), Class::QoS2);
        assert_eq!(Class::of_packet("CONNECT 5.0 as a"), Class::Control);
    }
}
