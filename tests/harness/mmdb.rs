//! Writes small database files in MaxMind's format, version 2.0: a binary tree of the bits of IPv6 addresses, in which IPv4
//! is `::/96`, and behind it the data. Knows of countries alone.

use std::net::Ipv4Addr;

/// A network and the code of its country.
pub type Network = (Ipv4Addr, u8, &'static str);

/// The bytes of a database of these networks.
pub fn countries(networks: &[Network]) -> Vec<u8> {
    let mut tree: Vec<[Record; 2]> = vec![[Record::Empty; 2]];
    let mut data = Vec::new();
    for (base, length, code) in networks {
        let at = data.len();
        map(&mut data, 1);
        text(&mut data, "country");
        map(&mut data, 1);
        text(&mut data, "iso_code");
        text(&mut data, code);
        insert(&mut tree, *base, *length, Record::Data(at));
    }
    let nodes = tree.len();
    let mut file = Vec::new();
    for record in tree.iter().flatten() {
        let value = match record {
            Record::Empty => nodes,
            Record::Node(node) => *node,
            Record::Data(at) => nodes + SEPARATOR + at,
        };
        let value = u32::try_from(value).expect("a small tree");
        file.extend_from_slice(&value.to_be_bytes()[1..]);
    }
    file.extend_from_slice(&[0; SEPARATOR]);
    file.extend_from_slice(&data);
    file.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    metadata(&mut file, nodes);
    file
}

#[derive(Clone, Copy)]
enum Record {
    Empty,
    Node(usize),
    Data(usize),
}

fn insert(tree: &mut Vec<[Record; 2]>, base: Ipv4Addr, length: u8, leaf: Record) {
    let address = u128::from(base.to_bits());
    let depth = 96 + usize::from(length);
    let mut node = 0;
    for level in 0..depth {
        let bit = usize::from(address >> (127 - level) & 1 == 1);
        if level + 1 == depth {
            tree[node][bit] = leaf;
            return;
        }
        node = match tree[node][bit] {
            Record::Node(next) => next,
            Record::Empty | Record::Data(_) => {
                tree.push([Record::Empty; 2]);
                tree[node][bit] = Record::Node(tree.len() - 1);
                tree.len() - 1
            }
        };
    }
}

fn metadata(file: &mut Vec<u8>, nodes: usize) {
    map(file, 9);
    text(file, "binary_format_major_version");
    number(file, UINT16, 2);
    text(file, "binary_format_minor_version");
    number(file, UINT16, 0);
    text(file, "build_epoch");
    // An extended type: its number less seven follows the size.
    file.extend_from_slice(&[4, 2]);
    file.extend_from_slice(&1_700_000_000_u32.to_be_bytes());
    text(file, "database_type");
    text(file, "Test-Country");
    text(file, "description");
    map(file, 0);
    text(file, "ip_version");
    number(file, UINT16, 6);
    text(file, "languages");
    file.extend_from_slice(&[0, 4]);
    text(file, "node_count");
    number(file, UINT32, u32::try_from(nodes).expect("a small tree"));
    text(file, "record_size");
    number(file, UINT16, 24);
}

fn map(to: &mut Vec<u8>, pairs: u8) {
    to.push(7 << 5 | pairs);
}

fn text(to: &mut Vec<u8>, text: &str) {
    let length = u8::try_from(text.len()).expect("a short text");
    assert!(length < 29, "a longer text has another control byte");
    to.push(2 << 5 | length);
    to.extend_from_slice(text.as_bytes());
}

/// The least bytes that hold it.
fn number(to: &mut Vec<u8>, kind: u8, number: u32) {
    let bytes = number.to_be_bytes();
    let needed = &bytes[usize::try_from(number.leading_zeros() / 8).expect("at most four")..];
    to.push(kind << 5 | u8::try_from(needed.len()).expect("at most four"));
    to.extend_from_slice(needed);
}

const UINT16: u8 = 5;
const UINT32: u8 = 6;
/// Zeros between the tree and the data.
const SEPARATOR: usize = 16;
