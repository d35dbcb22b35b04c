//! The file with every key, as `docs/broker.toml` has it.

use std::fmt::Write;

use super::table::{Group, TABLE};

const HEAD: &str = "\
# The settings of the broker, each with its default. Every key is a flag too: max_packet_size is --max-packet-size.
# A flag wins over the file.
#
#   broker check broker.toml       explains every mistake in it
#   broker --config broker.toml    serves with it
#
# Sizes are in bytes or strings such as \"64K\" and \"16 MiB\", in powers of 1,024; times are in seconds or strings such as
# \"500ms\", \"20s\", \"5m\", \"2h\" and \"1d\". \"none\" switches a limit off where the default may be \"none\".
";

const TAIL: &str = r#"
# A listener with settings of its own takes the place of `listen` above, and stands below all other keys, because what
# follows it belongs to it. It may have max_listener_connections, allow_anonymous, allow_origins and all of
# TLS; what it has not is as above:
#
# [[listen]]
# address = "127.0.0.1:1883"
# max_listener_connections = 100
#
# [[listen]]
# address = "ws://127.0.0.1:8083"
"#;

const WIDTH: usize = 118;

/// Every setting with its unit, its default and what a client is told.
pub(crate) fn sample() -> String {
    let mut text = HEAD.to_owned();
    let mut group: Option<Group> = None;
    for setting in TABLE {
        if group.replace(setting.group) != Some(setting.group) {
            let _ = write!(text, "\n# {}\n", setting.group.heading());
        }
        text.push('\n');
        comment(&mut text, &format!("{}. {}", setting.doc, setting.kind.unit()));
        if !setting.answer.is_empty() {
            comment(&mut text, &format!("Answer: {}.", setting.answer));
        }
        let _ = writeln!(text, "{} = {}", setting.name, setting.kind.show_in_file(&setting.default()));
    }
    text + TAIL
}

fn comment(text: &mut String, sentence: &str) {
    text.push('#');
    let mut column = 1;
    for word in sentence.split(' ') {
        if column + 1 + word.len() > WIDTH {
            text.push_str("\n#");
            column = 1;
        }
        let _ = write!(text, " {word}");
        column += 1 + word.len();
    }
    text.push('\n');
}
