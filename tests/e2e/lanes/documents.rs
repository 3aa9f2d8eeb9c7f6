//! Vendors that answer a stream with one document.

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
