use std::thread;

use relay_protocol::Code;
use tempfile::TempDir;

use super::{
    super::{
        Ending,
        tests::{row, wish},
    },
    *,
};

/// An inbox without a writer, and a tenant with 1,000,000.
struct Rig {
    inbox: Arc<Inbox>,
    tenant: TenantId,
    _dir: TempDir,
}

fn rig() -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let (mut book, tenant) = (Book::default(), TenantId::random());
    book.learn(tenant.clone(), Nanos::new(1_000_000));
    let flight = Flight::begin(&dir.path().join("flight"), 1).unwrap();
    Rig {
        inbox: Arc::new(Inbox::new(book, flight)),
        tenant,
        _dir: dir,
    }
}

impl Rig {
    fn reserve(&self) -> Reserve {
        wish(&self.tenant, 1)
    }

    fn grant(&self) -> Arc<Facts> {
        self.inbox.grant(self.reserve()).unwrap()
    }

    fn ask(&self) -> bool {
        let (reply, _asking) = oneshot::channel();
        self.inbox.push(Op::Ask(Box::new(Wish::Hold(self.reserve(), reply))))
    }

    fn settle(&self, facts: Arc<Facts>) -> bool {
        self.inbox.push(Op::Settle(Settle {
            facts,
            charge: Nanos::ZERO,
            row: None,
            reply: None,
        }))
    }

    /// Whether a writer that would sleep for a minute is up long before that, once `act` is done.
    fn wakes(&self, act: impl FnOnce()) -> bool {
        self.ends_early(|inbox| inbox.wait(LONG), act)
    }

    /// The same of one that waits for more to share its commit.
    fn has_enough(&self, act: impl FnOnce()) -> bool {
        self.ends_early(|inbox| inbox.gather(Instant::now() + LONG), act)
    }

