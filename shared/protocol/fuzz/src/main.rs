//! libFuzzer behind one reader, which `RELAY_FUZZ_READER` names. What the readers promise, and how an input is changed
//! without losing its form, are the tests' (`tests/lanes/fuzz`).
//!
//! `RELAY_FUZZ_LIST` asks for the names of all; `RELAY_FUZZ_SEEDS` names a folder that gets the corpus.
#![no_main]
#![allow(dead_code, reason = "the tests use more of it")]

use std::sync::LazyLock;
use std::{env, fs, path::Path, process};

use libfuzzer_sys::{Corpus, fuzz_mutator, fuzz_target, fuzzer_mutate};

#[path = "../../tests/lanes/common.rs"]
mod common;
#[path = "../../../../relay-hub/src/vendor/aws/event_stream.rs"]
mod event_stream;
#[path = "../../tests/lanes/fuzz/mod.rs"]
mod fuzz;

use self::fuzz::{Chance, Reader, changed};

static READER: LazyLock<Reader> = LazyLock::new(|| {
    let name = env::var("RELAY_FUZZ_READER").expect("RELAY_FUZZ_READER names a reader");
    let named = Reader::ALL.into_iter().find(|reader| reader.name() == name);
    named.expect("RELAY_FUZZ_LIST tells the readers")
});

/// What parts of an input are replaced from.
static OTHERS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| READER.seeds());

fuzz_target!(
    init: begin(),
    |input: &[u8]| -> Corpus {
        READER.read(input);
        Corpus::Keep
    }
);

// Half of the changes keep the form of the input, half are libFuzzer's own, which know what was compared with what.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut chance = Chance::from(u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    if chance.below(2) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let input = changed(&data[..size], &OTHERS, &mut chance);
    let len = input.len().min(max_size);
    data[..len].copy_from_slice(&input[..len]);
    len
});

fn begin() {
    if env::var_os("RELAY_FUZZ_LIST").is_some() {
        Reader::ALL.iter().for_each(|reader| println!("{}", reader.name()));
        process::exit(0);
    }
    if let Some(folder) = env::var_os("RELAY_FUZZ_SEEDS") {
        for (number, seed) in READER.seeds().iter().chain(&READER.kept()).enumerate() {
            fs::write(Path::new(&folder).join(format!("recorded-{number}")), seed).expect("the folder can be written");
        }
    }
}
