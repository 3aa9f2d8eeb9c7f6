//! Access tokens: each account that needs one has it ahead of its first call and gets the next ahead of its end. One task an
//! account asks for them, through the account's own ways out, so that they are never asked for twice at once. They stay in
//! memory. Knows no call, no tenant and no money.

mod fetch;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use relay_protocol::{Code, Refusal};
use relay_shared::{
    backoff::{Backoff, random},
    tasks::Tasks,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::fetch::{FetchError, Fetcher};
use crate::{directory::DirectoryHandle, ids::AccountId, refusal::Refused, vendor::oauth::Issued};

/// A call waits no longer for a token.
const PATIENCE: Duration = Duration::from_secs(5);
/// A token endpoint that does not accept the credential is asked again after so long, a little less or more.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// A token that the vendor refuses is replaced at once, unless it is younger than this.
const SPURNED_PAUSE: Duration = Duration::from_secs(2);
/// Nothing is asked for more often.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
/// A token is not used in the last moments of its life: it would end on its way.
const LAST_MOMENTS: Duration = Duration::from_secs(30);

/// The access tokens of all accounts that need them.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    directory: DirectoryHandle,
    fetcher: Fetcher,
    tasks: Tasks,
    sources: Mutex<HashMap<AccountId, Kept>>,
}

/// A source, and what ends its task.
struct Kept {
    source: Arc<Source>,
    stop: CancellationToken,
}

/// The access tokens of one account.
pub struct Source {
    account: AccountId,
    token: ArcSwapOption<Token>,
    state: watch::Sender<State>,
    /// The vendor refused the token that stands here.
    spurned: Notify,
}

struct Token {
    authorization: HeaderValue,
    until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is none yet.
    Asking,
    Valid,
    /// The last attempt failed.
    Failed,
    /// The endpoint does not accept the credential.
    Refused,
}

impl Tokens {
    /// For the accounts of `directory`; [`Tokens::follow`] sees to those that are there.
    pub fn new(directory: DirectoryHandle, fetcher: Fetcher, tasks: Tasks) -> Self {
        Self(Arc::new(Inner {
            directory,
            fetcher,
            tasks,
            sources: Mutex::default(),
        }))
    }

    /// The tokens of this account. What is unknown yet is asked for from now on.
    pub fn of(&self, account: &AccountId) -> Arc<Source> {
        let mut sources = self.0.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = sources.entry(account.clone()).or_insert_with(|| {
            let kept = Kept {
                source: Arc::new(Source::new(account.clone())),
                stop: self.0.tasks.token().child_token(),
            };
            let (source, inner, stop) = (kept.source.clone(), self.0.clone(), kept.stop.clone());
            self.0
                .tasks
                .spawn("access-token", async move { keep(&source, &inner, &stop).await });
            kept
        });
        kept.source.clone()
    }

    /// Begins with accounts that are there now, and ends with those that are no more.
    pub fn follow(&self) {
        let now = self.0.directory.load();
        let needs = |account: &&Arc<crate::directory::Account>| account.credential.grant().is_some();
        let wanted: Vec<_> = now
            .accounts
            .iter()
            .filter(needs)
            .map(|account| account.id.clone())
            .collect();
        let mut sources = self.0.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|id, kept| {
            let stays = wanted.contains(id);
            if !stays {
                kept.stop.cancel();
            }
            stays
        });
        drop(sources);
        for id in &wanted {
            self.of(id);
        }
    }
}

impl Source {
    fn new(account: AccountId) -> Self {
        Self {
            account,
            token: ArcSwapOption::empty(),
            state: watch::Sender::new(State::Asking),
            spurned: Notify::new(),
        }
    }

    fn valid(&self) -> Option<HeaderValue> {
        let token = self.token.load();
        let token = token.as_ref().filter(|token| Instant::now() < token.until)?;
        Some(token.authorization.clone())
    }

    /// What authorises a call, waited for a few seconds where there is none.
    ///
    /// # Errors
    /// There is none, or none in time.
    pub async fn authorization(&self) -> Result<HeaderValue, Refused> {
        self.awaited(|state| state == State::Refused).await
    }