    fn ends_early(&self, sleep: fn(&Inbox), act: impl FnOnce()) -> bool {
        let inbox = self.inbox.clone();
        let writer = thread::spawn(move || {
            let began = Instant::now();
            sleep(&inbox);
            began.elapsed()
        });
        while self.inbox.desk().asleep_until.is_none() {
            assert!(!writer.is_finished(), "it does not sleep");
            thread::yield_now();
        }
        act();
        writer.join().unwrap() < LONG / 2
    }
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_batch_waits_for_the_calls_that_are_open_and_for_no_others() {
    let rig = rig();
    let soon = || {
        let began = Instant::now();
        rig.inbox.gather(began + LONG);
        began.elapsed() < LONG / 2
    };
    let calls = [rig.grant(), rig.grant(), rig.grant()];
    assert!(soon(), "nothing waits to be written");
    assert!(rig.settle(calls[0].clone()));
    rig.inbox.gather(Instant::now());
    assert!(rig.has_enough(|| {
        assert!(rig.settle(calls[1].clone()));
        assert!(rig.inbox.desk().asleep_until.is_some(), "one is missing");
        assert!(rig.settle(calls[2].clone()));
    }));
    assert!(soon(), "all are in");
    assert_eq!(rig.inbox.take(9).len(), 3);
    // One that has been open for longer is waited for by nobody.
    let _stream = rig.grant();
    thread::sleep(UNWRITTEN_FOR);
    assert_eq!(rig.inbox.take(9).len(), 1, "its hold");
    let call = rig.grant();
    assert!(rig.settle(call));
    assert!(soon(), "a stream is open");
    assert_eq!(rig.inbox.take(9).len(), 1);
    // What was gathered for is forgotten with it.
    let _open = [rig.grant(), rig.grant()];
    assert!(rig.wakes(|| assert!(rig.ask())));
}

#[test]
fn whoever_brings_something_wakes_the_writer() {
    let rig = rig();
    assert!(rig.wakes(|| assert!(rig.ask())));
    assert_eq!((rig.inbox.queued(), rig.inbox.take(9).len()), (1, 1));
    assert!(rig.wakes(|| rig.inbox.ring()));
    let facts = rig.grant();
    rig.inbox.extend(&facts, Nanos::new(1)).unwrap();
    assert_eq!(rig.inbox.take(9).len(), 2, "the hold, and what it has more");
    assert!(rig.wakes(|| rig.inbox.extend(&facts, Nanos::new(1)).unwrap()));
    assert_eq!(rig.inbox.take(9).len(), 1);
}

#[test]
fn a_hold_that_nobody_waits_for_is_due_after_a_moment() {
    let rig = rig();
    drop(rig.grant());
    let began = Instant::now();
    while rig.inbox.take(9).is_empty() {
        // As the writer does: it sleeps until then at most.
        rig.inbox.wait(Duration::from_secs(60));
    }
    assert!(began.elapsed() < Duration::from_secs(30));
    // Not before: a hold that is settled at once is written once. A slow machine may be late to ask.
    let is_not_due = (0..100).any(|_| {
        drop(rig.grant());
        let is_empty = rig.inbox.take(9).is_empty();
        thread::sleep(UNWRITTEN_FOR);
        rig.inbox.take(9);
        is_empty
    });
    assert!(is_not_due);
}

#[test]
fn a_hold_is_queued_once() {
    let rig = rig();
    let facts = rig.grant();
    assert!(rig.inbox.hasten(&facts) && rig.inbox.hasten(&facts));
    rig.settle(facts);
    thread::sleep(UNWRITTEN_FOR);
    assert_eq!(rig.inbox.take(9).len(), 1, "settled, it needs not be opened");
}

#[test]
fn what_landed_leaves_its_place_to_another() {
    let rig = rig();
    let first = rig.grant();
    assert!(rig.inbox.hasten(&first));
    // The number that has the same place.
    while rig.inbox.book(Book::number) < first.id + 8 * 1024 - 1 {}
    let second = rig.grant();
    assert!(!rig.inbox.hasten(&second), "it is taken");
    let is_second = |op: &Op| matches!(op, Op::Open(facts) if facts.id == second.id);
    assert!(rig.inbox.take(9).iter().any(is_second));
    rig.inbox.landed(&second);
    assert!(!rig.inbox.hasten(&second), "who had none gives none back");
    rig.inbox.landed(&first);
    assert!(rig.inbox.hasten(&second));
}

#[test]
fn as_many_wishes_wait_as_find_a_place_and_one_goes_when_one_is_taken() {
    let rig = rig();
    assert!((0..MOST_WISHES).all(|_| rig.ask()));
    assert!(!rig.ask());
    assert!(rig.settle(rig.grant()), "a settlement always has a place");
    assert_eq!(rig.inbox.take(1).len(), 1);
    assert!(rig.ask() && !rig.ask());
    rig.inbox.refuse_waiting();
    assert_eq!(rig.inbox.queued(), 1, "the settlement stays");
    assert!((0..MOST_WISHES).all(|_| rig.ask()) && !rig.ask());
}

#[test]
fn as_many_notes_wait_as_find_a_place_and_the_others_are_counted() {
    let rig = rig();
    let note = row(&rig.reserve(), Ending::Refused(Code::RateLimited));
    let tell = || rig.inbox.push(Op::Note(Box::new(note.clone())));
    assert!((0..MOST_NOTES).all(|_| tell()));
    assert!(!tell() && !tell());
    assert_eq!((rig.inbox.queued(), rig.inbox.dropped()), (MOST_NOTES, 2));
    rig.inbox.take(1);
    assert!(tell() && !tell());
}

#[test]
fn a_wish_whose_caller_left_is_known() {
    let rig = rig();
    let ((hold, held), (more, extended)) = (oneshot::channel(), oneshot::channel());
    let wishes = [
        Wish::Hold(rig.reserve(), hold),
        Wish::More(rig.grant(), Nanos::new(1), more),
    ];
    assert!(
        wishes
            .iter()
            .all(|wish| !wish.is_forgotten() && wish.tenant() == &rig.tenant)
    );
    drop((held, extended));
    assert!(wishes.iter().all(Wish::is_forgotten));
}

#[test]
fn what_is_put_back_goes_first_and_keeps_its_place() {
    let rig = rig();
    assert!((0..MOST_WISHES).all(|_| rig.ask()));
    let taken = rig.inbox.take(2);
    rig.inbox.put_back(taken);
    assert!(!rig.ask());
    rig.inbox.take(MOST_WISHES);
    let (first, second) = (rig.grant(), rig.grant());
    assert!(rig.settle(first.clone()) && rig.settle(second));
    let both = rig.inbox.take(2);
    assert!(rig.ask());
    rig.inbox.put_back(both);
    let order = rig.inbox.take(9);
    assert!(matches!(&order[..], [Op::Settle(one), Op::Settle(_), Op::Ask(_)] if one.facts.id == first.id));
}

#[test]
fn the_queue_ends_when_it_is_empty_and_nothing_is_open() {
    let rig = rig();
    let facts = rig.grant();
    rig.inbox.take(9);
    assert!(!rig.inbox.close_if_empty(), "a hold is open");
    rig.inbox.book(|book| book.close(facts.reserve.call));
    assert!(rig.ask());
    assert!(!rig.inbox.close_if_empty(), "a wish waits");
    rig.inbox.take(9);
    assert!(rig.inbox.close_if_empty() && rig.inbox.close_if_empty());
    assert!(!rig.ask());
    assert_eq!(rig.inbox.grant(rig.reserve()).unwrap_err().1, NotGranted::Unknown);
    assert_eq!(rig.inbox.extend(&facts, Nanos::new(1)), Err(NotGranted::Unknown));
}

#[test]
fn whoever_waits_for_a_hold_learns_that_the_ledger_is_down() {
    let rig = rig();
    let queued = rig.grant();
    rig.inbox.open_now(&queued);
    rig.inbox.desk().queue_due();
    let unwritten = rig.grant();
    rig.inbox.close();
    assert_eq!(queued.written.get(), Some(&Err(LedgerDown)));
    assert_eq!(unwritten.written.get(), Some(&Err(LedgerDown)));
    assert!(rig.inbox.close_if_empty(), "it is over, whatever is open");
}

#[test]
fn one_checkpoint_of_a_call_waits_at_a_time() {
    let rig = rig();
    let facts = rig.grant();
    rig.inbox.extend(&facts, Nanos::new(1)).unwrap();
    rig.inbox.take(9);
    let checkpoint = || Checkpoint {
        facts: facts.clone(),
        input: Tokens::new(1),
        output: Tokens::new(1),
        cost: Nanos::new(1),
    };
    rig.inbox.checkpoint(checkpoint());
    rig.inbox.checkpoint(checkpoint());
    assert_eq!(rig.inbox.take(9).len(), 1);
    rig.inbox.checkpoint(checkpoint());
    assert_eq!(rig.inbox.take(9).len(), 1);
    rig.inbox.close();
    rig.inbox.checkpoint(checkpoint());
    assert_eq!(rig.inbox.queued(), 0);
}
