use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use damselfly_broker::Permission;
use damselfly_examples::broker::{Origins, TransportKind};
use serde_json::Value as Json;

use super::table::Group;
use super::*;
use crate::args::{self, Task};

/// What a file and flags come to.
fn built(text: &str, flags: &[&str]) -> Result<(Setup, Vec<Listener>), Vec<Mistake>> {
    let mut builder = Builder { file: Some("broker.toml".into()), ..Builder::default() };
    file::apply(&mut builder, text);
    let Ok(Task::Serve(of_flags, None)) = args::parse([&["broker"], flags].concat()) else { panic!("{flags:?}") };
    for (name, _) in of_flags.places {
        let setting = Setting::find(name).unwrap();
        builder.flag(setting, (setting.get)(&of_flags.setup));
    }
    builder.build()
}

fn setup(text: &str, flags: &[&str]) -> Setup {
    built(text, flags).unwrap_or_else(|mistakes| panic!("{text:?} {flags:?}: {mistakes:?}")).0
}

fn mistakes(text: &str, flags: &[&str]) -> Vec<String> {
    built(text, flags).err().unwrap_or_default().iter().map(Mistake::to_string).collect()
}

fn docs(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)).unwrap()
}

/// The fields of the core's config by their names.
fn fields(setup: &Setup) -> serde_json::Map<String, Json> {
    let Json::Object(fields) = serde_json::to_value(&setup.config).unwrap() else { panic!("a struct has fields") };
    fields
}

/// A value that is nobody's default.
fn odd(setting: &Setting) -> Value {
    match setting.default() {
        Value::Number(2) => Value::Number(1),
        Value::Number(_) => Value::Number(77),
        Value::Nothing if setting.kind == Kind::Switch => Value::Switch(true),
        Value::Nothing if setting.kind == Kind::File => Value::Word("a \"b\"/users".to_owned()),
        Value::Nothing => Value::Number(78),
        Value::Time(_) => Value::Time(Duration::from_millis(3_250)),
        Value::Switch(is_on) => Value::Switch(!is_on),
        Value::Word(_) if setting.name == "log_level" => Value::Word("debug".to_owned()),
        Value::Word(_) => Value::Word("close-legacy-publisher".to_owned()),
        Value::Texts(_) if setting.kind == Kind::Origins => Value::Texts(vec!["http://a:1".to_owned(), "*".to_owned()]),
        Value::Texts(_) => Value::Texts(vec!["a/\"b\"/#".to_owned(), "+".to_owned()]),
        Value::Listeners(_) => Value::Listeners(vec![Listen::at("127.0.0.1:0"), Listen::at("[::1]:7")]),
    }
}

/// As flags.
fn as_flags(setting: &Setting, value: &Value) -> Vec<String> {
    let one = |text: &str| format!("{}={text}", setting.flag());
    match value {
        Value::Texts(texts) => texts.iter().map(|text| one(text)).collect(),
        Value::Listeners(listeners) => listeners.iter().map(|listen| one(&listen.address)).collect(),
        value => vec![one(&setting.kind.show(value))],
    }
}

#[test]
fn without_file_and_flags_everything_is_the_default() {
    let default = setup("", &[]);
    assert_eq!(default, Setup::default());
    assert_eq!(default.config, Config::default());
    assert_eq!(default.listen, [Listen::at("127.0.0.1:1883")]);
    assert_eq!(default.differences(), [""; 0]);
}

#[test]
fn each_key_and_each_flag_sets_what_has_its_name_and_nothing_else() {
    let default = Setup::default();
    for setting in TABLE {
        let odd = odd(setting);
        let in_file = format!("{} = {}", setting.name, setting.kind.show_in_file(&odd));
        let flags = as_flags(setting, &odd);
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        for (text, flags) in [(in_file.as_str(), &[][..]), ("", &flags)] {
            let set = setup(text, flags);
            assert_eq!((setting.get)(&set), odd, "{text} {flags:?}");
            // What `max_packet_size` bounds follows it.
            let is_own = |name: &str| {
                name == setting.name || (setting.name, name) == ("max_packet_size", "max_connect_packet_size")
            };
            assert!(set.differences().iter().all(|name| is_own(name)), "{text} {flags:?}: {:?}", set.differences());
            let others = fields(&default);
            for (name, value) in fields(&set) {
                assert_eq!(others.get(&name) != Some(&value), is_own(&name), "{text} {flags:?}: {name}");
            }
        }
    }
}

