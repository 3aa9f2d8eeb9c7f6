//! Every recorded request, stream and answer through every lane, beside what was agreed on as right.
//!
//! `GOLDEN=write cargo test -p relay-protocol --test lanes golden::` writes what is there now as right; read the difference before
//! it is kept.

use std::fmt::Write as _;
use std::fs;

use relay_protocol::{Framing, VendorWire, Wire};

use crate::common::{
    Fixture, answered, as_events, asked, fixtures, has_lane, laid_out, others, streamed, taken, translator,
};
use crate::cuts::is_complete;

/// Compares what came of a fixture with the file beside it.
fn agree(fixture: &Fixture, came: &str, wrong: &mut Vec<String>) {
    let mut path = fixture.path.clone().into_os_string();
    path.push(".golden");
    if std::env::var("GOLDEN").is_ok_and(|word| word == "write") {
        fs::write(&path, came).unwrap();
    }
    let agreed = fs::read_to_string(&path).unwrap_or_default();
    if agreed != came {
        let line = agreed.lines().zip(came.lines()).position(|(a, b)| a != b);
        let line = line.unwrap_or_else(|| agreed.lines().count().min(came.lines().count()));
        let at = |text: &str| text.lines().nth(line).unwrap_or("nothing").to_owned();
        wrong.push(format!(
            "{}, line {}:\n  agreed {}\n  came   {}",
            path.to_string_lossy(),
            line + 1,
            at(&agreed),
            at(came)
        ));
    }
}

#[test]
fn every_request_is_written_for_every_vendor_as_agreed() {
    let mut wrong = Vec::new();
    for fixture in fixtures("requests") {
        let client = fixture.wire.of_clients().unwrap();
        let mut came = String::new();
        for vendor in VendorWire::ALL.into_iter().filter(|vendor| has_lane(client, *vendor)) {
            writeln!(came, "=== {}", vendor.name()).unwrap();
            match asked(client, vendor, &fixture.bytes) {
                Ok(asked) => {
                    if let Some(dropped) = asked.dropped {
                        writeln!(came, "--- dropped: {dropped}").unwrap();
                    }
                    came += &laid_out(&asked.body);
                }
                Err(refusal) => {
                    let body = refusal.render(client, "request").body;
                    writeln!(came, "--- refused: {}", String::from_utf8_lossy(&body)).unwrap();
                }
            }
        }
        agree(&fixture, &came, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_stream_is_written_for_every_client_as_agreed() {
    let mut wrong = Vec::new();
    for fixture in fixtures("streams") {
        if fixture.path.to_string_lossy().contains(".array.") {
            continue;
        }
        let events = as_events(&fixture);
        let mut came = String::new();
        for client in others(fixture.wire).filter(|client| has_lane(*client, fixture.wire)) {
            writeln!(came, "=== {}", client.name()).unwrap();
            let read = streamed(client, fixture.wire, Framing::Events, [events.as_slice()]);
            came += std::str::from_utf8(&read).unwrap();
            if client == Wire::Gemini {
                writeln!(came, "=== {}, as an array", client.name()).unwrap();
                let read = streamed(client, fixture.wire, Framing::Array, [events.as_slice()]);
                came += &laid_out(&read);
            }
        }
        agree(&fixture, &came, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_whole_answer_makes_a_whole_stream_or_the_same_refusal() {
    for fixture in fixtures("answers") {
        for client in others(fixture.wire).filter(|client| has_lane(*client, fixture.wire)) {
            let name = format!("{} for {}", fixture.path.display(), client.name());
            let told = translator(client, fixture.wire, Framing::Events);
            let told = told.at_once(fixture.bytes.clone().into(), None);
            match (told, answered(client, fixture.wire, &fixture.bytes)) {
                (Ok(told), Ok(_)) => assert!(is_complete(client, &told), "{name}"),
                (Err(told), Err(refused)) => assert_eq!(told.code, refused.code, "{name}"),
                (told, _) => panic!("{name}: only one of both is served: {}", told.is_ok()),
            }
        }
    }
    for fixture in fixtures("streams") {
        if fixture.path.to_string_lossy().contains(".array.") {
            continue;
        }
        let events = as_events(&fixture);
        for client in others(fixture.wire).filter(|client| has_lane(*client, fixture.wire)) {
            let told = translator(client, fixture.wire, Framing::Events);
            let told = told
                .at_once(events.clone().into(), None)
                .map_err(|refused| refused.code);
            let mut piecemeal = translator(client, fixture.wire, Framing::Events);
            piecemeal.push(events.clone().into(), None);
            let mut wanted = taken(&mut piecemeal);
            piecemeal.end(None);
            wanted.extend(taken(&mut piecemeal));
            assert!(told == Ok(wanted), "{} for {}", fixture.path.display(), client.name());
        }
    }
}

#[test]
fn every_whole_answer_is_written_for_every_client_as_agreed() {
    let mut wrong = Vec::new();
    for fixture in fixtures("answers") {
        let mut came = String::new();
        for client in others(fixture.wire).filter(|client| has_lane(*client, fixture.wire)) {
            writeln!(came, "=== {}", client.name()).unwrap();
            match answered(client, fixture.wire, &fixture.bytes) {
                Ok(body) => came += &laid_out(&body),
                Err(refusal) => {
                    let body = refusal.render(client, "request").body;
                    writeln!(came, "--- refused: {}", String::from_utf8_lossy(&body)).unwrap();
                }
            }
        }
        agree(&fixture, &came, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
