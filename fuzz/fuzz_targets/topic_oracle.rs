#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| damselfly_fuzz::topic_oracle::run(data));
