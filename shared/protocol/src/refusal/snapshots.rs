//! Every refusal in every wire, to the byte, as `snapshots.txt` has it. With `RELAY_WRITE_DOCS` set the file is written.

use std::fmt::Write as _;
use std::path::Path;

use super::*;

const WIRES: [Wire; 4] = [Wire::Responses, Wire::Chat, Wire::Messages, Wire::Gemini];

/// With a wait and a field at fault where such a refusal has them.
fn refusal(code: Code) -> Refusal {
    let refusal = Refusal::new(code, "It failed.").hint("do this");
    match code {
        Code::InvalidRequest => refusal.param("model"),
        Code::RateLimited => refusal.retry_after(Duration::from_millis(2_500)),
        Code::UsageLimit => Refusal {
            resets_at: Some(1_795_000_000),
            ..refusal
        },
        _ => refusal,
    }
}

fn all() -> String {
    let mut all = String::new();
    for code in Code::ALL {
        let refusal = refusal(code);
        for wire in WIRES {
            let Rendered { status, headers, body } = refusal.render(wire, "req_1");
            let headers: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let event = refusal.stream_event(wire, "req_1");
            writeln!(
                all,
                "{code:?}, {wire:?}: {status}\n  {}\n  {}\n  {}",
                headers.join(", "),
                String::from_utf8_lossy(&body).trim_end(),
                String::from_utf8_lossy(&event).replace('\n', "\\n"),
            )
            .unwrap();
        }
        let frame = refusal.socket_frame("req_1");
        writeln!(
            all,
            "{code:?}, a frame of a socket\n  {}",
            String::from_utf8_lossy(&frame)
        )
        .unwrap();
    }
    all
}

#[test]
fn every_refusal_reads_in_every_wire_as_it_always_did() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/refusal/snapshots.txt");
    let now = all();
    if std::env::var_os("RELAY_WRITE_DOCS").is_some() {
        std::fs::write(&file, &now).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    for (kept, now) in kept.lines().zip(now.lines()) {
        assert_eq!(kept, now, "if it is meant, run the test with RELAY_WRITE_DOCS=1");
    }
    assert_eq!(kept.lines().count(), now.lines().count());
}