#[test]
fn flags_win_over_the_file() {
    for setting in TABLE {
        let default = setting.default();
        let text = format!("{} = {}", setting.name, setting.kind.show_in_file(&odd(setting)));
        let flags = as_flags(setting, &default);
        if flags.is_empty() {
            continue;
        }
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let set = setup(&text, &flags);
        assert_eq!((setting.get)(&set), default, "{text} {flags:?}");
    }
    let set = setup("refused_topics = ['a', 'b']", &["--refused-topics", "c", "--refused-topics=d"]);
    assert_eq!(set.refused_topics, ["c", "d"], "a list takes the place of the whole list");
    assert!(setup("", &["--demo"]).demo);
    assert!(!setup("demo = true", &["--demo=false"]).demo);
    let none = setup("max_session_expiry = 3", &["--max-session-expiry", "none"]);
    assert_eq!(none.config.max_session_expiry, None);
}

#[test]
fn the_sample_is_in_the_docs_names_every_key_and_says_the_defaults() {
    let text = docs("broker.toml");
    assert!(text == sample(), "docs/broker.toml is out of date: cargo run --bin broker sample > docs/broker.toml");
    assert_eq!(setup(&text, &[]), Setup::default());
    let mut builder = Builder::default();
    file::apply(&mut builder, &text);
    assert_eq!(builder.places.len(), TABLE.len());
    assert!(text.lines().all(|line| line.len() <= 120));

    let (_, end) = text.split_once("# [[listen]]").unwrap();
    let end = format!("[[listen]]{end}").replace("# ", "").replace('#', "");
    let (setup, listeners) = built(&end, &[]).unwrap();
    assert_eq!(setup.listen[0].own, [("max_listener_connections", Value::Number(100))]);
    assert_eq!(
        listeners.iter().map(|listener| listener.listening.kind).collect::<Vec<_>>(),
        [TransportKind::Tcp, TransportKind::WebSocket]
    );
}

/// The rows of the broker's table in `docs/limits.md`: name, default, and what clients are told.
fn limits() -> Vec<(String, String, String)> {
    let docs = docs("limits.md");
    let of_broker = docs.lines().take_while(|line| *line != "## The client core");
    let rows = of_broker.filter(|line| line.starts_with("| `"));
    let cell = |cells: &[&str], n: usize| cells[n].trim().trim_matches('`').to_owned();
    rows.map(|row| row.split('|').collect::<Vec<_>>())
        .map(|cells| (cell(&cells, 1), cell(&cells, 3), format!("{} {}", cells[4], cells[5])))
        .collect()
}

/// Reason Codes and return codes.
fn codes(text: &str) -> BTreeSet<&str> {
    let is_code = |part: &&str| part.len() == 4 && part.starts_with("0x");
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter(is_code).collect()
}

#[test]
fn each_limit_of_the_docs_is_a_key_with_that_default_and_those_answers() {
    // Brokers joined to others are not what this program does.
    let rows: Vec<_> = limits().into_iter().filter(|(name, ..)| name != "announce_interest").collect();
    for (name, default, answers) in &rows {
        let setting = Setting::find(name).unwrap_or_else(|| panic!("{name} is no key"));
        let default = default.split(';').next().unwrap().replace(',', "");
        assert_eq!(setting.parse(&default), Ok(setting.default()), "{name}");
        assert_eq!(codes(setting.answer), codes(answers), "{name}");
    }
    let limits =
        TABLE.iter().filter(|setting| matches!(setting.group, Group::Limits | Group::Features | Group::Logins));
    assert_eq!(rows.len(), limits.count());
}

