//! Decides when to dial the hub, and how: a race of QUIC and HTTP/2, waits that grow, at once when a call waits, back
//! to QUIC by itself. A state machine without sockets, clocks or chance: all three are passed in.

use std::time::{Duration, Instant};

use super::Transport;
use crate::backoff::Backoff;

/// Which transports may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// QUIC where it works, HTTP/2 where it does not.
    #[default]
    Auto,
    /// QUIC only.
    Quic,
    /// HTTP/2 only.
    H2,
}

impl Mode {
    const fn allows(self, transport: Transport) -> bool {
        match (self, transport) {
            (Self::Auto, _) | (Self::Quic, Transport::Quic) | (Self::H2, Transport::H2) => true,
            (Self::Quic, Transport::H2) | (Self::H2, Transport::Quic) => false,
        }
    }
}

/// What to do with a connection that came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// New calls go over it, and over no other.
    Use,
    /// There is a better one: close it.
    Close,
}

/// The state of the link.
#[derive(Debug)]
pub struct Supervisor {
    mode: Mode,
    quic: Lane,
    h2: Lane,
    up: Option<(Transport, Instant)>,
    is_udp_doubtful: bool,
    returns: usize,
    begun: Instant,
    short_lives: Backoff,
}

#[derive(Debug, Default)]
struct Lane {
    backoff: Backoff,
    is_dialling: bool,
    last: Option<Instant>,
    next: Option<Instant>,
}

impl Supervisor {
    /// Nothing is up; the first dials are due at `now`.
    #[must_use]
    pub fn new(mode: Mode, now: Instant) -> Self {
        let mut this = Self {
            mode,
            quic: Lane::default(),
            h2: Lane::default(),
            up: None,
            is_udp_doubtful: false,
            returns: 0,
            begun: now,
            short_lives: Backoff::new(),
        };
        this.begin(now);
        this
    }

    /// What is up.
    #[must_use]
    pub fn up(&self) -> Option<Transport> {
        self.up.map(|(transport, _)| transport)
    }

    /// Whether something is being dialled.
    #[must_use]
    pub const fn is_dialling(&self) -> bool {
        self.quic.is_dialling || self.h2.is_dialling
    }

    /// The transports to dial now. `is_wanted`: a call waits for a connection.
    pub fn due(&mut self, now: Instant, is_wanted: bool) -> Vec<Transport> {
        let mut due = Vec::new();
        for transport in [Transport::Quic, Transport::H2] {
            if self.when(transport, is_wanted).is_some_and(|when| when <= now) {
                let lane = self.lane(transport);
                lane.is_dialling = true;
                lane.last = Some(now);
                lane.next = None;
                due.push(transport);
            }
        }
        due
    }

    /// When [`Supervisor::due`] should be asked again, if nothing happens before.
    #[must_use]
    pub fn next(&self, is_wanted: bool) -> Option<Instant> {
        [Transport::Quic, Transport::H2]
            .into_iter()
            .filter_map(|transport| self.when(transport, is_wanted))
            .min()
    }

    /// A dial succeeded.
    pub fn came_up(&mut self, transport: Transport, now: Instant) -> Verdict {
        let lane = self.lane(transport);
        lane.is_dialling = false;
        lane.backoff.reset();
        match (self.up(), transport) {
            (Some(_), Transport::H2) => return Verdict::Close,
            (None, Transport::H2) if self.mode.allows(Transport::Quic) => {
                if !self.quic.is_dialling {
                    self.come_back(now);
                }
            }
            (None, Transport::H2) => {}
            (_, Transport::Quic) => {
                self.is_udp_doubtful = false;
                self.returns = 0;
                self.quic.next = None;
            }
        }
        self.h2.next = None;
        self.up = Some((transport, now));
        Verdict::Use
    }

    /// A dial failed. `random` is uniform in `0.0..1.0`.
    pub fn failed(&mut self, transport: Transport, now: Instant, random: f64) {
        self.lane(transport).is_dialling = false;
        if transport == Transport::Quic {
            self.is_udp_doubtful = true;
        }
        if self.up.is_some() {
            if transport == Transport::Quic {
                self.come_back(now);
            }
            return;
        }
        let lane = self.lane(transport);
        lane.next = Some(now + lane.backoff.next(random));
        if transport == Transport::Quic && self.h2.next.is_some() && self.h2.last.is_none_or(|last| last < self.begun) {
            // No need to wait out the head start of one that has lost already.
            self.h2.next = Some(now);
        }
    }

