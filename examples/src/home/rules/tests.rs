use damselfly_session::Timestamp;
use damselfly_topic::TopicName;
use proptest::prelude::*;

use super::super::value::Value;
use super::*;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(1_000 + seconds)
}

fn engine(text: &str) -> Engine {
    let mut engine = Engine::default();
    engine.set_rules(at(0), parse(text).unwrap());
    engine
}

fn say(engine: &mut Engine, seconds: u64, topic: &str, value: impl Into<Value>) -> Vec<String> {
    engine.handle_message(at(seconds), TopicName::new(topic).unwrap(), &value.into(), false);
    orders(engine)
}

fn orders(engine: &mut Engine) -> Vec<String> {
    std::iter::from_fn(|| engine.poll_order())
        .map(|order| format!("{} {} qos {}", order.topic, order.value, u8::from(order.qos)))
        .collect()
}

fn wait(engine: &mut Engine, seconds: u64) -> Vec<String> {
    while let Some(due) = engine.poll_timeout().filter(|due| *due <= at(seconds)) {
        engine.handle_timeout(due);
    }
    orders(engine)
}

const ON: Value = Value::Bool(true);
const OFF: Value = Value::Bool(false);

#[test]
fn rules_of_the_house_are_in_order() {
    let rules = parse(DEFAULT_RULES).unwrap();
    assert!(rules.len() >= 6);
    assert_eq!(
        rules[0].text,
        "when home/+/motion is true and home/garden/brightness < 150 then home/{1}/lamp/set true for 2m"
    );
}

#[test]
fn motion_in_the_dark_lights_the_lamp_of_that_room_for_a_while() {
    let mut engine = engine(DEFAULT_RULES);
    assert_eq!(say(&mut engine, 1, "home/garden/brightness", Value::Number(200.0)), [""; 0]);
    assert_eq!(say(&mut engine, 2, "home/living/motion", ON), [""; 0], "it is bright");
    assert_eq!(say(&mut engine, 3, "home/living/motion", OFF), [""; 0]);
    assert_eq!(say(&mut engine, 4, "home/garden/brightness", Value::Number(149.0)), [""; 0]);
    assert_eq!(say(&mut engine, 5, "home/living/motion", ON), ["home/living/lamp/set true qos 1"]);
    let firing = engine.poll_firing().unwrap();
    assert_eq!((firing.rule.as_str(), firing.cause.as_str()), ("evening", "home/living/motion is true"));
    assert_eq!(say(&mut engine, 6, "home/living/lamp", ON), [""; 0]);
    assert_eq!(say(&mut engine, 65, "home/living/motion", ON), [""; 0], "said again, it lasts on");
    assert_eq!(wait(&mut engine, 184), [""; 0]);
    assert_eq!(wait(&mut engine, 185), ["home/living/lamp/set false qos 1"]);
}

#[test]
fn lamp_that_somebody_lit_by_hand_stays_on() {
    let mut engine = engine("when home/+/motion is true then home/{1}/lamp/set true for 1m");
    say(&mut engine, 1, "home/living/lamp", ON);
    assert_eq!(say(&mut engine, 2, "home/living/motion", ON), [""; 0]);
    assert_eq!(wait(&mut engine, 1_000), [""; 0]);
}

#[test]
fn smoke_lights_every_lamp_unlocks_and_tells_the_phone_at_qos_2() {
    let mut engine = engine(DEFAULT_RULES);
    for topic in ["home/living/lamp", "home/bath/lamp-2", "home/living/plug"] {
        say(&mut engine, 1, topic, OFF);
    }
    say(&mut engine, 1, "home/guest/lamp", ON);
    let expected = [
        "home/living/lamp/set true qos 1",
        "home/bath/lamp-2/set true qos 1",
        "home/hall/lock/set unlocked qos 2",
        "home/phone/notify Smoke in the kitchen! qos 2",
    ];
    assert_eq!(say(&mut engine, 2, "home/kitchen/smoke", ON), expected);
}