    /// The same, of an account that another one stands in for: nothing is waited for where the last attempt failed.
    ///
    /// # Errors
    /// There is none, or none in time.
    pub async fn authorization_unless_failed(&self) -> Result<HeaderValue, Refused> {
        self.awaited(|state| matches!(state, State::Refused | State::Failed))
            .await
    }

    async fn awaited(&self, is_no_use: impl Fn(State) -> bool) -> Result<HeaderValue, Refused> {
        if let Some(valid) = self.valid() {
            return Ok(valid);
        }
        let mut state = self.state.subscribe();
        let waiting = async {
            loop {
                if let Some(valid) = self.valid() {
                    return Ok(valid);
                }
                let now = *state.borrow_and_update();
                if is_no_use(now) || state.changed().await.is_err() {
                    return Err(no_token());
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .unwrap_or_else(|_| Err(no_token()))
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// There is none at this moment.
    pub fn authorization_now(&self) -> Result<HeaderValue, Refused> {
        self.valid().ok_or_else(no_token)
    }

    /// Another token than this one, which the vendor refused though it should be good: asked for at once, and waited for a
    /// few seconds. `None` where there is none in time.
    pub async fn another(&self, refused: &HeaderValue) -> Option<HeaderValue> {
        self.spurn(refused);
        self.authorization().await.ok().filter(|fresh| fresh != refused)
    }

    /// The vendor does not accept this token: another one is asked for at once.
    fn spurn(&self, authorization: &HeaderValue) {
        let token = self.token.load_full();
        if token.is_some_and(|token| token.authorization == *authorization) {
            self.token.store(None);
            self.spurned.notify_one();
        }
    }

    /// Takes what was issued. How long until the next one should be asked for.
    fn publish(&self, issued: &Issued, asked: Instant, random: f64) -> Duration {
        let life = issued
            .good_for
            .clamp(Duration::from_secs(1), Duration::from_secs(24 * 3600));
        let token = Token {
            authorization: issued.authorization.clone(),
            until: asked + life.saturating_sub(LAST_MOMENTS.min(life / 10)),
        };
        self.token.store(Some(Arc::new(token)));
        self.state.send_replace(State::Valid);
        // Hubs that began at the same moment do not all ask at the same moment again.
        life.mul_f64(0.8 - 0.1 * random)
    }
}

fn no_token() -> Refused {
    Refusal::new(
        Code::Overloaded,
        "The upstream account has no valid access token at the moment.",
    )
    .retry_after(PATIENCE)
    .into()
}

/// Asks for one token after another, until it is told to stop. Never stops while it asks: a refresh token that was rotated
/// meanwhile would be lost.
async fn keep(source: &Source, inner: &Inner, stop: &CancellationToken) {
    let mut backoff = Backoff::new();
    while !stop.is_cancelled() {
        let asked = Instant::now();
        let pause = next(source, inner, &mut backoff).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = source.spurned.notified() => {
                // Where the vendor spurns every token, one is not asked for with each call.
                stop.run_until_cancelled(tokio::time::sleep_until((asked + SPURNED_PAUSE).into())).await;
            }
            () = tokio::time::sleep(pause.max(SHORTEST_PAUSE)) => {}
        }
    }
}

/// One attempt, and how long to wait after it.
async fn next(source: &Source, inner: &Inner, backoff: &mut Backoff) -> Duration {
    let directory = inner.directory.load();
    let Some(account) = directory.accounts.iter().find(|known| known.id == source.account) else {
        // Disabled or removed: whoever follows the directory ends this task.
        return REFUSED_PAUSE;
    };
    let asked = Instant::now();
    match inner.fetcher.fetch(account).await {
        Ok(issued) => {
            if backoff.failures() > 0 {
                info!(account = %account.id, name = account.name, "the account has an access token again");
            }
            backoff.reset();
            source.publish(&issued, asked, random())
        }
        Err(error) => {
            let pause = backoff.next(random());
            let is_refused = error.is_lasting();
            warn!(
                account = %account.id, name = account.name, error = &error as &dyn std::error::Error,
                "no access token for the account"
            );
            source
                .state
                .send_replace(if is_refused { State::Refused } else { State::Failed });
            if is_refused {
                REFUSED_PAUSE.mul_f64(0.75 + random() / 2.0)
            } else {
                pause
            }
        }
    }
}

#[cfg(test)]
mod tests;
