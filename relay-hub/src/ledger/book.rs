//! What the hub knows of balances between two commits: enough to grant a hold at once. The database has the last word.

use std::collections::{HashMap, HashSet};

use relay_shared::call::CallId;

use crate::{ids::TenantId, money::Nanos};

/// Balances as the last commit left them, and what was promised since.
#[derive(Debug, Default)]
pub(super) struct Book {
    accounts: HashMap<TenantId, Account>,
    open: HashSet<CallId>,
    last_number: i64,
}

#[derive(Debug, Default)]
struct Account {
    /// What can be spent by all that is durable; none where that is not certain.
    available: Option<Nanos>,
    /// Granted, but not durable yet, so not taken from `available`.
    promised: Nanos,
}

/// Why the book grants no hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotGranted {
    /// The call has an open hold.
    Duplicate,
    /// The tenant's balance is not known.
    Unknown,
    /// Less is left; so much.
    Short(Nanos),
}

impl Account {
    /// What can still be promised; below zero where the database moved meanwhile.
    fn left(&self) -> Option<Nanos> {
        Some(self.available?.saturating_sub(self.promised))
    }

    fn change(&mut self, by: Nanos) {
        self.available = self.available.map(|available| available.saturating_add(by));
    }

    fn promise(&mut self, amount: Nanos) {
        // At most what is available, so it cannot overflow.
        self.promised = self.promised.checked_add(amount).unwrap_or(Nanos::MAX);
    }
}

impl Book {
    /// A book whose next number is the one after `last_number`.
    pub(super) fn after(last_number: i64) -> Self {
        Self {
            last_number,
            ..Self::default()
        }
    }

    /// The next number. Holds, and calls that never had one, share one row of numbers.
    pub(super) fn number(&mut self) -> i64 {
        self.last_number = self.last_number.saturating_add(1);
        self.last_number
    }

    /// Promises an amount to a call and gives its hold a number.
    pub(super) fn grant(&mut self, call: CallId, tenant: &TenantId, amount: Nanos) -> Result<i64, NotGranted> {
        if self.open.contains(&call) {
            return Err(NotGranted::Duplicate);
        }
        let account = self.accounts.get_mut(tenant).ok_or(NotGranted::Unknown)?;
        let left = account.left().ok_or(NotGranted::Unknown)?;
        if amount > left {
            return Err(NotGranted::Short(left.max(Nanos::ZERO)));
        }
        account.promise(amount);
        self.open.insert(call);
        Ok(self.number())
    }

    /// Promises more to a call that has an open hold.
    pub(super) fn extend(&mut self, tenant: &TenantId, amount: Nanos) -> Result<(), NotGranted> {
        let account = self.accounts.get_mut(tenant).ok_or(NotGranted::Unknown)?;
        let left = account.left().ok_or(NotGranted::Unknown)?;
        if amount > left {
            return Err(NotGranted::Short(left.max(Nanos::ZERO)));
        }
        account.promise(amount);
        Ok(())
    }

    /// Promises as much of an amount as is left.
    pub(super) fn take(&mut self, tenant: &TenantId, amount: Nanos) -> Nanos {
        let Some(account) = self.accounts.get_mut(tenant) else {
            return Nanos::ZERO;
        };
        let taken = amount.min(account.left().unwrap_or(Nanos::ZERO)).max(Nanos::ZERO);
        account.promise(taken);
        taken
    }

    /// Promises of `over` what no hold may still use: neither one that is durable (`held`) nor one that is promised.
    pub(super) fn take_unheld(&mut self, tenant: &TenantId, over: Nanos, held: Nanos) -> Nanos {
        let promised = self
            .accounts
            .get(tenant)
            .map_or(Nanos::ZERO, |account| account.promised);
        self.take(tenant, over.saturating_sub(held).saturating_sub(promised))
    }

    /// A hold is durable: what was promised is kept.
    pub(super) fn opened(&mut self, tenant: &TenantId, amount: Nanos) {
        self.kept(tenant, amount);
        self.spent(tenant, amount);
    }

    /// A hold that was durable is resolved.
    pub(super) fn released(&mut self, tenant: &TenantId, amount: Nanos) {
        if let Some(account) = self.accounts.get_mut(tenant) {
            account.change(amount);
        }
    }

    /// What can be spent is less by this, durably.
    pub(super) fn spent(&mut self, tenant: &TenantId, amount: Nanos) {
        if let Some(account) = self.accounts.get_mut(tenant) {
            account.change(Nanos::ZERO.saturating_sub(amount));
        }
    }

    /// A promise was kept, or is not needed any more.
    pub(super) fn kept(&mut self, tenant: &TenantId, amount: Nanos) {
        if let Some(account) = self.accounts.get_mut(tenant) {
            account.promised = account.promised.saturating_sub(amount).max(Nanos::ZERO);
        }
    }

    /// What the database says of a tenant.
    pub(super) fn learn(&mut self, tenant: TenantId, available: Nanos) {
        self.accounts.entry(tenant).or_default().available = Some(available);
    }

    /// What the database holds is not certain any more.
    pub(super) fn doubt(&mut self) {
        for account in self.accounts.values_mut() {
            account.available = None;
        }
    }

    /// The call's hold is resolved.
    pub(super) fn close(&mut self, call: CallId) {
        self.open.remove(&call);
    }

