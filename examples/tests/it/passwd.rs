//! `mqtt passwd`: what it writes, what it leaves as it is, and what it refuses.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Output, Stdio};

use damselfly_examples::guard::Users;

use crate::support::Place;

/// Runs it with this on standard input, which is no terminal.
fn passwd(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt"));
    command.arg("passwd").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn written(arguments: &[&str], input: &str) {
    let output = passwd(arguments, input);
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

fn refused(arguments: &[&str], input: &str) -> String {
    let output = passwd(arguments, input);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Whether the file has this user with this password.
fn knows(place: &Place, name: &str, password: &str) -> bool {
    let users = Users::parse(&place.read("users")).unwrap();
    users.find(name).is_some_and(|user| user.hash.verify(password.as_bytes()))
}

#[test]
fn users_come_and_go_and_everything_else_stays() {
    let place = Place::new("passwd");
    let path = place.path("users");
    written(&[&path, "heron"], "rose bud\r\nmore\n");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(knows(&place, "heron", "rose bud"));

    fs::write(&path, format!("# kept\n\n{}# and this", place.read("users"))).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    written(&["-b", &path, "anna", "p:w"], "");
    written(&[&path, "heron"], "another");
    let text = place.read("users");
    assert!(text.starts_with("# kept\n\nheron:$argon2id$") && text.contains("\n# and this\nanna:$argon2id$"), "{text}");
    assert!(knows(&place, "anna", "p:w") && knows(&place, "heron", "another") && !knows(&place, "heron", "rose bud"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "nobody else reads it");

    written(&["-D", &path, "heron"], "");
    assert!(!place.read("users").contains("heron") && knows(&place, "anna", "p:w"));
    written(&["-c", &path, "dora"], "new");
    assert!(!place.read("users").contains("anna") && knows(&place, "dora", "new"));
    assert_eq!(place.names(), ["users"], "nothing is left beside it");
}

#[test]
fn a_link_to_the_file_stays_a_link() {
    let place = Place::new("passwd-link");
    let path = place.path("users");
    symlink(place.write("real", "# kept\n"), &path).unwrap();
    written(&["-b", &path, "heron", "rose bud"], "");
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert!(place.read("real").starts_with("# kept\nheron:"));
}

#[test]
fn what_cannot_be_is_refused_with_the_reason_and_changes_nothing() {
    let place = Place::new("passwd-refused");
    let path = place.write("users", "# mine\n");
    for (arguments, input, part) in [
        (&[path.as_str(), "a:b"][..], "secret", "cannot have a ':' in it, because a line of the file is NAME:HASH"),
        (&[&path, "a\nb"], "secret", "control characters"),
        (&[&path, ""], "secret", "name is missing"),
        (&[&path, "#a"], "secret", "comment"),
        (&[&path, "heron"], "", "no password on standard input"),
        (&[&path, "heron"], "\n", "must not be empty"),
        (&["-b", &path, "heron", ""], "", "must not be empty"),
        (&["-b", &path, "heron"], "", "PASSWORD"),
        (&[&path, "heron", "secret"], "", "-b"),
        (&["-D", &path, "heron"], "", "there is no user heron"),
        (&["-c", "-D", &path, "heron"], "", "cannot be used with"),
        (&["-U", &path], "", "-U"),
    ] {
        let text = refused(arguments, input);
        assert!(text.contains(part), "{arguments:?}: {text}");
        assert!(!text.contains("secret"), "{text}");
    }
    assert!(refused(&[&path, "heron"], &"x".repeat(65_536)).contains("more than 65535 bytes"));
    assert_eq!((place.read("users"), place.names()), ("# mine\n".to_owned(), vec!["users".to_owned()]));
    let nowhere = passwd(&["/nowhere/users", "heron"], "secret");
    assert_eq!(nowhere.status.code(), Some(1), "{nowhere:?}");
    written(&[&path, "heron"], &"x".repeat(65_535));
    assert!(knows(&place, "heron", &"x".repeat(65_535)));
}

/// What it says at a terminal when these passwords are typed, each after it was asked for.
fn at_a_terminal(place: &Place, typed: &[&str]) -> (bool, String) {
    let line = format!("'{}' passwd '{}' heron", env!("CARGO_BIN_EXE_mqtt"), place.path("users"));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut seen = Vec::new();
    let mut byte = [0];
    for (at, password) in typed.iter().enumerate() {
        while String::from_utf8_lossy(&seen).matches(": ").count() <= at {
            assert_eq!(output.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&seen));
            seen.push(byte[0]);
        }
        writeln!(input, "{password}").unwrap();
    }
    output.read_to_end(&mut seen).unwrap();
    (child.wait().unwrap().success(), String::from_utf8(seen).unwrap())
}

#[test]
fn at_a_terminal_it_asks_twice_and_shows_nothing() {
    let place = Place::new("passwd-terminal");
    let (is_written, text) = at_a_terminal(&place, &["rose bud", "rose bud"]);
    assert!(is_written && knows(&place, "heron", "rose bud"), "{text}");
    assert!(text.contains("Password: ") && text.contains("The same again: ") && !text.contains("rose"), "{text}");
    let (is_written, text) = at_a_terminal(&place, &["rose bud", "rosebud"]);
    assert!(!is_written && text.contains("the two passwords differ; nothing was changed"), "{text}");
    assert!(!text.contains("rose"), "{text}");
}
