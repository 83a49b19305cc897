//! Lines taken apart and put together again: the same bytes, whatever they are.
#![no_main]

use arrow_array::StringArray;
use libfuzzer_sys::fuzz_target;
use shred::{Lines, Table};

fuzz_target!(|text: &str| {
    let lines = StringArray::from_iter_values(text.split('\n'));
    let shredded = shred::shred_all(&lines);
    let table = Table::decode(&shredded.table.encode()).expect("what was encoded can be read");
    assert_eq!(table.shapes.len(), shredded.table.shapes.len());
    let again = Lines::Shredded(shredded).to_text().expect("lines were read");
    assert_eq!(again, lines);
});