#[test]
fn open_window_turns_the_heating_of_its_room_off_until_it_is_closed() {
    let mut engine = engine(DEFAULT_RULES);
    assert_eq!(say(&mut engine, 1, "home/office/window", Value::text("open")), ["home/office/heating/set false qos 1"]);
    assert_eq!(
        say(&mut engine, 2, "home/office/window", Value::text("closed")),
        ["home/office/heating/set 20.5 qos 1"]
    );
}

#[test]
fn when_nobody_was_home_for_15_minutes_all_is_off() {
    let mut engine = engine(DEFAULT_RULES);
    say(&mut engine, 0, "home/living/lamp", ON);
    say(&mut engine, 0, "home/office/motion", OFF);
    say(&mut engine, 0, "home/living/motion", ON);
    say(&mut engine, 5, "home/phone/presence", Value::text("away"));
    say(&mut engine, 10, "home/living/motion", OFF);
    assert_eq!(wait(&mut engine, 909), [""; 0], "a second is missing");
    let done = wait(&mut engine, 910);
    assert_eq!(done, ["home/living/lamp/set false qos 1", "home/hall/lock/set locked qos 2"]);
    // Somebody moves, and the quarter of an hour begins anew.
    say(&mut engine, 1_000, "home/living/motion", ON);
    say(&mut engine, 1_001, "home/living/motion", OFF);
    assert_eq!(wait(&mut engine, 1_900), [""; 0]);
    assert_eq!(wait(&mut engine, 1_901).len(), 2);
}

#[test]
fn what_was_retained_is_known_and_sets_nothing_off() {
    let mut engine = engine("when home/+/motion is true and home/garden/brightness < 50 then home/{1}/lamp/set true");
    engine.handle_message(at(0), TopicName::new("home/garden/brightness").unwrap(), &Value::Number(10.0), true);
    engine.handle_message(at(0), TopicName::new("home/bath/motion").unwrap(), &ON, true);
    assert_eq!(orders(&mut engine), [""; 0]);
    assert_eq!(say(&mut engine, 1, "home/living/motion", ON), ["home/living/lamp/set true qos 1"]);
}

#[test]
fn later_condition_may_be_about_the_same_room() {
    let mut engine = engine("when home/+/motion is true and home/{1}/window is open then home/{1}/plug/set true");
    say(&mut engine, 1, "home/office/window", Value::text("open"));
    assert_eq!(say(&mut engine, 2, "home/living/motion", ON), [""; 0]);
    assert_eq!(say(&mut engine, 3, "home/office/motion", ON), ["home/office/plug/set true qos 1"]);
    assert_eq!(say(&mut engine, 4, "home/living/window", Value::text("open")), ["home/living/plug/set true qos 1"]);
}

#[test]
fn new_rules_take_the_place_of_the_old_and_keep_what_is_known() {
    let mut engine = engine("a: when home/+/motion is true then home/{1}/lamp/set true for 1m");
    say(&mut engine, 1, "home/living/motion", ON);
    engine.set_rules(at(2), parse("b: when home/+/motion is true then home/{1}/plug/set true").unwrap());
    assert_eq!(wait(&mut engine, 61), ["home/living/lamp/set false qos 1"], "what was begun is ended");
    assert_eq!(say(&mut engine, 62, "home/living/motion", ON), [""; 0], "it held already");
    assert_eq!(say(&mut engine, 63, "home/bath/motion", ON), ["home/bath/plug/set true qos 1"]);
    assert_eq!(engine.rules().map(|rule| (rule.name, rule.fired)).collect::<Vec<_>>(), [("b", 1)]);
}

