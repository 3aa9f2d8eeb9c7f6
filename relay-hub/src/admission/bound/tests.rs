use std::sync::Arc;

use relay_protocol::Endpoint;
use serde_json::{Value, json};

use super::*;
use crate::{money::Offer, price_list};

fn model() -> Model {
    let list = "[tools]\nweb_search='0.01'\n[[model]]\nname='m'\ninput='1'\noutput='10'\ncontext=200000\nmax_output=9000\n\
        [[model.service]]\ntier='flex'\ntimes='0.5'\n";
    let row = price_list::read("p", list).unwrap().remove(0);
    Model {
        name: "m".into(),
        upstream: "m".into(),
        offer: Offer::listed(Arc::new(row.price)),
        context: row.context,
        max_output: row.max_output,
    }
}

fn envelope(more: Value) -> Envelope {
    let mut body = json!({"model": "m", "input": "x".repeat(1000)});
    body.as_object_mut()
        .unwrap()
        .append(&mut more.as_object().unwrap().clone());
    Envelope::read(Endpoint::Responses, body.to_string().as_bytes()).unwrap()
}

fn bound(more: Value) -> Most {
    most(&model(), &envelope(more), Tokens::new(4000))
}

#[test]
fn text_is_bounded_by_its_bytes_and_the_output_by_what_is_asked() {
    let plain = bound(json!({}));
    assert_eq!(plain.input.get(), (envelope(json!({})).bytes as u64).div_ceil(2));
    assert_eq!(
        (plain.output, plain.tools, plain.kinds),
        (Tokens::new(4000), 0, Kinds::default())
    );
    assert_eq!(bound(json!({"max_output_tokens": 1_000_000})).output, Tokens::new(9000));
    assert_eq!(bound(json!({"max_output_tokens": 7})).output, Tokens::new(7));
}

#[test]
fn what_lies_behind_a_name_may_fill_the_context() {
    let whole = Tokens::new(200_000);
    for more in [
        json!({"previous_response_id": "resp_1"}),
        json!({"conversation": "conv_1"}),
        json!({"prompt": {"id": "pmpt_1"}}),
        json!({"input": [{"content": [{"type": "input_file", "file_url": "https://x"}]}]}),
        json!({"input": [{"type": "item_reference", "id": "i"}]}),
    ] {
        assert_eq!(bound(more.clone()).input, whole, "{more}");
    }
    let mut known = envelope(json!({"previous_response_id": "resp_1"}));
    known.behind = Some(Tokens::new(5000));
    let known = most(&model(), &known, Tokens::new(1));
    assert!(known.input > Tokens::new(5000) && known.input < Tokens::new(6000));
}

#[test]
fn pictures_and_tools_add_what_they_can_add() {
    let plain = bound(json!({})).input.get();
    let picture = bound(json!({"input": [{"content": [{"type": "input_image", "image_url": "https://x"}]}]}));
    assert!(picture.input >= PER_PICTURE && picture.kinds.image);
    let searched = bound(json!({"tools": [{"type": "web_search"}], "max_tool_calls": 3}));
    assert_eq!(searched.tools, 3);
    assert!(searched.input.get() >= plain + 30_000);
    assert_eq!(bound(json!({"tools": [{"type": "web_search"}]})).tools, TOOL_CALLS);
    assert!(bound(json!({"prompt_cache_retention": "24h"})).kinds.long_cache);
}

#[test]
fn what_has_no_price_is_refused_by_name_all_at_once() {
    let price = model().offer.price;
    for (more, told) in [
        (json!({"service_tier": "priority"}), vec!["this service tier"]),
        (
            json!({"input": [{"content": [{"type": "input_audio"}]}]}),
            vec!["sound"],
        ),
        (
            json!({"service_tier": "priority", "input": [{"content": [{"type": "input_audio"}]}]}),
            vec!["this service tier", "sound"],
        ),
    ] {
        let refused = refuse_unpriced(&price, &envelope(more)).unwrap_err();
        assert_eq!(refused.public.code, Code::InvalidRequest);
        assert!(
            told.iter().all(|part| refused.public.message.contains(part)),
            "{}",
            refused.public.message
        );
    }
    for more in [
        json!({"service_tier": "flex"}),
        json!({"service_tier": "auto"}),
        // Offered, and perhaps never called.
        json!({"tools": [{"type": "web_search"}, {"type": "file_search"}, {"type": "image_generation"}]}),
    ] {
        assert!(refuse_unpriced(&price, &envelope(more)).is_ok());
    }
}
