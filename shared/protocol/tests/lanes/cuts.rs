//! A stream says the same wherever the network cut it, and a stream that is cut short never looks complete.

use proptest::prelude::*;
use relay_protocol::{Framing, VendorWire, Wire};

use crate::common::{as_events, fixtures, has_lane, others, streamed};

/// What a client takes for the end of an answer that is whole.
pub(crate) fn is_complete(client: Wire, read: &[u8]) -> bool {
    let text = String::from_utf8_lossy(read);
    match client {
        Wire::Responses => text.contains("event: response.completed") || text.contains("event: response.incomplete"),
        Wire::Chat => text.contains("data: [DONE]") && !text.contains("\"error\""),
        Wire::Messages => text.contains("event: message_stop"),
        Wire::Gemini => text.contains("\"finishReason\""),
    }
}

/// Where a vendor says that its answer ends: before this byte it is not whole.
fn end_of(vendor: VendorWire, events: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(events).unwrap();
    let words: &[&str] = match vendor {
        VendorWire::Responses => &["event: response.completed", "event: response.incomplete"],
        VendorWire::Chat => &["\"finish_reason\":\""],
        VendorWire::Messages => &["event: message_stop"],
        VendorWire::Gemini => &["\"finishReason\":", "\"blockReason\":"],
        VendorWire::Converse => &["\"messageStop\":"],
    };
    words.iter().filter_map(|word| text.find(word)).min()
}

#[test]
fn every_stream_says_the_same_byte_by_byte() {
    for fixture in fixtures("streams") {
        if fixture.path.to_string_lossy().contains(".array.") {
            continue;
        }
        let events = as_events(&fixture);
        for client in others(fixture.wire).filter(|client| has_lane(*client, fixture.wire)) {
            let whole = streamed(client, fixture.wire, Framing::Events, [events.as_slice()]);
            let bytes = streamed(client, fixture.wire, Framing::Events, events.chunks(1));
            assert!(whole == bytes, "{} for {}", fixture.path.display(), client.name());
        }
    }
}

#[test]
fn a_stream_with_tools_says_the_same_wherever_it_is_cut() {
    for fixture in fixtures("streams").iter().filter(|fixture| fixture.name == "tools") {
        let Some(client) = others(fixture.wire).find(|client| has_lane(*client, fixture.wire)) else {
            continue;
        };
        let events = as_events(fixture);
        if fixture.path.to_string_lossy().contains(".array.") {
            continue;
        }
        let whole = streamed(client, fixture.wire, Framing::Events, [events.as_slice()]);
        for cut in 0..events.len() {
            let (before, after) = events.split_at(cut);
            let read = streamed(client, fixture.wire, Framing::Events, [before, after]);
            assert!(read == whole, "{} cut at {cut}", fixture.path.display());
        }
    }
}

#[test]
fn a_stream_that_is_cut_short_never_looks_complete() {
    for fixture in fixtures("streams") {
        if fixture.path.to_string_lossy().contains(".array.") {
            continue;
        }
        let events = as_events(&fixture);
        let end = end_of(fixture.wire, &events).unwrap_or(events.len());
        for client in others(fixture.wire).filter(|client| has_lane(*client, fixture.wire)) {
            for cut in (0..end).step_by(7).chain([end]) {
                let read = streamed(client, fixture.wire, Framing::Events, [&events[..cut]]);
                assert!(
                    !is_complete(client, &read),
                    "{} for {}, cut at {cut}",
                    fixture.path.display(),
                    client.name()
                );
                assert!(!read.is_empty());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_stream_says_the_same_in_any_pieces(
        which in any::<prop::sample::Index>(),
        sizes in prop::collection::vec(1..400_usize, 1..20),
    ) {
        let fixtures: Vec<_> = fixtures("streams")
            .into_iter()
            .filter(|fixture| !fixture.path.to_string_lossy().contains(".array."))
            .collect();
        let fixture = which.get(&fixtures);
        let events = as_events(fixture);
        let mut chunks = Vec::new();
        let mut rest = events.as_slice();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at(rest.len().min(*size));
            chunks.push(chunk);
            rest = after;
        }
        for client in others(fixture.wire).filter(|client| has_lane(*client, fixture.wire)) {
            let whole = streamed(client, fixture.wire, Framing::Events, [events.as_slice()]);
            let read = streamed(client, fixture.wire, Framing::Events, chunks.iter().copied());
            prop_assert!(read == whole, "{} for {}", fixture.path.display(), client.name());
        }
    }
}
