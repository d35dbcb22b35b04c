#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| damselfly_fuzz::broker_model::run(data));
