//! What is promised of JSON that is walked, spliced and sampled without being parsed.

use bytes::Bytes;
use relay_protocol::{
    Endpoint, Envelope, Frame, Meter, Payload, Sample, Usage, VendorWire, Wire, tell_model, with_members,
};

use super::is_json;

/// What is taken for JSON is JSON, and stays so when it is edited; what is no JSON is refused or left alone.
pub(super) fn bodies(input: &[u8]) {
    let is_json_here = is_json(input);
    if let Ok(spliced) = with_members(input, &["model", "stream", "input"], &[("stream", "true")]) {
        assert!(is_json_here && is_json(&spliced));
        assert!(spliced.len() <= input.len() + 16);
    }
    let told = tell_model(input, "my \"own\"").apply(&Payload::new(Bytes::copy_from_slice(input)));
    assert!(!is_json_here || is_json(told.as_slice()));
    if let Ok(Frame::Create(envelope)) = Frame::read(input) {
        assert!(is_json_here && envelope.bytes == input.len());
    }
    for endpoint in [Endpoint::Embeddings, Endpoint::CountTokens, Endpoint::Compact] {
        assert!(Envelope::read(endpoint, input).is_err() || is_json_here);
    }
    let sample = Sample::across(input, 256);
    assert!(sample.len() <= 256 + 4 && sample.text().len() <= 3 * (256 + 4));
    for wire in [Wire::Responses, Wire::Chat, Wire::Messages, Wire::Gemini] {
        if let Some(usage) = Usage::read(wire, input) {
            assert!(is_json_here && usage.cached <= usage.input && usage.reasoning <= usage.output);
        }
    }
    for vendor in VendorWire::ALL {
        let mut meter = Meter::new(vendor).sampling(64);
        meter.message(input);
        assert!(
            meter.observed().produced <= input.len(),
            "{vendor:?}: {} of {}",
            meter.observed().produced,
            input.len()
        );
    }
}
