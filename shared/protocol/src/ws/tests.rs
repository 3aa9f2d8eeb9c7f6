use proptest::prelude::*;

use super::*;

const MASK: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);
const LIMIT: usize = 2 << 20;

/// One item, in words a test can compare.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    Text(String, Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

fn said(item: Item) -> Said {
    match item {
        Item::Text { raw, text } => Said::Text(String::from_utf8(text.as_slice().to_vec()).unwrap(), raw.to_vec()),
        Item::Binary { raw } => Said::Binary(raw.to_vec()),
        Item::Control {
            opcode: Opcode::Ping,
            data,
            ..
        } => Said::Ping(data.as_slice().to_vec()),
        Item::Control {
            opcode: Opcode::Pong,
            data,
            ..
        } => Said::Pong(data.as_slice().to_vec()),
        Item::Close { code, .. } => Said::Close(code),
    }
}

fn read(bytes: &[u8], size: usize, limit: usize) -> Result<Vec<Said>, WsError> {
    let mut messages = Messages::new(limit);
    let mut items = Vec::new();
    for chunk in bytes.chunks(size) {
        items.extend(messages.push(Bytes::copy_from_slice(chunk))?.into_iter().map(said));
    }
    Ok(items)
}

/// A frame that is not what `encode_text` makes.
fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut bytes = encode_text(payload, mask).to_vec();
    bytes[0] = first;
    bytes
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    let hello = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    let parts = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
    for bytes in [&hello[..], &masked[..], &parts[..]] {
        assert_eq!(
            read(bytes, 100, LIMIT),
            Ok(vec![Said::Text("Hello".to_owned(), bytes.to_vec())])
        );
    }
    assert_eq!(encode_text(b"Hello", None), hello[..]);
    assert_eq!(encode_text(b"Hello", MASK), masked[..]);
    assert_eq!(
        read(&[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], 1, LIMIT),
        Ok(vec![Said::Ping(b"Hello".to_vec())])
    );
}

#[test]
fn control_frames_between_fragments_come_first_and_are_not_in_its_bytes() {
    let (head, tail) = (frame(0x01, "grü".as_bytes(), MASK), frame(0x80, "ß".as_bytes(), MASK));
    let ping = encode_ping(b"x", MASK);
    let bytes = [&head[..], &ping, &tail].concat();
    for size in 1..=bytes.len() {
        let items = read(&bytes, size, LIMIT).unwrap();
        assert_eq!(
            items,
            [
                Said::Ping(b"x".to_vec()),
                Said::Text("grüß".to_owned(), [&head[..], &tail].concat())
            ],
            "{size}"
        );
    }
}

#[test]
fn a_character_may_be_cut_between_fragments() {
    let text = "€".as_bytes();
    let bytes = [
        frame(0x01, &text[..1], MASK),
        frame(0x00, &text[1..2], None),
        frame(0x80, &text[2..], MASK),
    ]
    .concat();
    assert_eq!(
        read(&bytes, 3, LIMIT),
        Ok(vec![Said::Text("€".to_owned(), bytes.clone())])
    );
}

#[test]
fn a_message_in_one_frame_in_one_chunk_is_not_copied() {
    let bytes = Bytes::from([encode_text(b"abc", None), encode_text(b"def", MASK)].concat());
    let items = Messages::new(LIMIT).push(bytes.clone()).unwrap();
    let [Item::Text { raw, text }, Item::Text { raw: second, .. }] = &items[..] else {
        panic!("two messages")
    };
    assert_eq!(raw.as_ptr(), bytes.as_ptr());
    assert_eq!(text.as_slice().as_ptr() as usize, bytes.as_ptr() as usize + 2);
    assert_eq!(second.as_ptr() as usize, bytes.as_ptr() as usize + 5);
}

#[test]
fn every_length_is_written_and_read() {
    for len in [0, 1, 124, 125, 126, 127, 65_535, 65_536, 1_100_000] {
        let text = "x".repeat(len);
        for mask in [None, MASK] {
            let bytes = encode_text(text.as_bytes(), mask);
            for size in [16 << 10, usize::MAX] {
                let items = read(&bytes, size, LIMIT).unwrap();
                assert!(items == [Said::Text(text.clone(), bytes.to_vec())], "{len}");
            }
        }
    }
}

