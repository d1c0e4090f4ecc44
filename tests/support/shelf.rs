//! Records as a store keeps them.

use std::collections::BTreeMap;

use sense_otel::processor::record::Ledger;

/// What a store keeps of the records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shelf {
    pub records: BTreeMap<Vec<u8>, Vec<u8>>,
    pub puts: usize,
    pub bytes: usize,
}

impl Ledger for Shelf {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.puts += 1;
        self.bytes += key.len() + value.len();
        self.records.insert(key.to_vec(), value.to_vec());
    }

    fn delete(&mut self, key: &[u8]) {
        self.records.remove(key);
    }
}

impl Shelf {
    pub fn of_kind(&self, kind: u8) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
        self.records.iter().filter(move |(key, _)| key.first() == Some(&kind))
    }
}
