//! What counts as a citation, and as a test.

use damselfly_interop::conformance::{Citations, Id, Matrix, Shows, Side, Standing, Statement, ids, test_spans};

const TESTS: &str = "\
/// [MQTT-1.5.4-1] in production code
fn helper() {}

/// [MQTT-1.5.4-2]
#[cfg(not(miri))]
#[test]
fn first() {
    if true {
        // [MQTT-1.5.4-3]
    }
}

fn between() {} // [MQTT-1.5.5-1]

proptest! {
    #[test]
    fn second(a in 0..3) {
        // [MQTT-1.5.7-1] and MQTT-2.1.3-1 as a value
    }
}

// [MQTT-1.5.4-1]
#[tokio::test(flavor = \"current_thread\")]
async fn third() {
}
";

fn shows(citations: &Citations, id: &str) -> Vec<Shows> {
    citations.of(id).iter().map(|citation| citation.shows.clone()).collect()
}

fn test(name: &str) -> Shows {
    Shows::Test(name.to_owned())
}

#[test]
fn an_id_is_a_section_and_a_number() {
    let found = ids("see [MQTT-3.3.2-2] and\n(MQTT3-3.1.2-24), \"MQTT-4.2-1\"");
    let id = |text, in_brackets| Id { text, in_brackets };
    assert_eq!(found, [(id("MQTT-3.3.2-2", true), 1), (id("MQTT3-3.1.2-24", false), 2), (id("MQTT-4.2-1", false), 2)]);
}

#[test]
fn a_section_alone_is_no_id() {
    assert_eq!(ids("[MQTT-4.3], [MQTT-4.3.2-], MQTT-5, XMQTT-3.3.2-2, MQTT 3.1.1-"), []);
}

#[test]
fn a_test_reaches_from_its_comment_to_its_brace() {
    assert_eq!(test_spans(TESTS), [("first", 4..=11), ("second", 16..=19), ("third", 22..=25)]);
}

#[test]
fn only_what_stands_in_a_test_shows_something() {
    let mut citations = Citations::default();
    citations.add("crates/broker/src/acks.rs", TESTS);

    assert_eq!(shows(&citations, "MQTT-1.5.4-1"), [Shows::Nothing, test("third")]);
    assert_eq!(shows(&citations, "MQTT-1.5.4-2"), [test("first")]);
    assert_eq!(shows(&citations, "MQTT-1.5.4-3"), [test("first")]);
    assert_eq!(shows(&citations, "MQTT-1.5.5-1"), [Shows::Nothing]);
    assert_eq!(shows(&citations, "MQTT-1.5.7-1"), [test("second")]);
    assert_eq!(shows(&citations, "MQTT-2.1.3-1"), [Shows::Nothing], "a value is no citation");
}

#[test]
fn rows_of_vectors_show_and_their_comments_do_not() {
    let mut citations = Citations::default();
    citations.add("crates/codec/testdata/connack.tsv", "# [MQTT-1.5.4-1]\nconnack/a\t5.0\t20\tok\tMQTT-1.5.4-1\t-\n");
    citations.add("benches/data/invalid.tsv", "a\tMQTT-1.5.4-1\n");

    let rows = [Shows::Nothing, Shows::Row("connack/a".to_owned()), Shows::Nothing];
    assert_eq!(shows(&citations, "MQTT-1.5.4-1"), rows);
}

#[test]
fn conformance_cases_show_what_they_say_of_brokers() {
    let mut citations = Citations::default();
    let script = "# MQTT-1.5.4-1\ncase a/b\nabout MQTT-1.5.4-1.\nshows MQTT-1.5.4-2 MQTT-1.5.4-1\ncase c\n";
    citations.add("crates/sim/conformance/a.txt", script);

    let rows = [Shows::Nothing, Shows::Nothing, Shows::Row("a/b".to_owned())];
    assert_eq!(shows(&citations, "MQTT-1.5.4-1"), rows);
    let matrix = Matrix::new([Side::Server, Side::Client].map(|side| statement(side, "broker", "")).into(), citations);
    let standing: Vec<_> = matrix.statements().iter().map(|statement| matrix.standing(statement)).collect();
    assert_eq!(standing, [Standing::Shown, Standing::Open], "cases say nothing of clients");
}

