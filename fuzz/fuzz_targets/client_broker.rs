#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| damselfly_fuzz::client_broker::run(data));
