//! Who may go on: a slot to stand in line with, then a hold to spend. Knows tenants and money; knows no vendor.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use relay_protocol::{Code, Envelope, Refusal, Tokens};
use relay_shared::call::CallId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    catalogue::Model,
    identity::Caller,
    ids::TenantId,
    ledger::{Hold, Ledger, Reserve},
    money::Most,
    refusal::Refused,
};

/// One token of text is taken to be at least this many bytes when money is set aside for an input.
const BYTES_PER_INPUT_TOKEN: u64 = 2;

/// Decides which callers go on.
pub struct Admission {
    ledger: Ledger,
    calls_per_tenant: usize,
    /// Output that is paid for in advance when the call names no maximum.
    default_output: Tokens,
    lines: Mutex<HashMap<TenantId, Arc<Semaphore>>>,
    is_draining: AtomicBool,
}

/// May stand in line: owns one of the tenant's slots.
pub struct Ticket {
    _slot: OwnedSemaphorePermit,
}

/// May spend up to its hold.
pub struct Permit {
    /// The slot, kept until the answer ended.
    pub ticket: Ticket,
    /// The money set aside.
    pub hold: Hold,
}

impl Admission {
    /// `calls_per_tenant` bounds the calls that one tenant has running at once.
    pub fn new(ledger: Ledger, calls_per_tenant: usize, default_output: Tokens) -> Self {
        Self {
            ledger,
            calls_per_tenant,
            default_output,
            lines: Mutex::default(),
            is_draining: AtomicBool::new(false),
        }
    }

    /// Lets the caller stand in line.
    ///
    /// # Errors
    /// The hub is draining, or the tenant has all its calls running.
    pub fn enter(&self, caller: &Caller) -> Result<Ticket, Refused> {
        if self.is_draining.load(Ordering::Relaxed) {
            return Err(
                Refusal::new(Code::Draining, "The relay is restarting; try again in a moment.")
                    .retry_after(Duration::from_secs(1))
                    .into(),
            );
        }
        let line = self.line(caller.tenant_id());
        let slot = line.try_acquire_owned().map_err(|_| {
            Refusal::new(
                Code::RateLimited,
                format!("This tenant has {} calls running, its limit.", self.calls_per_tenant),
            )
            .retry_after(Duration::from_secs(1))
        })?;
        Ok(Ticket { _slot: slot })
    }

    fn line(&self, tenant: &TenantId) -> Arc<Semaphore> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(tenant) {
            return line.clone();
        }
        let line = Arc::new(Semaphore::new(self.calls_per_tenant));
        lines.insert(tenant.clone(), line.clone());
        line
    }

    /// Sets money aside for the call; the hold is granted but need not be durable yet.
    ///
    /// # Errors
    /// The tenant's credit does not cover the call, or the ledger is away.
    pub async fn hold(
        &self,
        ticket: Ticket,
        call: CallId,
        caller: &Caller,
        model: &Model,
        envelope: &Envelope,
    ) -> Result<Permit, Refused> {
        let hold = self.reserve(call, caller, model, envelope).await?;
        Ok(Permit { ticket, hold })
    }

    /// The money part of [`Admission::hold`]: for each call on a socket that already holds its ticket.
    ///
    /// # Errors
    /// As for [`Admission::hold`].
    pub async fn reserve(
        &self,
        call: CallId,
        caller: &Caller,
        model: &Model,
        envelope: &Envelope,
    ) -> Result<Hold, Refused> {
        if envelope.background {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "`background` is not served: its answer could not be billed.",
            )
            .hint("leave it out, and stream the answer instead")
            .into());
        }
        let input = Tokens::new((envelope.bytes as u64).div_ceil(BYTES_PER_INPUT_TOKEN)).min(model.context);
        let asked = envelope.max_output.unwrap_or(self.default_output).min(model.max_output);
        let output = Tokens::new(asked.get().saturating_mul(u64::from(envelope.n.max(1))));
        let amount = model.offer.bound(
            &Most {
                input,
                output,
                ..Most::default()
            },
            None,
        );
        let reserve = Reserve {
            call,
            tenant: caller.tenant_id().clone(),
            by: caller.by.clone(),
            model: model.name.clone(),
            amount,
            price_version: model.offer.version,
        };
        Ok(self.ledger.reserve(reserve).await?)
    }

    /// Whether new calls are refused.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// From here on every new call is refused.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }
}