/// Each of the two makes the other true: what the devices answer comes back at once.
#[test]
fn rules_that_set_each_other_off_are_held_back() {
    let mut engine = engine(
        "a: when home/x/lamp is false then home/x/lamp/set true\nb: when home/x/lamp is true then home/x/lamp/set false",
    );
    engine.handle_message(at(0), TopicName::new("home/x/lamp").unwrap(), &OFF, false);
    let mut turns = 0;
    while let Some(order) = engine.poll_order() {
        engine.handle_message(at(0), TopicName::new("home/x/lamp").unwrap(), &order.value, false);
        turns += 1;
        assert!(turns < 1_000);
    }
    assert_eq!(turns, 2 * MAX_FIRINGS);
    let last = std::iter::from_fn(|| engine.poll_firing()).last().unwrap();
    assert!(last.is_held_back);
    // The window is over.
    engine.handle_message(at(9), TopicName::new("home/x/lamp").unwrap(), &ON, false);
    assert_eq!(engine.poll_order(), None);
    engine.handle_message(at(10), TopicName::new("home/x/lamp").unwrap(), &OFF, false);
    assert!(engine.poll_order().is_some());
}

#[test]
fn engine_remembers_as_many_topics_as_it_may_and_no_more() {
    let mut engine = engine("when home/+/motion is true then home/{1}/lamp/set true");
    for number in 1..MAX_TOPICS {
        say(&mut engine, 0, &format!("home/room/x{number}"), ON);
    }
    assert_eq!(say(&mut engine, 1, "home/a/motion", ON).len(), 1);
    assert_eq!(say(&mut engine, 1, "home/b/motion", ON).len(), 0);
    say(&mut engine, 2, "home/a/motion", OFF);
    assert_eq!(say(&mut engine, 3, "home/a/motion", ON).len(), 1, "a known one goes on");
}

#[test]
fn as_many_commands_wait_to_be_taken_back_as_may_and_no_more() {
    let mut engine = engine("when home/+/motion is true then home/{1}/lamp/set true for 1h");
    let count = (0..=MAX_TIMERS + 1).filter(|number| {
        // Not so many at once that the rule is held back.
        let second = u64::try_from(*number).unwrap();
        !say(&mut engine, second, &format!("home/room{number}/motion"), ON).is_empty()
    });
    assert_eq!(count.count(), MAX_TIMERS);
    assert_eq!(wait(&mut engine, 10_000).len(), MAX_TIMERS);
}

