//! Which account serves what a tenant asks without naming a conversation: the first that did, for as long as the tenant may
//! use it. Accounts that are added take nothing of that. Knows no call, and writes nothing: it says what is to be written.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError, RwLock},
};

use crate::{
    ids::{AccountId, TenantId},
    store::routes::HomeRow,
};

/// The homes of all tenants. A tenant has several where its models are served by different accounts.
#[derive(Default)]
pub(super) struct Homes {
    /// The first that served goes before the others.
    by_tenant: RwLock<HashMap<TenantId, Vec<AccountId>>>,
    unwritten: Mutex<Vec<HomeRow>>,
}

impl Homes {
    /// As a hub before wrote them down, in their order.
    pub(super) fn recalled(rows: Vec<HomeRow>) -> Self {
        let mut by_tenant = HashMap::<_, Vec<_>>::new();
        for row in rows {
            by_tenant.entry(row.tenant).or_default().push(row.account);
        }
        Self {
            by_tenant: RwLock::new(by_tenant),
            unwritten: Mutex::default(),
        }
    }

    /// The first home of a tenant that is fit, as `fit` finds it.
    pub(super) fn find<T>(&self, tenant: &TenantId, fit: impl Fn(&AccountId) -> Option<T>) -> Option<T> {
        let homes = self.by_tenant.read().unwrap_or_else(PoisonError::into_inner);
        homes.get(tenant)?.iter().find_map(fit)
    }

    /// An account serves what the tenant asks: from now on that is a home, and those that the tenant has lost are none.
    pub(super) fn settle(
        &self,
        tenant: &TenantId,
        account: &AccountId,
        is_lost: impl Fn(&AccountId) -> bool,
        now_ms: i64,
    ) {
        let homes = self.by_tenant.read().unwrap_or_else(PoisonError::into_inner);
        let mut own = homes.get(tenant).into_iter().flatten();
        if own.find(|home| *home == account || is_lost(home)) == Some(account) {
            return;
        }
        drop(homes);
        let mut homes = self.by_tenant.write().unwrap_or_else(PoisonError::into_inner);
        let own = homes.entry(tenant.clone()).or_default();
        let mut lost = Vec::new();
        own.retain(|home| {
            let is_lost = home != account && is_lost(home);
            lost.extend(is_lost.then(|| home.clone()));
            !is_lost
        });
        if !own.contains(account) {
            own.push(account.clone());
        }
        drop(homes);
        let row = HomeRow {
            tenant: tenant.clone(),
            account: account.clone(),
            since_ms: now_ms,
            lost,
        };
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).push(row);
    }

    /// What is to be written, at most so many.
    pub(super) fn unwritten(&self, most: usize) -> Vec<HomeRow> {
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        let count = unwritten.len().min(most);
        unwritten.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_left_when_it_is_lost_and_another_has_served() {
        let homes = Homes::default();
        let (tenant, one, two) = (TenantId::random(), AccountId::random(), AccountId::random());
        let home = |homes: &Homes| homes.find(&tenant, |home| Some(home.clone()));
        homes.settle(&tenant, &one, |_| false, 1);
        homes.settle(&tenant, &one, |_| false, 2);
        homes.settle(&tenant, &two, |_| false, 3);
        assert_eq!(home(&homes), Some(one.clone()));
        assert_eq!(
            homes.find(&tenant, |home| (*home == two).then_some("fit")),
            Some("fit"),
            "for what the first does not serve"
        );
        homes.settle(&tenant, &two, |home| *home == one, 4);
        assert_eq!(home(&homes), Some(two.clone()), "the first does not take it back");
        let written = homes.unwritten(10);
        assert_eq!(written.iter().map(|row| row.since_ms).collect::<Vec<_>>(), [1, 3, 4]);
        assert_eq!(written[2].lost, [one]);
        assert!(homes.unwritten(10).is_empty());
        assert_eq!(home(&Homes::recalled(written[1..2].to_vec())), Some(two));
    }
}