    /// The connection in use takes no more calls. `is_silent`: nobody said so, it just fell silent.
    pub fn lost(&mut self, now: Instant, is_silent: bool, random: f64) {
        let Some((transport, since)) = self.up.take() else {
            return;
        };
        if transport == Transport::Quic && is_silent {
            self.is_udp_doubtful = true;
        }
        let lived = now.duration_since(since);
        if lived >= HEALTHY {
            self.short_lives.reset();
        }
        // One that is taken away again at once must not be asked for in a loop.
        let wait = if lived < SHORT_LIFE {
            self.short_lives.next(random)
        } else {
            FIRST_RETRY.mul_f64(random)
        };
        self.begin(now + wait);
    }

    /// Somebody wants a fresh connection, or the network is another one: nothing known about it holds.
    pub fn start_over(&mut self, now: Instant) {
        self.up = None;
        self.is_udp_doubtful = false;
        self.returns = 0;
        self.short_lives.reset();
        self.begin(now);
    }

    fn begin(&mut self, at: Instant) {
        self.begun = at;
        let head_start = if self.is_udp_doubtful || self.mode == Mode::H2 {
            Duration::ZERO
        } else {
            HEAD_START
        };
        self.quic.next = Some(at);
        self.h2.next = Some(at + head_start);
    }

    /// When to try QUIC again while HTTP/2 serves.
    fn come_back(&mut self, now: Instant) {
        let wait = RETURNS[self.returns.min(RETURNS.len() - 1)];
        self.returns += 1;
        self.quic.next = Some(now + wait);
    }

    fn when(&self, transport: Transport, is_wanted: bool) -> Option<Instant> {
        let lane = match transport {
            Transport::Quic => &self.quic,
            Transport::H2 => &self.h2,
        };
        if lane.is_dialling || !self.mode.allows(transport) {
            return None;
        }
        let next = lane.next?;
        match lane.last {
            // A waiting call ends the waiting, but for a pause between two tries.
            Some(last) if is_wanted && self.up.is_none() => Some(next.min(last + PAUSE)),
            Some(_) | None => Some(next),
        }
    }

    const fn lane(&mut self, transport: Transport) -> &mut Lane {
        match transport {
            Transport::Quic => &mut self.quic,
            Transport::H2 => &mut self.h2,
        }
    }
}