    /// How many holds are open.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grant(book: &mut Book, tenant: &TenantId, amount: i64) -> Result<i64, NotGranted> {
        book.grant(CallId::random(), tenant, Nanos::new(amount))
    }

    #[test]
    fn a_refused_hold_leaves_room_for_a_smaller_one() {
        let (mut book, tenant) = (Book::default(), TenantId::random());
        assert_eq!(grant(&mut book, &tenant, 0), Err(NotGranted::Unknown));
        book.learn(tenant.clone(), Nanos::new(10));
        assert_eq!(grant(&mut book, &tenant, 7), Ok(1));
        assert_eq!(grant(&mut book, &tenant, 4), Err(NotGranted::Short(Nanos::new(3))));
        assert_eq!(grant(&mut book, &tenant, 3), Ok(2));
        assert_eq!(grant(&mut book, &tenant, i64::MAX), Err(NotGranted::Short(Nanos::ZERO)));
        assert_eq!(book.open(), 2);
    }

    #[test]
    fn a_call_has_one_open_hold() {
        let (mut book, tenant, call) = (Book::default(), TenantId::random(), CallId::random());
        book.learn(tenant.clone(), Nanos::new(10));
        assert_eq!(book.grant(call, &tenant, Nanos::ZERO), Ok(1));
        assert_eq!(book.grant(call, &tenant, Nanos::ZERO), Err(NotGranted::Duplicate));
        book.close(call);
        assert_eq!(book.grant(call, &tenant, Nanos::ZERO), Ok(2));
    }

    #[test]
    fn what_became_durable_is_known_before_the_database_is_asked_again() {
        let (mut book, tenant) = (Book::default(), TenantId::random());
        let nanos = Nanos::new;
        book.learn(tenant.clone(), nanos(10));
        assert_eq!(grant(&mut book, &tenant, 7), Ok(1));
        book.opened(&tenant, nanos(7));
        assert_eq!(
            grant(&mut book, &tenant, 4),
            Err(NotGranted::Short(nanos(3))),
            "it is held"
        );
        book.released(&tenant, nanos(7));
        book.spent(&tenant, nanos(2));
        assert_eq!(
            grant(&mut book, &tenant, 9),
            Err(NotGranted::Short(nanos(8))),
            "2 are spent"
        );
        assert_eq!(grant(&mut book, &tenant, 8), Ok(2));
    }

    #[test]
    fn more_is_promised_to_a_call_as_far_as_something_is_left() {
        let (mut book, tenant) = (Book::default(), TenantId::random());
        let nanos = Nanos::new;
        assert_eq!(book.extend(&tenant, nanos(0)), Err(NotGranted::Unknown));
        book.learn(tenant.clone(), nanos(10));
        assert_eq!(book.extend(&tenant, nanos(6)), Ok(()));
        assert_eq!(book.extend(&tenant, nanos(5)), Err(NotGranted::Short(nanos(4))));
        assert_eq!(book.extend(&tenant, nanos(4)), Ok(()));
        assert_eq!(book.take(&tenant, nanos(1)), Nanos::ZERO);
        book.kept(&tenant, nanos(10));
        assert_eq!(book.take(&tenant, nanos(3)), nanos(3));
        // Less than was promised: the database moved meanwhile.
        book.learn(tenant.clone(), nanos(1));
        assert_eq!(book.extend(&tenant, nanos(1)), Err(NotGranted::Short(Nanos::ZERO)));
    }

    #[test]
    fn what_holds_may_still_use_is_not_taken() {
        let (mut book, tenant) = (Book::default(), TenantId::random());
        let nanos = Nanos::new;
        book.learn(tenant.clone(), nanos(100));
        assert_eq!(grant(&mut book, &tenant, 20), Ok(1));
        assert_eq!(book.take_unheld(&tenant, nanos(70), nanos(10)), nanos(40));
        assert_eq!(book.take_unheld(&TenantId::random(), nanos(70), nanos(10)), Nanos::ZERO);
    }

    #[test]
    fn nothing_is_granted_on_a_doubtful_balance() {
        let (mut book, tenant) = (Book::default(), TenantId::random());
        book.learn(tenant.clone(), Nanos::new(10));
        book.doubt();
        assert_eq!(grant(&mut book, &tenant, 1), Err(NotGranted::Unknown));
        assert_eq!(book.take(&tenant, Nanos::new(1)), Nanos::ZERO);
    }

    proptest! {
        /// Whatever is asked, promises stay within what the database has, and a kept promise gives its room back.
        #[test]
        fn promises_never_exceed_what_is_available(
            available in 0i64..1_000,
            wishes in prop::collection::vec((0i64..500, any::<bool>(), any::<bool>()), 0..40),
        ) {
            let (mut book, tenant) = (Book::default(), TenantId::random());
            book.learn(tenant.clone(), Nanos::new(available));
            let mut promised = 0;
            for (amount, takes, is_kept) in wishes {
                let got = if takes {
                    book.take(&tenant, Nanos::new(amount)).get()
                } else if grant(&mut book, &tenant, amount).is_ok() {
                    amount
                } else {
                    prop_assert!(amount > available - promised);
                    0
                };
                prop_assert!(promised + got <= available);
                if is_kept {
                    book.kept(&tenant, Nanos::new(got));
                } else {
                    promised += got;
                }
            }
        }
    }
}
