//! Changes the master key under running hubs: a new one first, then every sealed value wrapped anew. Knows no value's
//! text and no table.

use crate::{
    seal::{KeyId, SealError, Sealer, sealed_under},
    store::{
        Store, StoreError,
        sealed::{self, SealedValue},
    },
};

/// Why the master key is not changed, or not everywhere.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// A key, or a value that does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How many values are sealed under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Under {
    /// The key; none for values that a hub without wrapped keys sealed.
    pub key: Option<KeyId>,
    /// Whether it is in the file, so that they open.
    pub is_held: bool,
    /// How many.
    pub values: usize,
}

/// A new master key for everything. Whenever it is broken off, all values open with the keys that are in the file, and
/// the next one ends what it began. Returns how many values were wrapped anew.
pub async fn rotate(store: &Store, sealer: &Sealer) -> Result<usize, RotationError> {
    // What an earlier change left behind: its key would go from the file now.
    rewrap(store, sealer).await?;
    sealer.renew()?;
    rewrap(store, sealer).await
}

/// Wraps every value with the first key of the file, a few in each transaction: running calls are settled between them.
/// Returns how many were not.
pub async fn rewrap(store: &Store, sealer: &Sealer) -> Result<usize, RotationError> {
    let mut done: usize = 0;
    for some in sealed::all(store).await?.chunks(AT_ONCE) {
        let anew = some.iter().filter_map(|value| anew(sealer, value).transpose());
        let anew = anew.collect::<Result<Vec<_>, _>>()?;
        if !anew.is_empty() {
            sealed::replace(store, &anew).await?;
            done = done.saturating_add(anew.len());
        }
    }
    Ok(done)
}

fn anew(sealer: &Sealer, value: &SealedValue) -> Result<Option<(SealedValue, Vec<u8>)>, SealError> {
    let anew = sealer.rewrapped(&value.owner, value.field(), &value.sealed)?;
    Ok(anew.map(|anew| (value.clone(), anew)))
}

/// How many values each key seals: first those of the file, in its order.
pub async fn census(store: &Store, sealer: &Sealer) -> Result<Vec<Under>, RotationError> {
    let under = |key, is_held| Under {
        key,
        is_held,
        values: 0,
    };
    let mut all: Vec<Under> = sealer.ids().into_iter().map(|id| under(Some(id), true)).collect();
    for value in sealed::all(store).await? {
        let key = sealed_under(&value.sealed);
        let at = all.iter().position(|under| under.key == key).unwrap_or_else(|| {
            // Those that name no key are tried with all.
            all.push(under(key, key.is_none()));
            all.len().saturating_sub(1)
        });
        if let Some(under) = all.get_mut(at) {
            under.values = under.values.saturating_add(1);
        }
    }
    Ok(all)
}

/// Another process gets its turn between two.
const AT_ONCE: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::AccountId,
        store::{
            accounts::{self, AccountRow},
            testing::TestHub,
        },
    };

    async fn account(hub: &TestHub, number: usize) -> AccountRow {
        let id = AccountId::random();
        let row = AccountRow {
            secret: hub.sealer.seal(id.as_str(), "secret", &format!("sk-{number}")).unwrap(),
            ..AccountRow::for_tests(id, &format!("account-{number}"))
        };
        accounts::add(&hub.store, &row).await.unwrap();
        row
    }

    async fn opens(hub: &TestHub, sealer: &Sealer) -> bool {
        let all = accounts::list(&hub.store).await.unwrap();
        all.iter().enumerate().all(|(number, row)| {
            let secret = sealer.open_secret(row.id.as_str(), "secret", &row.secret);
            secret.is_ok_and(|secret| *secret.expose() == format!("sk-{number}"))
        })
    }

    #[tokio::test]
    async fn every_value_is_under_the_new_key_and_opens_for_who_ran_meanwhile() {
        let hub = TestHub::new().await;
        for number in 0..AT_ONCE + 3 {
            account(&hub, number).await;
        }
        let running = Sealer::open(hub.store.data()).unwrap();
        let all = AT_ONCE + 3;
        for _ in 0..3 {
            let sealer = Sealer::open(hub.store.data()).unwrap();
            let before = sealer.first();
            assert_eq!(rotate(&hub.store, &sealer).await.unwrap(), all);
            let counted = census(&hub.store, &sealer).await.unwrap();
            let counted: Vec<_> = counted.iter().map(|under| (under.key, under.values)).collect();
            assert_eq!(counted, [(Some(sealer.first()), all), (Some(before), 0)]);
            assert!(opens(&hub, &running).await, "it reads the file again");
        }
        assert_eq!(rewrap(&hub.store, &running).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_change_that_broke_off_is_ended_by_the_next_one() {
        let hub = TestHub::new().await;
        account(&hub, 0).await;
        let sealer = Sealer::open(hub.store.data()).unwrap();
        // It died after the new key was written, twice.
        sealer.renew().unwrap();
        account(&hub, 1).await;
        assert_eq!(rotate(&hub.store, &sealer).await.unwrap(), 2);
        let fresh = Sealer::open(hub.store.data()).unwrap();
        assert!(opens(&hub, &fresh).await);
    }

    #[tokio::test]
    async fn a_value_that_does_not_open_is_told_and_nothing_is_lost() {
        let hub = TestHub::new().await;
        account(&hub, 0).await;
        let mut foreign = account(&hub, 1).await;
        foreign.id = AccountId::random();
        foreign.name = "foreign".to_owned();
        accounts::add(&hub.store, &foreign).await.unwrap();
        let sealer = Sealer::open(hub.store.data()).unwrap();
        sealer.renew().unwrap();
        assert!(matches!(
            rotate(&hub.store, &sealer).await,
            Err(RotationError::Seal(SealError::Broken))
        ));
        assert_eq!(sealer.ids().len(), 2, "the key before is still there");
    }
}
