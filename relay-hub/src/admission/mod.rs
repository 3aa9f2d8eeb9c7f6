//! Who may go on: what the caller and the head of a call decide, then a slot to run in, then what its envelope decides,
//! then a hold to spend. Knows callers, limits and money; knows no vendor.

mod apply;
mod bound;
mod counters;
mod gcra;
mod refusals;
mod slots;
mod spend;
#[cfg(test)]
mod testing;

use std::{
    borrow::Borrow,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use relay_protocol::{Code, Endpoint, Envelope, Refusal, Tokens};
use relay_shared::{
    call::CallId,
    clock::{Clock as _, SystemClock},
    fault,
};

use self::{
    apply::{budgets, charges, check_envelope, gates, parts, scopes, scopes_of_model},
    counters::MemoryCounters,
    slots::Gate,
    spend::{Pledge, Span, Spend},
};
use crate::{
    catalogue::{Catalogue, Model},
    country::Countries,
    directory::DirectoryHandle,
    identity::Caller,
    ids::{AppPlan, DeviceId, KeyId, Project},
    ledger::{Hold, HoldError, Ledger, Reserve},
    limit::{Rule, Rules, Scope},
    money::Nanos,
    refusal::Refused,
    store::{Store, StoreError, limits},
};

pub use bound::Reach;
pub use counters::{Charge, Counters, Short, Unit};
pub use gcra::{Rate as Pace, Used};
pub use slots::{Bounds, Full, Place, Slot, Slots};

/// One token of text is taken to be this many bytes when a rate is charged for an input; what is missing is charged
/// once the usage is known, and nothing is ever given back.
const BYTES_PER_RATED_TOKEN: u64 = 4;

/// What bounds every tenant, whatever its limits.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// Calls of one tenant that run at once.
    pub calls_per_tenant: usize,
    /// The largest request body.
    pub body_bytes: usize,
    /// Output that is paid for in advance when the call names no maximum.
    pub output: Tokens,
    /// The line of calls that wait for a slot.
    pub line: Bounds,
}

/// Decides which callers go on.
pub struct Admission {
    ledger: Ledger,
    directory: DirectoryHandle,
    defaults: Defaults,
    counters: Arc<dyn Counters>,
    spend: Spend<SystemClock>,
    calls: Slots<Scope>,
    /// Of models: known only once a call runs, so they have a line of their own.
    models: Slots<Scope>,
    sockets: Slots<Scope>,
    countries: Countries,
    is_draining: AtomicBool,
}

/// What is known of a call before its body.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// Where it was sent.
    pub endpoint: Endpoint,
    /// Where the client is.
    pub address: IpAddr,
    /// How long its body will be, if it says so.
    pub length: Option<usize>,
}

/// Passed all that its head decides: has a slot, or a place in line for one.
pub struct Entry {
    place: Place<Scope>,
    rules: Vec<Arc<Rule>>,
    /// No more of the body need be read.
    pub body_bytes: usize,
}

/// May run: owns a slot.
pub struct Ticket {
    _slot: Slot<Scope>,
    rules: Vec<Arc<Rule>>,
    /// Of its model, once that is known.
    _of_model: Option<Slot<Scope>>,
}

/// A socket may stay open. The calls on it take slots of their own.
pub struct SocketTicket {
    _slot: Slot<Scope>,
}

/// May spend up to its hold.
pub struct Permit {
    /// The slot, kept until the answer ended.
    pub ticket: Ticket,
    /// The money set aside.
    pub hold: Hold,
    /// What is counted once the call's usage is known.
    pub tally: Tally,
    /// How far the hold reaches, where it can be extended.
    pub reach: Option<Reach>,
    /// Serves the call in place of the model asked for: the tenant's credit does not cover that one.
    pub instead: Option<Box<Model>>,
}

/// Why nothing is set aside.
enum NotHeld {
    Refused(Refused),
    /// The tenant's credit does not cover the call. Its tokens were charged by then.
    Short(HoldError, Vec<Charge>),
}

impl From<Refused> for NotHeld {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// What a call counts for in the limits beside its slot and its hold. Dropped, it was charged nothing.
pub struct Tally {
    pledge: Pledge,
    counters: Arc<dyn Counters>,
    tokens: Vec<Charge>,
}

impl Tally {
    /// The hold is to be extended.
    ///
    /// # Errors
    /// A daily or monthly limit does not allow it.
    pub fn grow(&mut self, by: Nanos) -> Result<(), Refused> {
        let grown = self.pledge.grow(by, SystemClock.wall());
        grown.map_err(|over| refusals::over(&over, by))
    }

    /// It was not.
    pub fn shrink(&mut self, by: Nanos) {
        self.pledge.shrink(by);
    }

