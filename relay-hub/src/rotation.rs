//! Changes the master key under running hubs: a new one first, then every sealed value wrapped anew. Has values go along
//! with who may use their account. Knows no value's text and no table.

use tracing::{info, warn};

use crate::{
    ids::AccountId,
    seal::{Bound, KeyId, SealError, Sealer, is_held, sealed_under},
    store::{
        Store, StoreError,
        sealed::{self, SealedValue},
        sharing::{self, Change},
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
    let anew = sealer.rewrapped(bound(value, &value.holder), &value.sealed)?;
    Ok(anew.map(|anew| (value.clone(), anew)))
}

fn bound<'a>(value: &'a SealedValue, holder: &'a str) -> Bound<'a> {
    Bound {
        owner: &value.owner,
        field: value.field(),
        holder,
    }
}

/// Changes who may use an account and how much of it; its secrets are sealed for them in the same transaction.
pub async fn share(store: &Store, sealer: &Sealer, account: &AccountId, change: &Change) -> Result<(), RotationError> {
    let anew = |value: &SealedValue, holder: &str| {
        let (before, now) = (bound(value, &value.holder), bound(value, holder));
        Ok::<_, RotationError>(sealer.held_by(before, now, &value.sealed)?)
    };
    sharing::set(store, account, change, anew).await
}

/// Binds what hubs before sealed to who may use it, a few in each transaction. Once all are bound, none that is not opens
/// any more: who can write to the database could give an old one to anybody. Whenever it is broken off, all values open,
/// and the next one ends what it began.
pub async fn bind(store: &Store, sealer: &Sealer) -> Result<(), RotationError> {
    if !sealer.takes_unheld() {
        return Ok(());
    }
    let mut done: usize = 0;
    for some in sealed::all(store).await?.chunks(AT_ONCE) {
        let unheld = some.iter().filter(|value| !is_held(&value.sealed));
        let anew: Vec<_> = unheld.filter_map(|value| anew(sealer, value).ok().flatten()).collect();
        if !anew.is_empty() {
            sealed::replace(store, &anew).await?;
            done = done.saturating_add(anew.len());
        }
    }
    let all = sealed::all(store).await?;
    let left = all.iter().filter(|value| !is_held(&value.sealed)).count();
    if left > 0 {
        warn!(
            left,
            "secrets of an older relay-hub do not open: they are not bound to who may use them yet"
        );
        return Ok(());
    }
    sealer.refuse_unheld()?;
    if done > 0 {
        info!(secrets = done, "every secret is bound to who may use it");
    }
    Ok(())
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
        seal::fresh_key,
        store::{
            accounts::{self, AccountRow},
            sharing::Users,
            tenants,
            testing::TestHub,
            ways::{self, AddWayError, WayRow},
        },
    };

    async fn account(hub: &TestHub, number: usize) -> AccountRow {
        let id = AccountId::random();
        let row = AccountRow {
            secret: hub.seal(id.as_str(), "secret", &format!("sk-{number}")),
            ..AccountRow::for_tests(id, &format!("account-{number}"))
        };
        accounts::add(&hub.store, &row).await.unwrap();
        row
    }

    const fn of<'a>(owner: &'a str, holder: &'a str) -> Bound<'a> {
        Bound {
            owner,
            field: "secret",
            holder,
        }
    }

    async fn opens(hub: &TestHub, sealer: &Sealer) -> bool {
        let all = accounts::list(&hub.store).await.unwrap();
        all.iter().enumerate().all(|(number, row)| {
            let secret = sealer.open_secret(of(row.id.as_str(), "shared"), &row.secret);
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

    fn way_bound<'a>(way: &'a WayRow, holder: &'a str) -> Bound<'a> {
        Bound {
            field: "password",
            ..of(way.id.as_str(), holder)
        }
    }

    fn used_by(users: Users) -> Change {
        Change {
            users: Some(users),
            ..Change::default()
        }
    }

    #[tokio::test]
    async fn secrets_go_along_with_who_may_use_their_account_and_open_for_nobody_else() {
        let hub = TestHub::new().await;
        let id = account(&hub, 0).await.id;
        let way = WayRow::for_tests(id.clone(), "way");
        let sealed =
            |holder: &str| Ok::<_, AddWayError>(Some(hub.sealer.seal(way_bound(&way, holder), "pass").unwrap()));
        ways::add(&hub.store, &way, sealed).await.unwrap();
        let acme = tenants::add(&hub.store, "acme", 1).await.unwrap();
        let other = tenants::add(&hub.store, "other", 1).await.unwrap();
        let mut seen = Vec::new();
        for (users, holder) in [
            (Users::Named([acme.clone()].into()), "shared".to_owned()),
            (Users::Exclusive(Some(acme.clone())), acme.to_string()),
            (Users::Exclusive(None), "nobody".to_owned()),
            (Users::Exclusive(Some(other.clone())), other.to_string()),
            (Users::All, "shared".to_owned()),
        ] {
            share(&hub.store, &hub.sealer, &id, &used_by(users)).await.unwrap();
            let all = sealed::all(&hub.store).await.unwrap();
            let [secret, password] = all.as_slice() else {
                panic!("two secrets")
            };
            assert_eq!((&secret.holder, &password.holder), (&holder, &format!("{id} {holder}")));
            let opened = hub.sealer.open_secret(of(id.as_str(), &holder), &secret.sealed);
            assert_eq!(opened.unwrap().expose(), "sk-0");
            let opened = hub
                .sealer
                .open_secret(way_bound(&way, &password.holder), &password.sealed);
            assert_eq!(opened.unwrap().expose(), "pass");
            seen.push((holder, secret.sealed.clone()));
        }
        // What it was at one time opens for those of that time alone.
        for (holder, sealed) in &seen {
            for (other, _) in &seen {
                let opened = hub.sealer.open_secret(of(id.as_str(), other), sealed);
                assert_eq!(opened.is_ok(), other == holder, "{other} {holder}");
            }
        }
        rotate(&hub.store, &Sealer::open(hub.store.data()).unwrap())
            .await
            .unwrap();
        assert!(opens(&hub, &hub.sealer).await);
    }

    #[tokio::test]
    async fn swapping_any_two_sealed_values_opens_neither() {
        let hub = TestHub::new().await;
        let acme = tenants::add(&hub.store, "acme", 1).await.unwrap();
        for number in 0..6 {
            let id = account(&hub, number).await.id;
            if number % 2 == 0 {
                let change = used_by(Users::Exclusive(Some(acme.clone())));
                share(&hub.store, &hub.sealer, &id, &change).await.unwrap();
            }
        }
        let all = sealed::all(&hub.store).await.unwrap();
        for one in &all {
            for other in &all {
                let opened = hub.sealer.open_secret(bound(one, &one.holder), &other.sealed);
                assert_eq!(opened.is_ok(), one.owner == other.owner);
            }
        }
    }

    #[tokio::test]
    async fn what_hubs_before_sealed_is_bound_once_and_refused_from_then_on() {
        let hub = TestHub::new().await;
        std::fs::remove_file(hub.store.data().seal_bound()).unwrap();
        let before = Sealer::open(hub.store.data()).unwrap();
        let mut old = Vec::new();
        for number in 0..AT_ONCE + 3 {
            let row = account(&hub, number).await;
            let sealed = before.seal_unheld(of(row.id.as_str(), "any"), &format!("sk-{number}"));
            accounts::rotate(&hub.store, &row.id, |_| Ok::<_, StoreError>(sealed.clone()))
                .await
                .unwrap();
            old.push((row.id, sealed));
        }
        assert!(opens(&hub, &before).await, "before anything is done");
        // It died half-way.
        let some: Vec<_> = sealed::all(&hub.store).await.unwrap().into_iter().take(7).collect();
        let some: Vec<_> = some
            .iter()
            .map(|value| anew(&before, value).unwrap().unwrap())
            .collect();
        sealed::replace(&hub.store, &some).await.unwrap();
        assert!(opens(&hub, &Sealer::open(hub.store.data()).unwrap()).await);
        bind(&hub.store, &before).await.unwrap();
        let later = Sealer::open(hub.store.data()).unwrap();
        assert!(opens(&hub, &before).await && opens(&hub, &later).await);
        // An old value is put back, as from a copy of the database.
        let (id, sealed) = &old[0];
        accounts::rotate(&hub.store, id, |_| Ok::<_, StoreError>(sealed.clone()))
            .await
            .unwrap();
        assert!(!opens(&hub, &before).await && !opens(&hub, &later).await);
        bind(&hub.store, &later).await.unwrap();
        assert!(!opens(&hub, &later).await, "nor is it bound");
    }

    #[tokio::test]
    async fn what_does_not_open_is_not_given_up_for_another_key() {
        let hub = TestHub::new().await;
        std::fs::remove_file(hub.store.data().seal_bound()).unwrap();
        let (sealer, row) = (Sealer::open(hub.store.data()).unwrap(), account(&hub, 0).await);
        let sealed = sealer.seal_unheld(of(row.id.as_str(), "any"), "sk-0");
        accounts::rotate(&hub.store, &row.id, |_| Ok::<_, StoreError>(sealed))
            .await
            .unwrap();
        let path = hub.store.data().seal_key();
        let key = std::fs::read(&path).unwrap();
        std::fs::write(&path, fresh_key()).unwrap();
        bind(&hub.store, &Sealer::open(hub.store.data()).unwrap())
            .await
            .unwrap();
        std::fs::write(&path, key).unwrap();
        let restored = Sealer::open(hub.store.data()).unwrap();
        assert!(opens(&hub, &restored).await, "the right key is back");
        bind(&hub.store, &restored).await.unwrap();
        assert!(!restored.takes_unheld() && opens(&hub, &restored).await);
    }
}
