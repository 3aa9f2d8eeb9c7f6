//! What the books must say when a killed hub is back: judged by what clients saw and by what the vendor would bill.

use std::collections::HashMap;

use relay_tests::{
    books::{Balance, Row},
    vendor::Entry,
    world::World,
};

/// What the client of one call saw.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Empty where no head came.
    pub(crate) call: String,
    /// A byte of an answer.
    pub(crate) has_begun: bool,
    /// The event that ends an answer.
    pub(crate) has_ended: bool,
}

/// Clients' views over all lives of hubs on one database.
#[derive(Default)]
pub(crate) struct Oracle {
    seen: Vec<Seen>,
    /// Calls that may be billed by the vendor and not by the hub: those that ran when one died.
    cut: usize,
    last: String,
    /// The machine died, not the hub alone: who did not see the end may have no row.
    pub(crate) loses_power: bool,
}

impl Oracle {
    /// A hub died at `point` while so many calls ran at most.
    pub(crate) fn add(&mut self, point: &str, running: usize, seen: Vec<Seen>) {
        point.clone_into(&mut self.last);
        self.cut += running;
        self.seen.extend(seen);
    }

    /// A new life begins: what the last one left is in order before it serves, so that no second has to be counted.
    pub(crate) async fn ask(&self, world: &mut World) {
        world.hub.serve().await;
        let (unposted, open) = world.books().left_over().await;
        assert_eq!(unposted, 0, "pages unposted of a hub that died at `{}`", self.last);
        assert_eq!(open, 0, "open holds of a hub that died at `{}`", self.last);
        world.hub.program().kill().await;
    }

    /// Of the calls whose client saw the end, those that no row charges.
    pub(crate) async fn lost(&self, world: &mut World) -> usize {
        world.hub.serve().await;
        let rows = world.books().rows().await;
        let is_booked = |seen: &&Seen| rows.iter().any(|row| row.call == seen.call && row.charged > 0);
        let ended: Vec<&Seen> = self.seen.iter().filter(|seen| seen.has_ended).collect();
        ended.len() - ended.iter().filter(|seen| is_booked(seen)).count()
    }

    /// Looks at every row and every call.
    pub(crate) async fn conclude(&self, world: &mut World) {
        world.assert_sound().await;
        assert!(
            self.seen.iter().any(|seen| seen.has_ended),
            "some calls came to their end"
        );
        let books = world.books();
        let rows = books.rows().await;
        let mut by_call: HashMap<&str, &Row> = HashMap::new();
        for row in &rows {
            assert!(by_call.insert(&row.call, row).is_none(), "two rows: {row:#?}");
        }
        let truth = world.vendor.truth().entries();
        let mut costs: HashMap<&str, i64> = HashMap::new();
        for entry in &truth {
            costs.insert(&entry.response_id, cost(world, entry).await);
        }
        self.judge_calls(&by_call, &costs);
        let charged = judge_rows(&rows, &costs);
        let left = world.credit() - charged;
        let balance = Balance { posted: left, held: 0 };
        assert_eq!(
            books.balance(&world.tenant).await,
            balance,
            "what is left of the credit"
        );
        let mut unpaid = 0;
        for entry in truth.iter().filter(|entry| entry.billed().is_some()) {
            let row = rows
                .iter()
                .find(|row| row.response_id.as_deref() == Some(&entry.response_id));
            unpaid += usize::from(row.is_none_or(|row| row.charged == 0));
        }
        assert!(unpaid <= self.cut, "{unpaid} calls unpaid, {} were cut", self.cut);
    }

    /// Finished means billed, to the unit; served means held.
    fn judge_calls(&self, rows: &HashMap<&str, &Row>, costs: &HashMap<&str, i64>) {
        let must_have_a_row = |seen: &&Seen| seen.has_ended || (seen.has_begun && !self.loses_power);
        for seen in self.seen.iter().filter(must_have_a_row) {
            let row = rows.get(seen.call.as_str());
            assert!(row.is_some(), "served and no row: {seen:?}");
            if let (true, Some(row)) = (seen.has_ended, row) {
                let cost = costs.get(row.response_id.as_deref().unwrap_or_default());
                assert_eq!(Some(&row.charged), cost, "finished and not billed: {row:#?}");
            }
        }
    }
}

/// Nobody pays more than the vendor's truth; the sum of all charges.
fn judge_rows(rows: &[Row], costs: &HashMap<&str, i64>) -> i64 {
    let highest = costs.values().max().copied().unwrap_or_default();
    for row in rows {
        let truth = row.response_id.as_deref().and_then(|id| costs.get(id));
        let most = truth.copied().unwrap_or(highest);
        assert!(row.charged <= most, "more than the vendor bills: {row:#?}");
    }
    rows.iter().map(|row| row.charged).sum()
}

/// By the price list, of what the vendor made.
async fn cost(world: &World, entry: &Entry) -> i64 {
    match entry.usage {
        Some(usage) => world.books().cost(&entry.model, usage).await,
        None => 0,
    }
}
