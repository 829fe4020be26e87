#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pyexecd::fuzzing::run_directory::check(input));
