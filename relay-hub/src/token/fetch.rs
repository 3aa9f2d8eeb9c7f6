//! One access token, asked for through the account's own ways out. A refresh token that takes the place of another is in
//! the store before it is used, and two processes never use one at once.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use relay_shared::secret::Secret;
use tracing::error;

use crate::{
    directory::{Account, SECRET_FIELD},
    egress::{Egress, EgressError, Exits, Reads},
    ids::AccountId,
    seal::{Bound, SealError, Sealer},
    store::{Store, StoreError, accounts, sharing::Users},
    vendor::oauth::{Grant, Issued, MOST, TokenError},
};

/// A token endpoint has this long to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// A process that asks with a refresh token and dies holds up the others no longer.
const LEASE: Duration = Duration::from_secs(60);
/// What the store could not take is tried again after this long.
const SAVE_AGAIN: Duration = Duration::from_secs(1);
/// And so often: after that the store is gone, and with it more than a token.
const SAVES: u32 = 30;

/// Asks token endpoints.
#[derive(Clone)]
pub struct Fetcher {
    /// By what it leaves.
    pub egress: Arc<Egress>,
    /// Where refresh tokens are kept.
    pub store: Store,
    /// Seals them.
    pub sealer: Arc<Sealer>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The account's credential needs none.
    #[error("the account's credential needs no access token")]
    NotNeeded,
    /// Another process asks with the same refresh token at this moment.
    #[error("another process renews this credential at the moment")]
    Busy,
    /// The endpoint did not answer in time.
    #[error("the token endpoint did not answer within {0:?}")]
    Late(Duration),
    /// It cannot be reached.
    #[error("the token endpoint")]
    Egress(#[from] EgressError),
    /// Its answer broke off, or is too long.
    #[error("the token endpoint's answer cannot be read")]
    Answer,
    /// What it said.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The refresh token does not open, or cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl FetchError {
    /// Whether trying again soon is of no use.
    pub const fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::NotNeeded | Self::Token(TokenError::Refused(_)) | Self::Seal(_)
        )
    }
}

impl Fetcher {
    /// A fresh token of this account.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch(&self, account: &Account) -> Result<Issued, FetchError> {
        let grant = account.credential.grant().ok_or(FetchError::NotNeeded)?;
        if grant.refresh_token.is_none() {
            return self.ask(account, grant).await;
        }
        let now_ms = now_ms();
        let until_ms = now_ms.saturating_add(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX));
        if !accounts::lease_credential(&self.store, &account.id, now_ms, until_ms).await? {
            return Err(FetchError::Busy);
        }
        let issued = self.renew(account, grant).await;
        accounts::release_credential(&self.store, &account.id).await?;
        issued
    }

    /// With the refresh token that stands in the store at this moment.
    async fn renew(&self, account: &Account, grant: &Grant) -> Result<Issued, FetchError> {
        let (stored, users) = accounts::secret(&self.store, &account.id).await?;
        let refresh_token = self.sealer.open_secret(bound(&account.id, &users), &stored)?;
        let grant = grant.with_refresh_token(refresh_token);
        let mut issued = self.ask(account, &grant).await?;
        if let Some(rotated) = issued.rotated.take() {
            self.save(&account.id, &rotated).await?;
        }
        Ok(issued)
    }

    async fn ask(&self, account: &Account, grant: &Grant) -> Result<Issued, FetchError> {
        let (head, form) = grant.request()?.into_parts();
        let request = http::Request::from_parts(head, Full::new(Bytes::from(form.expose().clone())));
        let ways = self.egress.apart(Exits {
            account: account.id.as_str(),
            origin: &grant.token_url,
            outs: &account.ways,
            allows_private: account.allows_private,
            prefers: account.prefers,
        });
        let route = ways.route(None)?;
        let answered = async {
            let (head, body) = route.call(request, Reads::Small).await?.into_parts();
            let body = Limited::new(body, MOST)
                .collect()
                .await
                .map_err(|_| FetchError::Answer)?;
            Ok::<_, FetchError>(grant.read(head.status, &body.to_bytes())?)
        };
        let answered = tokio::time::timeout(PATIENCE, answered).await;
        answered.map_err(|_| FetchError::Late(PATIENCE))?
    }

    /// The old one may be worth nothing by now, so a store that is busy or full is tried again.
    async fn save(&self, account: &AccountId, rotated: &Secret<String>) -> Result<(), FetchError> {
        let seal = |users: &Users| Ok(self.sealer.seal(bound(account, users), rotated.expose())?);
        for _ in 1..SAVES {
            match accounts::rotate::<FetchError>(&self.store, account, seal).await {
                Ok(()) => return Ok(()),
                Err(error) => error!(
                    account = %account, error = &error as &dyn std::error::Error,
                    "a rotated refresh token cannot be stored: trying again"
                ),
            }
            tokio::time::sleep(SAVE_AGAIN).await;
        }
        accounts::rotate(&self.store, account, seal).await
    }
}

/// What the refresh token of an account is bound to.
fn bound<'a>(account: &'a AccountId, users: &'a Users) -> Bound<'a> {
    Bound {
        owner: account.as_str(),
        field: SECRET_FIELD,
        holder: users.holder(),
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
