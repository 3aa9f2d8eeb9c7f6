//! Vendors that answer a stream with one document, or one document with a stream.

use super::*;

/// Some servers know no streams: one is made of what they answer, and the bill is the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_made_of_the_document_of_a_vendor_that_has_none() {
    for vendor in [
        VendorWire::Responses,
        VendorWire::Chat,
        VendorWire::Messages,
        VendorWire::Gemini,
    ] {
        let world = at(vendor, setup()).await;
        let ways = [
            Client::new(&format!("http://{}", world.hub.http()), &world.key),
            Client::new(&format!("http://{}", world.agent.addr()), &world.agent.key),
        ];
        world
            .vendor
            .otherwise(Script::tool_round("ls", "It is done. ").without_stream());
        let wires = [Wire::Responses, Wire::Chat, Wire::Messages, Wire::Gemini];
        let wires = wires.into_iter().filter(|wire| vendor.of_clients() != Some(*wire));
        for (wire, client) in wires.flat_map(|wire| ways.iter().map(move |client| (wire, client))) {
            let pair = format!("{wire:?} to {vendor:?}");
            let (path, body) = round(wire, true, None);
            let first = post(client, &path, body.to_string()).await;
            assert_eq!(
                (first.status.as_u16(), &first.cut),
                (200, &None),
                "{pair}: {}",
                first.text()
            );
            assert_eq!(first.headers["content-type"], "text/event-stream", "{pair}");
            let (_, call) = told(wire, &first, true);
            let call = call.unwrap_or_else(|| panic!("{pair}: {}", first.text()));
            assert_eq!(
                (call.name.as_str(), &call.arguments["cmd"]),
                ("exec_command", &json!("ls")),
                "{pair}"
            );
            let (path, body) = round(wire, true, Some(&call));
            let second = post(client, &path, body.to_string()).await;
            assert_eq!(told(wire, &second, true).0, "It is done. ", "{pair}: {}", second.text());
            let failed = json!({"error": {"message": "It broke.", "code": 500, "type": "server_error"}});
            world.vendor.next(Script::json(200, &failed));
            let third = post(client, &path, body.to_string()).await;
            assert!(
                third.status.is_server_error(),
                "{pair}: {} {}",
                third.status,
                third.text()
            );
        }
        world.assert_billed_truly().await;
        world.assert_sound().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_in_the_place_of_a_stream_passes_unchanged_to_its_own_wire_and_is_billed() {
    for vendor in [VendorWire::Responses, VendorWire::Chat, VendorWire::Messages] {
        let world = at(vendor, setup()).await;
        let wire = vendor.of_clients().unwrap();
        let ways = [
            Client::new(&format!("http://{}", world.hub.http()), &world.key),
            Client::new(&format!("http://{}", world.agent.addr()), &world.agent.key),
        ];
        for client in &ways {
            for script in [Script::message("Hello. "), Script::deltas(40, 4_000)] {
                world.vendor.next(script.without_stream());
                let (path, body) = round(wire, true, None);
                let answer = post(client, &path, body.to_string()).await;
                assert_eq!(
                    (answer.status.as_u16(), &answer.cut),
                    (200, &None),
                    "{wire:?}: {}",
                    answer.text()
                );
                let call = world.vendor.posts().pop().unwrap();
                assert!(answer.body == call.sent.bytes(), "{wire:?}: {}", answer.text());
            }
        }
        let rows = world.books().settled(4).await;
        assert!(
            rows.iter()
                .all(|row| (row.ending.as_str(), row.source.as_deref()) == ("completed", Some("reported"))),
            "{rows:#?}"
        );
        world.assert_billed_truly().await;
        world.assert_sound().await;
    }
}

/// Others stream whatever they are asked for: a client that asked for one document has one, and the bill is the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_made_of_the_stream_of_a_vendor_that_always_streams() {
    for vendor in [
        VendorWire::Chat,
        VendorWire::Messages,
        VendorWire::Gemini,
        VendorWire::Responses,
    ] {
        let world = at(vendor, setup()).await;
        let client = Client::new(&format!("http://{}", world.hub.http()), &world.key);
        let wires = [Wire::Responses, Wire::Chat, Wire::Messages, Wire::Gemini];
        for wire in wires.into_iter().filter(|wire| vendor.of_clients() != Some(*wire)) {
            let pair = format!("{wire:?} to {vendor:?}");
            let (path, body) = round(wire, false, None);
            for (stream, is_whole) in [(streamed(vendor, true), true), (streamed(vendor, false), false)] {
                world
                    .vendor
                    .next(Script::chunks("text/event-stream", vec![stream.into()]));
                let answer = post(&client, &path, body.to_string()).await;
                assert_eq!(answer.headers["content-type"], "application/json", "{pair}");
                assert_eq!(answer.status.is_success(), is_whole, "{pair}: {}", answer.text());
                if is_whole {
                    assert_eq!(told(wire, &answer, false).0, "It is done.", "{pair}: {}", answer.text());
                }
            }
        }
        let rows = world.books().settled(6).await;
        let said = rows.iter().filter_map(|row| row.usage);
        let as_said = said.filter(|usage| (usage.input, usage.cached, usage.output) == (40, 10, 9));
        assert_eq!(as_said.count(), 3, "{vendor:?}: {rows:#?}");
        world.assert_sound().await;
    }
}

/// An answer of two pieces, with its end or cut before it.
fn streamed(vendor: VendorWire, is_whole: bool) -> String {
    let pieces = ["It is ", "done."]
        .map(|text| crate::hostile::piece(vendor, text))
        .concat();
    let tail = crate::hostile::tail(vendor, crate::hostile::SOUND);
    format!(
        "{}{pieces}{}",
        crate::hostile::head(vendor),
        if is_whole { &tail } else { "" }
    )
}
