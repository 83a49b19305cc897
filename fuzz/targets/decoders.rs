//! What the store reads back of its own objects and records: any bytes are decoded or refused. The first byte chooses the format.
#![no_main]

use block::Manifest;
use block::needle::{Needle, NeedleIndex, Search};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use logs::store::index::BlockIndex;
use logs::store::record;
use shred::Table;

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(body);
    match choice % 5 {
        0 => {
            let Ok(index) = BlockIndex::decode(&bytes) else { return };
            for stream in &index.streams {
                let (first, last) = (stream.first(), stream.last());
                let _ = (stream.amount(first, last), stream.rows_within(first, last), stream.parts().count());
            }
        }
        1 => {
            let Ok(table) = Table::decode(body) else { return };
            let again = Table::decode(&table.encode()).expect("what was encoded can be read");
            assert_eq!(again.encode(), table.encode());
        }
        2 => {
            let Ok(index) = NeedleIndex::decode(bytes) else { return };
            let granules = index.find(&Search::new([vec![Needle::text("connection refused")]]));
            assert_eq!(granules.len(), index.len());
        }
        3 => {
            let Ok(rows) = record::decode(body) else { return };
            let again = record::decode(&record::encode(&rows)).expect("what was encoded can be read");
            assert_eq!(again.len(), rows.len());
        }
        _ => drop(serde_json::from_slice::<Manifest>(body)),
    }
});