#[test]
fn all_mistakes_are_told_at_once_with_line_key_what_is_wrong_and_what_would_be_right() {
    let text = "\
max_packet_szie = 1
max_inflight = \"12\"
max_queued_bytes = \"lots\"
connect_timeout = 0
retain_available = \"yes\"
maximum_qos = 3
log_level = \"loud\"
max_keep_alive = 70000
max_topic_levels = 129
max_transmit_bytes = \"4G\"
max_keep_alives = 12
refused_topics = [
  \"a/#\",
  \"a/#/b\",
  7,
]
max_sessions = -1
max_memory = \"none\"
pause_limit = \"2 weeks\"
when_full = 1
limits.max_inflight = 12
";
    let expected = [
        "1: max_packet_szie: there is no such key; the nearest is max_packet_size",
        "2: max_inflight = \"12\": it must be a whole number (messages)",
        "3: max_queued_bytes = \"lots\": it must be a size, which is a whole number of bytes, or of K, M or G: 4096, 64K, 16 MiB",
        "4: connect_timeout must not be 0",
        "5: retain_available = \"yes\": it must be true or false",
        "6: maximum_qos = 3: it must be at most 2",
        "7: log_level = \"loud\": it must be one of off, error, warn, info, debug, trace",
        "8: max_keep_alive = 70000: it must be at most 65535",
        "9: max_topic_levels must be at most 128",
        "10: max_transmit_bytes = \"4G\": it must be less than 4G",
        "11: max_keep_alives: there is no such key; the nearest is max_keep_alive",
        "14: refused_topics: \"a/#/b\" is none of the Topic Filters, with + for a whole level and # at the end only: a/b, +/b, a/#",
        "15: refused_topics: 7 is none of the Topic Filters, with + for a whole level and # at the end only: a/b, +/b, a/#",
        "17: max_sessions = -1: it must be a whole number (sessions)",
        "18: max_memory = \"none\": it must be a size, which is a whole number of bytes, or of K, M or G: 4096, 64K, 16 MiB",
        "19: pause_limit = \"2 weeks\": it must be a time, which is a number of seconds, or has a unit: 20, 0.5, 500ms, 20s, 5m, 2h, 1d",
        "20: when_full = 1: it must be one of drop-newest, drop-oldest, close-legacy-publisher",
        "21: limits: there is no such key; the nearest is listen",
    ];
    assert_eq!(mistakes(text, &[]), expected.map(|line| format!("broker.toml:{line}")));
}

#[test]
fn listeners_have_settings_of_their_own_and_mistakes_in_them_are_told() {
    let text = "\
max_listener_connections = 5
[[listen]]
address = \"127.0.0.1:0\"
max_listener_connections = 3
[[listen]]
address = \"127.0.0.1:1\"
[[listen]]
address = \"127.0.0.1:2\"
max_listener_connections = \"none\"
";
    let (_, listeners) = built(text, &[]).unwrap();
    assert_eq!(
        listeners.iter().map(|listener| listener.listening.max_connections).collect::<Vec<_>>(),
        [Some(3), Some(5), None]
    );
    let (_, listeners) = built(text, &["--listen", "127.0.0.1:9", "--max-listener-connections", "4"]).unwrap();
    assert_eq!(
        listeners
            .iter()
            .map(|l| (l.listening.address.tcp().unwrap().port(), l.listening.max_connections))
            .collect::<Vec<_>>(),
        [(9, Some(4))]
    );

    let text = "\
[[listen]]
adress = \"127.0.0.1:0\"
[[listen]]
address = \"nowhere\"
max_inflight = 3
max_listener_connection = 3
[[listen]]
address = 1883
max_listener_connections = \"few\"
[[listen]]
address = \"0.0.0.0:0\"
";
    let expected = [
        "1: [[listen]]: address is missing, such as address = \"127.0.0.1:1883\"",
        "2: adress: there is no such key; the nearest is address",
        "4: listen nowhere: the port is missing. Give an address and a port, such as 127.0.0.1:1883 or ws://127.0.0.1:8083",
        "5: max_inflight does not belong to a listener: it must stand above the first [[listen]]",
        "6: max_listener_connection: there is no such key; the nearest is max_listener_connections",
        "8: address = 1883: it must be text such as \"127.0.0.1:1883\"",
        "9: max_listener_connections = \"few\": it must be a whole number (connections)",
        "11: listen 0.0.0.0:0: whoever reaches 0.0.0.0:0 could connect without a password. Name users with \
         --password-file (in a file: password_file), of which mqtt passwd FILE USER makes one; add --allow-anonymous \
         (allow_anonymous = true) if that is what you want; or listen on 127.0.0.1",
    ];
    assert_eq!(mistakes(text, &[]), expected.map(|line| format!("broker.toml:{line}")));
    let text = "listen = ['0.0.0.0:0']";
    assert_eq!(mistakes(text, &["--allow-anonymous"]), [""; 0], "what a flag permits is no mistake of the file");
    assert_eq!(mistakes("\nlisten = []", &[]).len(), 1);
    assert_eq!(mistakes("listen = '127.0.0.1:1'", &[]).len(), 1);
}