    /// The call ended: what it was charged, and the tokens it used.
    pub fn settle(mut self, charged: Nanos, used: Tokens) {
        self.pledge.settle(charged, SystemClock.wall());
        for charge in &mut self.tokens {
            charge.cost = used.get().saturating_sub(charge.cost);
        }
        self.tokens.retain(|owed| owed.cost > 0);
        if !self.tokens.is_empty() {
            self.counters.debit(&self.tokens);
        }
    }
}

impl Entry {
    /// Waits in line, if there is one. Dropped, the place is free again.
    ///
    /// # Errors
    /// The wait was too long, or the hub ends.
    pub async fn ticket(self) -> Result<Ticket, Refused> {
        let slot = self.place.slot().await.map_err(refusals::full)?;
        fault::point("slot taken");
        Ok(Ticket {
            _slot: slot,
            rules: self.rules,
            _of_model: None,
        })
    }
}

impl Admission {
    /// With the limits of `directory`, counting from what the books say was spent today and this month.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn start(
        ledger: Ledger,
        directory: DirectoryHandle,
        store: &Store,
        defaults: Defaults,
    ) -> Result<Self, StoreError> {
        let spend = Spend::new(SystemClock);
        recall(&spend, store, &directory.load().rules).await?;
        let no_line = Bounds {
            calls: 0,
            calls_per_tenant: 0,
            wait: Duration::ZERO,
        };
        Ok(Self {
            ledger,
            directory,
            counters: Arc::new(MemoryCounters::new(SystemClock)),
            spend,
            calls: Slots::new(defaults.line),
            models: Slots::new(defaults.line),
            sockets: Slots::new(no_line),
            defaults,
            countries: Countries::default(),
            is_draining: AtomicBool::new(false),
        })
    }

    /// Knows countries from here on.
    #[must_use]
    pub fn knowing(mut self, countries: Countries) -> Self {
        self.countries = countries;
        self
    }

    /// Lets a call in by what its caller and its head tell, cheapest first, before a byte of its body is read.
    ///
    /// # Errors
    /// The hub is draining, the address or the size is not allowed, the rate is used up, or the line is full.
    pub async fn enter(&self, caller: &Caller, head: &Head) -> Result<Entry, Refused> {
        let rules = self.check(caller, head)?;
        let most = rules.iter().filter_map(|rule| rule.body_bytes).min();
        let body_bytes = most.map_or(self.defaults.body_bytes, |most| most.min(self.defaults.body_bytes));
        if head.length.is_some_and(|length| length > body_bytes) {
            return Err(refusals::body(body_bytes));
        }
        self.take(&charges(&rules, Unit::Requests, |_| 1)).await?;
        let place = self
            .calls
            .ask(caller.tenant_id(), self.gates(caller, &rules))
            .map_err(refusals::full)?;
        Ok(Entry {
            place,
            rules,
            body_bytes,
        })
    }

    /// Lets a socket open. It costs no request and takes no slot of a call: those are for each call on it.
    ///
    /// # Errors
    /// The hub is draining, the address is not allowed, or the tenant has as many sockets as it may have calls.
    pub async fn open(&self, caller: &Caller, head: &Head) -> Result<SocketTicket, Refused> {
        self.check(caller, head)?;
        let tenant = caller.tenant_id();
        let gate = (Scope::Tenant(tenant.clone()), self.defaults.calls_per_tenant);
        let place = self.sockets.ask(tenant, vec![gate]).map_err(refusals::full)?;
        let slot = place.slot().await.map_err(refusals::full)?;
        Ok(SocketTicket { _slot: slot })
    }

    /// The rules that the call falls under whatever its body says, once it may come at all.
    ///
    /// # Errors
    /// The hub is draining, or the address or its country is not allowed.
    pub fn check(&self, caller: &Caller, head: &Head) -> Result<Vec<Arc<Rule>>, Refused> {
        if self.is_draining() {
            return Err(refusals::draining());
        }
        let mut rules = self.rules(scopes(caller, head.endpoint).chain(parts(caller)));
        rules.extend(caller.granted.iter().map(|granted| granted.rule.clone()));
        if let Some(rule) = rules.iter().find(|rule| !rule.allows_address(head.address)) {
            return Err(refusals::address(rule, head.address));
        }
        if self.countries.is_on() && rules.iter().any(|rule| rule.names_countries()) {
            let country = self.countries.of(head.address);
            if let Some(rule) = rules.iter().find(|rule| !rule.allows_country(country)) {
                return Err(refusals::country(rule, country));
            }
        }
        Ok(rules)
    }

    /// Whether the rules let their caller use a model.
    pub fn allows(rules: &[Arc<Rule>], model: &Model) -> bool {
        rules.iter().all(|rule| rule.allows_model(&model.name, &model.upstream))
    }

