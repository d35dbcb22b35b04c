//! Flags of `mosquitto_pub`, `mosquitto_sub` and `mosquitto_rr` that are not there, and what to do instead.

const TLS: &str = "not supported: TLS 1.2 and 1.3 are spoken, with certificates, as --cafile, --cert and --key say";
const NOT_THERE: &str = "not supported: leave it out";

const FLAGS: [(&str, &str); 20] = [
    ("--keyform", TLS),
    ("--ciphers", TLS),
    ("--psk", TLS),
    ("--psk-identity", TLS),
    ("--tls-engine", TLS),
    ("--tls-engine-kpass-sha1", TLS),
    ("--tls-keylog", TLS),
    ("--tls-version", TLS),
    ("--proxy", "proxies are not supported: connect directly, with --host and --port"),
    ("-A", "the local address cannot be chosen: leave it out"),
    ("-S", "DNS SRV records are not looked up: give --host and --port"),
    ("-M", "give -D connect receive-maximum COUNT instead"),
    ("-o", "options are not read from a file: give them on the command line"),
    ("--options", "options are not read from a file: give them on the command line"),
    ("--nodelay", "packets are always sent without delay: leave it out"),
    ("--pretty", "give -F %j, and have the lines formatted by a tool for JSON"),
    ("--random-filter", NOT_THERE),
    ("--watch", NOT_THERE),
    ("--retain-as-published", NOT_THERE),
    ("--retain-handling", "give --no-retained for a subscription without retained messages"),
];

/// What to do without a flag that is not known, if it is one of those.
pub(crate) fn instead_of(flag: &str) -> Option<&'static str> {
    FLAGS.iter().find(|(name, _)| *name == flag).map(|(_, advice)| *advice)
}