fn statement(side: Side, area: &str, reason: &str) -> Statement {
    let [id, section, wording] = ["MQTT-1.5.4-1", "1.5.4 Text", "a | b"].map(str::to_owned);
    Statement { id, section, side, area: area.to_owned(), wording, reason: reason.to_owned() }
}

fn standing(side: Side, area: &str, reason: &str, files: &[&str]) -> Standing {
    let mut citations = Citations::default();
    for file in files {
        citations.add(file, "#[test]\nfn shown() { // [MQTT-1.5.4-1]\n}\n");
    }
    let matrix = Matrix::new(vec![statement(side, area, reason)], citations);
    matrix.standing(&matrix.statements()[0])
}

#[test]
fn a_test_shows_a_statement_at_the_end_it_binds() {
    let [broker, client] = ["crates/broker/tests/it/a.rs", "crates/client/tests/it/a.rs"];
    assert_eq!(standing(Side::Server, "broker", "", &[broker]), Standing::Shown);
    assert_eq!(standing(Side::Server, "broker", "", &[client]), Standing::Open);
    assert_eq!(standing(Side::Server, "session", "", &["crates/session/src/a.rs"]), Standing::Open, "who uses it?");
    assert_eq!(standing(Side::Client, "session", "", &[client]), Standing::Shown);
    assert_eq!(standing(Side::Both, "broker", "", &[broker]), Standing::Open, "the client is bound too");
    assert_eq!(standing(Side::Both, "broker", "", &[broker, client]), Standing::Shown);
    assert_eq!(standing(Side::Both, "broker", "no test can", &[broker]), Standing::Reasoned);
    assert_eq!(standing(Side::Client, "client", "pending: client", &[]), Standing::Pending);
}

#[test]
fn a_statement_about_bytes_needs_a_row_of_vectors() {
    assert_eq!(standing(Side::Codec, "codec", "", &["crates/codec/tests/it/a.rs"]), Standing::Open);

    let mut citations = Citations::default();
    citations.add("crates/codec/testdata/a.tsv", "row\t5.0\tMQTT-1.5.4-1\n");
    let matrix = Matrix::new(vec![statement(Side::Codec, "codec", "")], citations);
    assert_eq!(matrix.standing(&matrix.statements()[0]), Standing::Shown);
}

#[test]
fn the_document_names_functions_rows_and_reasons() {
    let mut citations = Citations::default();
    citations.add("crates/codec/tests/it/a.rs", "#[test]\nfn shown() { // [MQTT-1.5.4-1]\n}\n");
    let rows = [1, 2, 3, 4, 5].map(|n| format!("row-{n}\t5.0\tMQTT-1.5.4-1\n")).concat();
    citations.add("crates/codec/testdata/a.tsv", &rows);
    let other = Statement { id: "MQTT3-1.5.4-1".to_owned(), ..statement(Side::Client, "client", "pending: client") };
    let document = Matrix::new(vec![statement(Side::Codec, "codec", ""), other], citations).to_string();

    let functions = "[codec/a.rs:shown](../crates/codec/tests/it/a.rs)";
    let vectors = "[codec/testdata/a.tsv:row-1, row-2, row-3 and 2 more](../crates/codec/testdata/a.tsv)";
    assert!(document.contains(&format!("| MQTT-1.5.4-1 | codec | a \\| b | {functions}<br>{vectors} |")), "{document}");
    assert!(document.contains("| MQTT3-1.5.4-1 | client | a \\| b | *pending: client* |"), "{document}");
    assert!(document.contains("| 5.0 | codec | 1 | 1 | 0 | 0 |"), "{document}");
}
