//! What one caller pays for one model: a price, a factor, and the version that names both. Knows no tenant.

use std::sync::Arc;

use relay_protocol::Usage;

use super::{Cost, Most, Nanos, Price, Times};

/// The prices of a call, fixed when it is admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The list's price, or the tenant's own.
    pub price: Arc<Price>,
    /// How many times that.
    pub times: Times,
    /// The point in the history of prices from which both can be found again.
    pub version: i64,
}

impl Offer {
    /// The list's price as it is.
    pub fn listed(price: Arc<Price>) -> Self {
        let version = price.version;
        Self {
            price,
            times: Times::ONE,
            version,
        }
    }

    /// What this usage costs when the vendor says that `tier` served.
    pub fn cost(&self, usage: &Usage, tier: Option<&str>) -> Cost {
        self.price.cost(usage, tier, self.times)
    }

    /// The most that a call can cost which asks for `tier`.
    pub fn bound(&self, most: &Most, tier: Option<&str>) -> Nanos {
        self.price.bound(most, tier, self.times)
    }
}