#[test]
fn an_address_says_how_its_listener_is_spoken_to() {
    let text = "listen = ['127.0.0.1:1', 'mqtt://127.0.0.1:2', 'ws://127.0.0.1:3', 'ws://[::1]:4/mqtt']";
    let (_, listeners) = built(text, &[]).unwrap();
    let (tcp, websocket) = (TransportKind::Tcp, TransportKind::WebSocket);
    let found =
        listeners.iter().map(|listener| (listener.listening.address.tcp().unwrap().port(), listener.listening.kind));
    assert_eq!(found.collect::<Vec<_>>(), [(1, tcp), (2, tcp), (3, websocket), (4, websocket)]);

    for (address, what) in [
        (
            "http://127.0.0.1:1",
            "this broker does not speak that. Give ADDRESS:PORT or mqtt://ADDRESS:PORT for TCP, ws://",
        ),
        ("wss://127.0.0.1:1", "TLS needs a certificate and its key"),
        ("unix://", "a path of the socket has to follow"),
        ("ws://127.0.0.1:1/", "MQTT over WebSocket is served at the path /mqtt and no other"),
        ("127.0.0.1:1/mqtt", "MQTT over WebSocket is served at the path /mqtt and no other"),
        ("ws://127.0.0.1/mqtt", "the port is missing"),
        ("ws://0.0.0.0:1", "whoever reaches 0.0.0.0:1 could connect"),
    ] {
        let found = mistakes(&format!("listen = ['{address}']"), &[]);
        let [mistake] = &found[..] else { panic!("{found:?}") };
        assert!(mistake.starts_with(&format!("broker.toml:1: listen {address}: {what}")), "{mistake}");
    }
}

#[test]
fn what_is_no_toml_is_told_with_its_line_beside_other_mistakes() {
    let found = mistakes("max_retained = 6\nmax_inflight = 3\nmax_inflight = 4\nmax_sessions 5\n", &[]);
    assert!(found.iter().any(|line| line.starts_with("broker.toml:3: this is not TOML: ")), "{found:#?}");
    assert!(found.iter().any(|line| line.starts_with("broker.toml:4: this is not TOML: ")), "{found:#?}");
    assert!(found.iter().any(|line| line.starts_with("broker.toml:1: max_retained: ")), "{found:#?}");
}

#[test]
fn the_nearest_key_is_found_whatever_the_name() {
    for (name, nearest) in [
        ("max-packet-size", "max_packet_size"),
        ("Max_Packet_Size", "max_packet_size"),
        ("maximum_packet_size", "max_packet_size"),
        ("allow_anonymus", "allow_anonymous"),
        ("max_keepalive", "max_keep_alive"),
        ("loglevel", "log_level"),
        ("listener", "listen"),
        ("max_qos", "maximum_qos"),
    ] {
        assert_eq!(Setting::nearest(name), nearest, "{name}");
    }
}