/// How long QUIC has to come up before HTTP/2 joins the race.
const HEAD_START: Duration = Duration::from_millis(500);
/// A connection that lived shorter counts as a failure.
const SHORT_LIFE: Duration = Duration::from_secs(5);
/// One that lived longer makes failures before it forgotten.
const HEALTHY: Duration = Duration::from_secs(60);
/// A lost connection is replaced within this.
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// Between two tries when a call waits.
const PAUSE: Duration = Duration::from_secs(1);
/// When QUIC is tried again while HTTP/2 serves.
const RETURNS: [Duration; 4] = [
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(30 * 60),
];

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Mode, Supervisor, Verdict};
    use crate::tunnel::Transport::{self, H2, Quic};

    struct Story {
        supervisor: Supervisor,
        start: Instant,
    }

    impl Story {
        fn new(mode: Mode) -> Self {
            let start = Instant::now();
            Self {
                supervisor: Supervisor::new(mode, start),
                start,
            }
        }

        fn at(&self, millis: u64) -> Instant {
            self.start + Duration::from_millis(millis)
        }

        fn due(&mut self, millis: u64) -> Vec<Transport> {
            self.supervisor.due(self.at(millis), false)
        }

        /// Milliseconds until the next thing to do.
        fn next(&self, is_wanted: bool) -> Option<u128> {
            self.supervisor
                .next(is_wanted)
                .map(|next| next.duration_since(self.start).as_millis())
        }
    }

    #[test]
    fn quic_has_a_head_start_of_half_a_second() {
        let mut story = Story::new(Mode::Auto);
        assert_eq!(story.due(0), [Quic]);
        assert_eq!(story.due(499), []);
        assert_eq!(story.due(500), [H2]);
        assert_eq!(story.supervisor.came_up(Quic, story.at(600)), Verdict::Use);
        assert_eq!(story.supervisor.came_up(H2, story.at(601)), Verdict::Close);
        assert_eq!(story.next(false), None);
    }

    #[test]
    fn when_http2_wins_quic_is_tried_again_later_and_later_and_then_used() {
        let mut story = Story::new(Mode::Auto);
        story.due(0);
        story.due(500);
        assert_eq!(story.supervisor.came_up(H2, story.at(510)), Verdict::Use);
        story.supervisor.failed(Quic, story.at(3000), 0.5);
        let mut at = 3000;
        for wait in [30, 120, 600, 1800, 1800] {
            at += wait * 1000;
            assert_eq!(story.due(at - 1), []);
            assert_eq!(story.due(at), [Quic]);
            story.supervisor.failed(Quic, story.at(at), 0.5);
        }
        at += 1_800_000;
        assert_eq!(story.due(at), [Quic]);
        assert_eq!(story.supervisor.came_up(Quic, story.at(at)), Verdict::Use);
        assert_eq!(story.supervisor.up(), Some(Quic));
    }

    #[test]
    fn when_quic_fails_at_once_http2_need_not_wait() {
        let mut story = Story::new(Mode::Auto);
        assert_eq!(story.due(0), [Quic]);
        story.supervisor.failed(Quic, story.at(5), 1.0);
        assert_eq!(story.due(5), [H2]);
    }

    #[test]
    fn a_network_that_swallowed_udp_gives_quic_no_head_start() {
        let mut story = Story::new(Mode::Auto);
        story.due(0);
        story.supervisor.came_up(Quic, story.at(10));
        story.supervisor.lost(story.at(100_000), true, 0.0);
        assert_eq!(story.due(100_000), [Quic, H2]);
    }

    #[test]
    fn a_hub_that_said_goodbye_is_dialled_again_within_a_fifth_of_a_second() {
        let mut story = Story::new(Mode::Auto);
        story.due(0);
        story.supervisor.came_up(Quic, story.at(10));
        story.supervisor.lost(story.at(100_000), false, 1.0);
        assert_eq!(story.next(false), Some(100_200));
    }

    #[test]
    fn failures_wait_longer_and_longer_unless_a_call_waits() {
        let mut story = Story::new(Mode::H2);
        assert_eq!(story.due(0), [H2]);
        story.supervisor.failed(H2, story.at(10), 1.0);
        assert_eq!(story.next(false), Some(260));
        assert_eq!(story.due(260), [H2]);
        for _ in 0..8 {
            story.supervisor.failed(H2, story.at(300), 1.0);
        }
        assert_eq!(story.next(false), Some(30_300));
        assert_eq!(story.next(true), Some(1260));
        assert_eq!(story.supervisor.due(story.at(1260), true), [H2]);
    }

    #[test]
    fn a_mode_is_kept_strictly() {
        for (mode, only) in [(Mode::Quic, Quic), (Mode::H2, H2)] {
            let mut story = Story::new(mode);
            let mut dialled = Vec::new();
            for second in 0..100 {
                let due = story.supervisor.due(story.at(second * 1000), true);
                for transport in due {
                    dialled.push(transport);
                    story.supervisor.failed(transport, story.at(second * 1000), 0.5);
                }
            }
            assert!(
                dialled.len() > 50 && dialled.iter().all(|transport| *transport == only),
                "{dialled:?}"
            );
        }
    }

    #[test]
    fn a_hub_that_hangs_up_at_once_is_not_dialled_in_a_loop() {
        let mut story = Story::new(Mode::H2);
        let (mut now, mut dials) = (0, 0);
        while now < 60_000 {
            dials += story.due(now).len();
            story.supervisor.came_up(H2, story.at(now));
            story.supervisor.lost(story.at(now + 1), false, 0.9);
            now = u64::try_from(story.next(false).unwrap()).unwrap();
        }
        assert!(dials < 12, "{dials}");
    }
}
