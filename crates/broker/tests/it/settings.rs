//! A configuration as text.

use damselfly_broker::Config;

use crate::world::qos;

#[test]
fn the_maximum_qos_is_written_as_its_number_and_read_back() {
    for level in 0..=2 {
        let mut config = Config::default();
        config.maximum_qos = qos(level);
        let written = serde_json::to_value(&config).unwrap();
        assert_eq!(written["maximum_qos"], level);
        let read: Config = serde_json::from_value(written).unwrap();
        assert_eq!(read.maximum_qos, qos(level));
    }
    let mut written = serde_json::to_value(Config::default()).unwrap();
    written["maximum_qos"] = 3.into();
    let error = serde_json::from_value::<Config>(written).unwrap_err();
    assert_eq!(error.to_string(), "maximum_qos must be 0, 1 or 2");
}
