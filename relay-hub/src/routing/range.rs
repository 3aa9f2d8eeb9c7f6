//! Which models an account serves: those that its operator names, else as far as names tell who makes them. Knows no tenant.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::{directory::Account, limit::ModelName, store::sharing::Share, vendor::VendorKind};

/// How well an account fits a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Fit {
    /// Its operator names others.
    Unfit,
    /// Another vendor makes it. Asked all the same where no account fits better: names may mislead, and a vendor says what
    /// it has.
    Another,
    /// Nothing is known against it, or the call has not named its model yet.
    Open,
    /// Its operator names it, or its vendor makes it.
    Own,
}

/// What accounts serve. Those of one range are alike to every model.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Range {
    vendor: VendorKind,
    named: Option<Vec<ModelName>>,
}

impl Range {
    pub(super) fn of(account: &Account, share: &Share) -> Self {
        Self {
            vendor: account.vendor,
            named: share.models.clone(),
        }
    }

    pub(super) fn fit(&self, model: Option<&str>) -> Fit {
        let Some(model) = model else { return Fit::Open };
        match &self.named {
            Some(named) if named.iter().any(|name| name.covers(model)) => Fit::Own,
            Some(_) => Fit::Unfit,
            None => match self.vendor.serves(model) {
                Some(true) => Fit::Own,
                Some(false) => Fit::Another,
                None => Fit::Open,
            },
        }
    }
}

/// The same for all models that fit these ranges alike.
pub(super) fn class(ranges: &[Range], model: Option<&str>) -> u64 {
    let mut class = DefaultHasher::new();
    ranges.iter().for_each(|range| range.fit(model).hash(&mut class));
    class.finish()
}