#[test]
fn a_connect_is_as_large_as_other_packets_unless_its_own_size_is_given() {
    assert_eq!(setup("max_packet_size = 1000", &[]).config.max_connect_packet_size, 1000);
    let own = setup("max_packet_size = 1000\nmax_connect_packet_size = 2000", &[]);
    assert_eq!(own.config.max_connect_packet_size, 2000);
    assert_eq!(
        mistakes("max_packet_size = 63", &["--max-topic-levels=0"]),
        ["--max-topic-levels must not be 0", "broker.toml:1: max_packet_size must be at least 64",]
    );
}

#[test]
fn refused_topics_and_filters_become_access_rules() {
    use damselfly_topic::{TopicFilter, TopicName};

    let access = |text| Policy::load(&setup(text, &[]).sources()).unwrap().access(None, "client");
    assert_eq!(access(""), None);
    let access = access("refused_topics = ['a/+']\nrefused_filters = ['b/#']").unwrap();
    let publish = |topic| access.publish(TopicName::new(topic).unwrap());
    let subscribe = |filter| access.subscribe(TopicFilter::new(filter).unwrap());
    assert_eq!(
        [publish("a/1"), publish("a/1/2"), publish("b/1")],
        [Permission::Deny, Permission::Allow, Permission::Allow]
    );
    assert_eq!(
        [subscribe("a/1"), subscribe("b"), subscribe("#")],
        [Permission::Allow, Permission::Deny, Permission::Deny]
    );
}

/// A file beside the target, removed when dropped.
struct Beside(std::path::PathBuf);

