#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ferrovs_fuzz::replay::run(data));