#[test]
fn mistake_is_told_with_line_column_and_what_would_be_right() {
    let cases = [
        ("when", (1, 5), "the topic of a condition is missing"),
        ("\n# x\nif home/a/b is true then home/a/c/set true", (3, 1), "begins with \"when\""),
        ("when home/a/b is then home/a/c/set true", (1, 18), "a value is missing"),
        ("when home/a/b equals true then home/a/c/set true", (1, 15), "one of: is, is not"),
        ("when home/a/b < high then home/a/c/set true", (1, 17), "only numbers"),
        ("when home/# is true then home/a/c/set true", (1, 6), "rules hear home/ROOM/DEVICE"),
        ("when home/a/+b is true then home/a/c/set true", (1, 6), "is no Topic Filter"),
        ("when home/a/b is true or home/a/c is true then home/a/c/set true", (1, 23), "\"and\" with another"),
        ("when home/a/b is true then home/a/c true", (1, 28), "rules say something to home/ROOM/DEVICE/set"),
        ("when home/a/b is true then home/{1}/c/set true", (1, 28), "has 0 +"),
        ("when home/+/b is true then home/{2}/c/set true", (1, 28), "has 1 +"),
        ("when home/+/b is true then home/{x}/c/set true", (1, 28), "such as {1}"),
        ("when home/{1}/b is true then home/a/c/set true", (1, 6), "nothing before it"),
        ("when home/+/b is true and home/{2}/c is true then home/a/c/set true", (1, 27), "has 1 +"),
        ("when home/a/b is true then home/a/c/set true for ever", (1, 50), "a time is missing"),
        ("when home/a/b is true then home/a/c/set true for 0s", (1, 50), "at least 1s"),
        ("when home/a/b is true then home/a/c/set 20 for 5m", (1, 44), "only true and false"),
        ("when home/a/b is true then home/a/c/set 20 qos 3", (1, 48), "0, 1 or 2"),
        ("when home/a/b is true then home/a/c/set 20\n  home/a/d/set 20", (2, 3), "a comma with another action"),
        ("when home/a/b is true then home/a/c/set \"x", (1, 41), "no other at its end"),
        ("  when home/a/b is true then home/a/c/set x", (1, 3), "none before it"),
        (": when home/a/b is true then home/a/c/set x", (1, 1), "name before the colon"),
        (
            "a: when home/a/b is x then home/a/c/set x\na: when home/a/b is y then home/a/c/set y",
            (2, 1),
            "another name",
        ),
    ];
    for (text, place, part) in cases {
        let error = parse(text).unwrap_err();
        assert_eq!((error.line, error.column), place, "{text}: {error}");
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
}

#[test]
fn each_limit_of_a_file_is_kept() {
    let rule = |number: usize| format!("r{number}: when home/a/b is true then home/a/c/set true\n");
    let rules = |count| (0..count).map(rule).collect::<String>();
    assert_eq!(parse(&rules(MAX_RULES)).unwrap().len(), MAX_RULES);
    assert_eq!(parse(&rules(MAX_RULES + 1)).unwrap_err().line, MAX_RULES + 1);

    let conditions = |count| vec!["home/a/b is true"; count].join(" and ");
    let actions = |count| vec!["home/a/c/set true"; count].join(", ");
    for (text, is_right) in [
        (format!("when {} then {}", conditions(MAX_PARTS), actions(MAX_PARTS)), true),
        (format!("when {} then {}", conditions(MAX_PARTS + 1), actions(1)), false),
        (format!("when {} then {}", conditions(1), actions(MAX_PARTS + 1)), false),
        (" ".repeat(MAX_FILE_BYTES), true),
        (" ".repeat(MAX_FILE_BYTES + 1), false),
        ("when home/a/b is true for 168h then home/a/c/set x".to_owned(), true),
        ("when home/a/b is true for 604801s then home/a/c/set x".to_owned(), false),
        ("when home/a/b is true for 99999999999999999999s then home/a/c/set x".to_owned(), false),
    ] {
        assert_eq!(parse(&text).is_ok(), is_right, "{text}");
    }
}

proptest! {
    /// Whatever a file holds, it is read or refused with a place in it.
    #[test]
    fn any_text_is_read_or_refused(words in prop::collection::vec(
        prop::sample::select(vec![
            "when", "and", "then", "all", "is", "not", "<", ">=", "for", "5m", "qos", "2", ",", "\"a {1}\"", "\n", "\n  ",
            "home/+/motion", "home/{1}/lamp/set", "home/a/b", "true", "20.5", "name:", "#", "\u{e9}", "{", "home/phone/notify",
        ]),
        0..24,
    )) {
        let text = words.join(" ");
        match parse(&text) {
            Ok(rules) => {
                for rule in &rules {
                    prop_assert_eq!(&parse(&rule.text).unwrap()[0].actions, &rule.actions, "{}", rule.text);
                }
            }
            Err(error) => {
                let line = text.lines().nth(error.line - 1).unwrap_or_default();
                prop_assert!(error.column >= 1 && error.column <= line.chars().count() + 1, "{error} in {text:?}");
            }
        }
    }

    /// Whatever is said, in whatever order, each timer ends and the engine comes to rest.
    #[test]
    fn engine_comes_to_rest(said in prop::collection::vec((0_usize..6, 0_u8..3, 0_u64..200), 0..40)) {
        const TOPICS: [&str; 6] = [
            "home/living/motion", "home/garden/brightness", "home/living/lamp", "home/phone/presence", "home/bath/smoke",
            "home/bath/window",
        ];
        let mut engine = engine(DEFAULT_RULES);
        let mut second = 0;
        for (topic, value, passed) in said {
            second += passed;
            let value = match value {
                0 => OFF,
                1 => ON,
                _ => Value::text("away"),
            };
            wait(&mut engine, second);
            say(&mut engine, second, TOPICS[topic], value);
            prop_assert!(engine.poll_timeout().is_none_or(|due| due > at(second)));
        }
        wait(&mut engine, second + 2_000);
        prop_assert_eq!(engine.poll_timeout(), None);
    }
}