#[test]
fn what_breaks_the_protocol_is_refused_for_good() {
    let long = "x".repeat(126);
    for (bytes, error, code) in [
        (vec![0xc1, 0x00], WsError::Extension, 1002),
        (vec![0x83, 0x00], WsError::Opcode, 1002),
        (vec![0x8b, 0x00], WsError::Opcode, 1002),
        (vec![0x09, 0x00], WsError::Control, 1002),
        (frame(0x89, long.as_bytes(), None), WsError::Control, 1002),
        (vec![0x88, 0x01, 0x03], WsError::Control, 1002),
        (vec![0x80, 0x00], WsError::Order, 1002),
        (
            [frame(0x01, b"a", None), frame(0x81, b"b", None)].concat(),
            WsError::Order,
            1002,
        ),
        (vec![0x81, 0x01, 0xff], WsError::Text, 1007),
        (
            [frame(0x01, b"\xe2", None), frame(0x80, b"a", None)].concat(),
            WsError::Text,
            1007,
        ),
        (
            vec![0x81, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            WsError::TooBig { limit: LIMIT },
            1009,
        ),
    ] {
        assert_eq!(read(&bytes, 1, LIMIT), Err(error), "{bytes:?}");
        assert_eq!(error.close_code(), code);
        let mut messages = Messages::new(LIMIT);
        assert_eq!(messages.push(Bytes::from(bytes)).err(), Some(error));
        assert_eq!(messages.push(encode_text(b"a", None)).err(), Some(error));
    }
}

#[test]
fn a_message_too_large_is_refused_from_its_head_alone() {
    let limit = WsError::TooBig { limit: 100 };
    assert!(read(&encode_text(&[b'x'; 100], MASK), 7, 100).is_ok());
    assert_eq!(read(&encode_text(&[b'x'; 101], MASK)[..6], 7, 100), Err(limit));
    let parts = [
        frame(0x01, &[b'x'; 60], None),
        frame(0x80, &[b'x'; 41], None)[..2].to_vec(),
    ]
    .concat();
    assert_eq!(read(&parts, 7, 100), Err(limit));
    let drops = [frame(0x01, b"", MASK), frame(0x00, b"", MASK).repeat(10_000)].concat();
    assert_eq!(read(&drops, 500, 100), Err(limit));
    let pings = [
        frame(0x01, &[b'x'; 100], None),
        encode_ping(&[b'y'; 125], None).repeat(100),
    ]
    .concat();
    assert_eq!(
        read(&pings, 500, 100).unwrap().len(),
        100,
        "control frames do not count"
    );
}

#[test]
fn a_close_ends_it() {
    let bytes = [&encode_close(1001, "bye", MASK)[..], &encode_text(b"late", None)].concat();
    assert_eq!(read(&bytes, 4, LIMIT), Ok(vec![Said::Close(Some(1001))]));
    assert_eq!(read(&[0x88, 0x00], 1, LIMIT), Ok(vec![Said::Close(None)]));
    let long = encode_close(1000, &"ü".repeat(100), None);
    assert_eq!(long.len(), 2 + 2 + 122, "cut before half a character");
}

#[test]
fn it_knows_when_it_is_between_messages() {
    let mut messages = Messages::new(LIMIT);
    assert!(messages.is_between_messages());
    let mut feed = |bytes: &[u8]| {
        messages.push(Bytes::copy_from_slice(bytes)).unwrap();
        messages.is_between_messages()
    };
    assert!(!feed(&[0x01]));
    assert!(!feed(&[0x01, b'a']));
    assert!(!feed(&encode_pong(b"", None)));
    assert!(feed(&[0x80, 0x00]));
}

proptest! {
    #[test]
    fn however_it_is_cut_the_messages_are_the_same(
        texts in prop::collection::vec((".{0,200}", any::<Option<[u8; 4]>>(), 1_usize..5), 0..6),
        size in 1_usize..300,
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (text, mask, parts) in &texts {
            let mut raw = Vec::new();
            let len = text.len().div_ceil(*parts).max(1);
            let count = text.len().div_ceil(len).max(1);
            for at in 0..count {
                let part = &text.as_bytes()[at * len..text.len().min((at + 1) * len)];
                let opcode = u8::from(at == 0) | if at + 1 == count { 0x80 } else { 0 };
                raw.extend(frame(opcode, part, *mask));
            }
            bytes.extend_from_slice(&raw);
            expected.push(Said::Text(text.clone(), raw));
        }
        prop_assert_eq!(read(&bytes, size, LIMIT), Ok(expected));
    }

    #[test]
    fn any_bytes_give_messages_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1_usize..50) {
        let whole = read(&bytes, usize::MAX, 1000);
        let cut = read(&bytes, size, 1000);
        prop_assert_eq!(whole, cut);
    }
}