    fn rules(&self, scopes: impl IntoIterator<Item: Borrow<Scope>>) -> Vec<Arc<Rule>> {
        let directory = self.directory.load();
        if directory.rules.is_empty() {
            return Vec::new();
        }
        let rules = scopes.into_iter();
        rules
            .filter_map(|scope| directory.rules.of(scope.borrow()).cloned())
            .collect()
    }

    async fn take(&self, charges: &[Charge]) -> Result<(), Refused> {
        if charges.is_empty() {
            return Ok(());
        }
        self.counters
            .take(charges)
            .await
            .map_err(|short| refusals::rate(&short))
    }

    /// A tenant always has a gate: without a limit of its own, that of hub.toml.
    fn gates(&self, caller: &Caller, rules: &[Arc<Rule>]) -> Vec<Gate<Scope>> {
        let most = self.defaults.calls_per_tenant;
        let own = Scope::Tenant(caller.tenant_id().clone());
        let mut gates = gates(rules);
        match gates.iter_mut().find(|(scope, _)| *scope == own) {
            Some(gate) => gate.1 = gate.1.min(most),
            None => gates.push((own, most)),
        }
        gates
    }

    /// Sets money aside for the call, once its envelope passed every limit; the hold is granted but need not be
    /// durable yet. Where the tenant's credit does not cover it, another model may serve it: the one that the tenant's
    /// plan names.
    ///
    /// # Errors
    /// The model is not allowed, the output asked for is too much, a rate or a budget is used up, the model has all
    /// its calls running, the tenant's credit does not cover the call, or the ledger is away.
    pub async fn hold(
        &self,
        mut ticket: Ticket,
        call: CallId,
        caller: &Caller,
        model: &Model,
        envelope: &Envelope,
        catalogue: &Catalogue,
    ) -> Result<Permit, Refused> {
        let mut rules = std::mem::take(&mut ticket.rules);
        let of_all = rules.len();
        let asked = self.set_aside(&mut ticket, &mut rules, (call, caller), model, envelope, &[]);
        let (short, charged) = match asked.await {
            Ok((hold, tally, reach)) => {
                return Ok(Permit {
                    ticket,
                    hold,
                    tally,
                    reach,
                    instead: None,
                });
            }
            Err(NotHeld::Refused(refused)) => return Err(refused),
            Err(NotHeld::Short(short, charged)) => (short, charged),
        };
        let Some(instead) = catalogue.instead(caller, model) else {
            return Err(short.into());
        };
        rules.truncate(of_all);
        ticket._of_model = None;
        // Boxed: hardly any call comes here, and every call would keep room for it.
        let again = Box::pin(self.set_aside(&mut ticket, &mut rules, (call, caller), &instead, envelope, &charged));
        match again.await {
            Ok((hold, tally, reach)) => Ok(Permit {
                ticket,
                hold,
                tally,
                reach,
                instead: Some(Box::new(instead)),
            }),
            Err(NotHeld::Refused(refused)) => Err(refused),
            Err(NotHeld::Short(short, _)) => Err(short.into()),
        }
    }

    async fn set_aside(
        &self,
        ticket: &mut Ticket,
        rules: &mut Vec<Arc<Rule>>,
        (call, caller): (CallId, &Caller),
        model: &Model,
        envelope: &Envelope,
        charged: &[Charge],
    ) -> Result<(Hold, Tally, Option<Reach>), NotHeld> {
        if !Self::allows(rules, model) {
            return Err(refusals::model(&model.name).into());
        }
        let model_scopes = scopes_of_model(caller.tenant_id(), model);
        let of_model = self.rules(&model_scopes);
        let gates = gates(&of_model);
        rules.extend(of_model);
        let most = check_envelope(rules, envelope)?;
        if !gates.is_empty() {
            let place = self.models.ask(caller.tenant_id(), gates).map_err(refusals::full)?;
            ticket._of_model = Some(place.slot().await.map_err(refusals::full)?);
        }
        let (amount, reach) = self.sized(model, envelope, most)?;
        let tally = self
            .tally(rules, caller, model_scopes, envelope, (amount, charged))
            .await?;
        let mut granted = self.ledger.reserve(reserve(call, caller, model, amount)).await;
        let mut reach = reach;
        if let Err(HoldError::Insufficient { available }) = granted
            && let Some((shorter, amount)) = shorter(reach, available, model, envelope)
        {
            reach = Some(shorter);
            granted = self.ledger.reserve(reserve(call, caller, model, amount)).await;
        }
        match granted {
            Ok(hold) => Ok((hold, tally, reach)),
            Err(short @ HoldError::Insufficient { .. }) => Err(NotHeld::Short(short, tally.tokens)),
            Err(error @ (HoldError::Duplicate | HoldError::Unavailable(_))) => Err(NotHeld::Refused(error.into())),
        }
    }