impl Beside {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("damselfly-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn mistakes_in_the_files_that_a_file_names_are_told_with_their_own_lines() {
    let users = Beside::new("users", "\nanna:sesame\nheron\n");
    let rules = Beside::new("rules", "topic reads a\n");
    let text = format!(
        "password_file = {users:?}\naccess_file = {rules:?}\nmax_inflight = 0\n",
        users = users.0.file_name().unwrap(),
        rules = rules.0.file_name().unwrap(),
    );
    let settings = Beside::new("settings", &text);
    let mut builder = Builder::default();
    builder.read(settings.0.to_str().unwrap());
    let found: Vec<_> = builder.build_with_policy().unwrap_err().iter().map(Mistake::to_string).collect();
    let expected = [
        (&settings, ":3: max_inflight must not be 0"),
        (&users, ":2: user anna: this is no hash of a password"),
        (&users, ":3: there is no ':' in this line"),
        (&rules, ":1: reads is none of read, write, readwrite and deny"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (line, (file, part)) in found.iter().zip(expected) {
        assert!(line.starts_with(&format!("{}{part}", file.0.display())), "{line}");
        assert!(!line.contains("sesame"), "{line}");
    }
}

#[test]
fn files_that_are_not_there_and_rules_for_nobody_are_mistakes() {
    let rules = Beside::new("nobodys-rules", "topic a\nuser heron\n");
    let of = |text: &str| {
        let mut builder = Builder { file: Some("/nowhere/broker.toml".into()), ..Builder::default() };
        file::apply(&mut builder, text);
        builder.build_with_policy().unwrap_err().iter().map(Mistake::to_string).collect::<Vec<_>>()
    };
    let [missing] = &of("\npassword_file = 'users'")[..] else { panic!() };
    let expected = "/nowhere/broker.toml:2: password_file /nowhere/users: the file cannot be read";
    assert!(missing.starts_with(expected), "{missing}");
    let [nobody] = &of(&format!("access_file = {:?}", rules.0))[..] else { panic!() };
    assert!(nobody.contains(":2: this line is about users") && nobody.contains("password_file"), "{nobody}");
}

#[test]
fn users_open_the_listeners_to_other_machines_and_a_delay_must_end_in_time() {
    let everywhere = "listen = ['0.0.0.0:0']\n";
    for (text, is_right, lets_in_anonymous) in [
        ("", false, true),
        ("allow_anonymous = true", true, true),
        ("allow_anonymous = false", true, false),
        ("password_file = 'users'", true, false),
        ("password_file = 'users'\nallow_anonymous = true", true, true),
        ("password_file = 'users'\nallow_anonymous = false", true, false),
    ] {
        assert_eq!(mistakes(&format!("{everywhere}{text}"), &[]).is_empty(), is_right, "{text}");
        assert_eq!(setup(text, &[]).lets_in_anonymous(), lets_in_anonymous, "{text}");
    }
    let expected = "broker.toml:2: max_failed_login_delay must be less than question_timeout";
    assert_eq!(mistakes("\nmax_failed_login_delay = '10s'", &[]), [expected]);
    assert_eq!(mistakes("max_failed_login_delay = '9.9s'", &[]), [""; 0]);
    assert_eq!(setup("question_timeout = '5s'", &[]).logins().max_failed_login_delay.as_millis(), 4_500);
}

#[test]
fn a_listener_may_have_its_own_settings_and_a_mistake_in_it_has_its_line() {
    let text = "\
max_listener_connections = 3
allow_origins = ['http://a']
[[listen]]
address = '127.0.0.1:1'
[[listen]]
address = 'ws://0.0.0.0:2'
max_listener_connections = 'none'
allow_origins = ['*']
allow_anonymous = true
";
    let (_, listeners) = built(text, &[]).unwrap();
    let [one, two] = &listeners[..] else { panic!("{listeners:?}") };
    assert_eq!([one.listening.max_connections, two.listening.max_connections], [Some(3), None]);
    assert_eq!(one.listening.origins, Origins::allowing(["http://a".parse().unwrap()]));
    assert_eq!(two.listening.origins, Origins::allowing(["*".parse().unwrap()]));
    assert_eq!([one.allows_anonymous, two.allows_anonymous], [true, true]);

    let text = "\
[[listen]]
address = 'mqtts://127.0.0.1:1'
certificate = ['one.pem', 'two.pem']
key = 'one.key'
[[listen]]
address = 'mqtts://127.0.0.1:2'
certificate = '/not/there.pem'
key = '/not/there.key'
crl = 7
certificat = 'x'
max_sessions = 7
";
    let found = mistakes(text, &[]);
    for expected in [
        "broker.toml:2: listen mqtts://127.0.0.1:1: there are 2 files in certificate and 1 in key",
        "broker.toml:6: listen mqtts://127.0.0.1:2: /not/there.pem: it cannot be read",
        "broker.toml:9: crl = 7: it must be the path of a file, or a list of such",
        "broker.toml:10: certificat: there is no such key; the nearest is certificate",
        "broker.toml:11: max_sessions does not belong to a listener",
    ] {
        assert!(found.iter().any(|mistake| mistake.starts_with(expected)), "{expected}: {found:#?}");
    }
}

#[test]
fn names_of_certificates_are_names_that_rules_may_speak_of() {
    let has_names = |text| setup(text, &[]).sources().has_other_names;
    assert!(!has_names(""));
    assert!(has_names("certificate_as_user_name = true"));
    assert!(has_names("[[listen]]\naddress = '127.0.0.1:0'\ncertificate_as_user_name = true"));
}

#[test]
fn who_has_no_name_stays_outside_as_soon_as_passwords_or_certificates_give_names() {
    for (text, lets_in) in [
        ("", true),
        ("client_ca = 'ca.pem'", true),
        ("password_file = 'users'", false),
        ("certificate_as_user_name = true", false),
        ("certificate_as_user_name = true\nallow_anonymous = true", true),
    ] {
        let setup = setup(text, &[]);
        assert_eq!(setup.lets_in_anonymous(), lets_in, "{text}");
        // Then it may be reached by all too.
        assert_eq!(setup.may_be_reached_by_all(), !text.is_empty() && !text.starts_with("client_ca"), "{text}");
    }
}
