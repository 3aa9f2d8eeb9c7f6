//! Events larger than what is kept of one.

use super::*;

pub(super) fn large(kind: &str, size: usize) -> String {
    format!(
        "event: {kind}\ndata: {{\"type\":\"{kind}\",\"response\":{{\"instructions\":\"{}\",\"usage\":{{\"input_tokens\":7,\"output_tokens\":2}},\"id\":\"resp_9\"}}}}\n\n",
        "\\\"usage\\\":{} ".repeat(size / 13)
    )
}

#[test]
fn a_large_event_flows_and_is_read_all_the_same() {
    for end in ["\n", "\r\n", "\r"] {
        let text = with_line_ends(
            &format!("{}{}", large("response.completed", 5 << 20), "data: [DONE]\n\n"),
            end,
        );
        for size in [1000, 16 << 10, (64 << 10) + 1, 1 << 20] {
            let seen = events(Wire::Responses, KEEP, &text, size);
            assert!(seen.bytes == text.as_bytes(), "{size}");
            assert_eq!(seen.observed.usage, usage(7, 0, 2));
            assert_eq!(seen.observed.ending, Some(Ending::Completed));
            assert_eq!(seen.observed.response_id.as_deref(), Some("resp_9"));
            let (before, len) = seen.last.unwrap();
            assert!(len <= 2, "all but the blank line was passed");
            assert_eq!(before + len, text.find("data: [DONE]").unwrap());
        }
    }
}

#[test]
fn a_large_event_after_a_byte_order_mark_is_read() {
    let large = large("response.completed", 100 << 10);
    let (_, data) = large.split_once('\n').unwrap();
    let seen = events(Wire::Responses, KEEP, &format!("\u{feff}{data}"), 1000);
    assert_eq!(seen.observed.usage, usage(7, 0, 2));
}

#[test]
fn the_blank_line_of_a_large_terminal_event_waits_wherever_it_is_cut() {
    for end in ["\n", "\r\n", "\r"] {
        let text = with_line_ends(&large("response.completed", 70 << 10), end);
        for cut in text.len() - 12..text.len() {
            let (head, tail) = text.as_bytes().split_at(cut);
            let mut tap = Tap::new(Wire::Responses, Shape::Events, KEEP);
            let (first, rest) = head.split_at(66 << 10);
            let mut passed = 0;
            for chunk in [first, rest, tail] {
                for piece in tap.push(Bytes::copy_from_slice(chunk)) {
                    let is_last = matches!(piece, Piece::Last(_));
                    assert!(!is_last || text[..passed].ends_with(end), "{end:?} {cut}");
                    passed += piece.into_bytes().len();
                }
            }
            assert_eq!(passed, text.len());
            assert_eq!(tap.observed().ending, Some(Ending::Completed));
        }
    }
}

#[test]
fn nothing_may_be_put_into_a_large_event_while_it_flows() {
    let text = large("response.output_item.done", 200 << 10);
    let mut tap = Tap::new(Wire::Responses, Shape::Events, KEEP);
    let (head, tail) = text.as_bytes().split_at(100 << 10);
    assert_eq!(tap.push(Bytes::copy_from_slice(head)).count(), 1);
    assert!(!tap.is_at_boundary());
    assert_eq!(tap.push(Bytes::copy_from_slice(tail)).count(), 1);
    assert!(tap.is_at_boundary());
    assert_eq!(tap.observed().ending, None);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut tap = Tap::new(Wire::Responses, Shape::Events, KEEP);
    let (mut given, mut passed) = (0, 0);
    for _ in 0..1000 {
        given += 7000;
        passed += tap
            .push(Bytes::from(vec![b'x'; 7000]))
            .map(|piece| piece.into_bytes().len())
            .sum::<usize>();
        assert!(given - passed <= 64 << 10);
    }
}

#[test]
fn a_large_chat_chunk_is_read_all_the_same() {
    let text = format!(
        "data: {{\"id\":\"c1\",\"choices\":[{{\"delta\":{{\"content\":\"{}\"}},\"finish_reason\":\"length\"}}],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":4}}}}\n\n",
        "x".repeat(100_000)
    );
    let seen = events(Wire::Chat, REMOVE, &text, 9000);
    assert!(seen.bytes == text.as_bytes());
    assert_eq!(seen.observed.usage, usage(3, 0, 4));
    assert_eq!(seen.observed.produced, 100_000);
    assert_eq!(
        seen.observed.ending,
        Some(Ending::Completed),
        "it was finished and ended cleanly"
    );
}