    async fn tally(
        &self,
        rules: &[Arc<Rule>],
        caller: &Caller,
        mut counted: Vec<Scope>,
        envelope: &Envelope,
        (amount, charged): (Nanos, &[Charge]),
    ) -> Result<Tally, Refused> {
        counted.extend(scopes(caller, envelope.endpoint));
        // Parts are counted where they are limited: their names are the tenant's to choose, and without end.
        counted.extend(
            rules
                .iter()
                .map(|rule| &rule.scope)
                .filter(|scope| scope.is_of_part())
                .cloned(),
        );
        let pledge = self.spend.pledge(counted, budgets(rules), amount);
        let pledge = pledge.map_err(|over| refusals::over(&over, amount))?;
        let about = (envelope.bytes as u64).div_ceil(BYTES_PER_RATED_TOKEN);
        // A warm-up makes no tokens.
        let tokens = if envelope.generate {
            charges(rules, Unit::Tokens, |per_minute| about.min(per_minute))
        } else {
            Vec::new()
        };
        if charged.is_empty() {
            self.take(&tokens).await?;
        } else {
            let missing = tokens.iter().filter(|charge| !charged.contains(charge)).cloned();
            self.take(&missing.collect::<Vec<_>>()).await?;
        }
        let counters = self.counters.clone();
        Ok(Tally {
            pledge,
            counters,
            tokens,
        })
    }

    /// The most that the call may cost; of one that may go on for long, what its beginning may.
    fn sized(
        &self,
        model: &Model,
        envelope: &Envelope,
        most: Option<Tokens>,
    ) -> Result<(Nanos, Option<Reach>), Refused> {
        if envelope.background {
            return Err(Refusal::new(
                Code::InvalidRequest,
                "`background` is not served: its answer could not be billed.",
            )
            .hint("leave it out, and stream the answer instead")
            .into());
        }
        if envelope.endpoint.is_free() {
            return Ok((Nanos::ZERO, None));
        }
        bound::refuse_unpriced(&model.offer.price, envelope)?;
        let default = most.map_or(self.defaults.output, |most| most.min(self.defaults.output));
        let most = bound::most(model, envelope, default);
        let amount = model.offer.bound(&most, envelope.service_tier.as_deref());
        Ok((amount, Reach::first(model, envelope, most)))
    }

    /// Whether new calls are refused.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// From here on every new call is refused, those that wait in line among them.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
        self.calls.close();
        self.models.close();
    }
}

fn reserve(call: CallId, caller: &Caller, model: &Model, amount: Nanos) -> Reserve {
    Reserve {
        call,
        tenant: caller.tenant_id().clone(),
        by: caller.by.clone(),
        model: model.name.clone(),
        amount,
        price_version: model.offer.version,
    }
}

/// A shorter beginning that the tenant can pay, and its cost: nobody with money is refused for what may never come.
fn shorter(reach: Option<Reach>, available: Nanos, model: &Model, envelope: &Envelope) -> Option<(Reach, Nanos)> {
    let cost = |reach: Reach| (reach, reach.cost(&model.offer, envelope.service_tier.as_deref()));
    let mut shorter = reach?.shorter().map(cost);
    shorter.find(|(_, cost)| *cost <= available)
}

/// Everything that was charged since the month began, to every scope that it counts for.
async fn recall(spend: &Spend<SystemClock>, store: &Store, rules: &Rules) -> Result<(), StoreError> {
    let now = SystemClock.wall();
    let (day, month) = (Span::Day.start_ms(now), Span::Month.start_ms(now));
    for row in limits::charged(store, day, month).await? {
        let by = KeyId::parse(&row.caller).map(Scope::Key);
        let by = by.or_else(|_| DeviceId::parse(&row.caller).map(Scope::Device));
        let mut scopes = vec![Scope::Global, Scope::Tenant(row.tenant.clone())];
        scopes.extend(by.ok());
        scopes.extend(Endpoint::parse(&row.endpoint).map(Scope::Endpoint));
        let project = row.project.as_deref().and_then(Project::parse);
        let plan = row.plan.as_deref().and_then(AppPlan::parse);
        let parts = [
            project.map(|project| Scope::Project(row.tenant.clone(), project)),
            plan.map(|plan| Scope::Plan(row.tenant.clone(), plan)),
        ];
        scopes.extend(parts.into_iter().flatten().filter(|part| rules.of(part).is_some()));
        let mut names = vec![row.model];
        names.extend(Some(row.upstream_model).filter(|upstream| *upstream != names[0]));
        for name in names {
            scopes.push(Scope::TenantModel(row.tenant.clone(), name.clone()));
            scopes.push(Scope::Model(name));
        }
        for scope in scopes {
            spend.recall(scope, row.today, row.this_month);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
