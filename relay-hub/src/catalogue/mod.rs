//! Public model names: what they are called at the vendor, what they cost, what they can take. Knows no money but prices.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use relay_protocol::{Code, Refusal, Tokens};

use crate::{
    directory::{Directory, DirectoryHandle},
    identity::Caller,
    money::Offer,
    refusal::Refused,
};

/// A model a caller may use.
#[derive(Debug, Clone)]
pub struct Model {
    /// As asked for.
    pub name: String,
    /// As the vendor calls it.
    pub upstream: String,
    /// What it costs the caller; the version is fixed for the whole call.
    pub offer: Offer,
    /// Context window.
    pub context: Tokens,
    /// Most output of one call.
    pub max_output: Tokens,
}

impl Model {
    /// The context window that clients are told of: it ends where the default tier's price jumps, so that a client
    /// which compacts its history does so before every turn costs more.
    pub fn context_told(&self) -> Tokens {
        let jump = self.offer.price.standard.long.first();
        jump.map_or(self.context, |long| long.above.min(self.context))
    }
}

/// All models, with the operator's aliases.
#[derive(Clone)]
pub struct Catalogue {
    directory: DirectoryHandle,
    aliases: Arc<BTreeMap<String, String>>,
}

impl Catalogue {
    /// Over the price list and the aliases of `hub.toml`.
    pub fn new(directory: DirectoryHandle, aliases: BTreeMap<String, String>) -> Self {
        Self {
            directory,
            aliases: Arc::new(aliases),
        }
    }

    /// The model of that name, or `model_not_found`. A model without a price is not served.
    pub async fn model(&self, caller: &Caller, name: &str) -> Result<Model, Refused> {
        if let Some(model) = self.find(&self.directory.load(), caller, name) {
            return Ok(model);
        }
        self.find(&*self.directory.refresh().await, caller, name)
            .ok_or_else(|| unknown(name))
    }

    /// The model that serves the caller in place of `asked` when its credit is used up, under the name asked for.
    pub fn instead(&self, caller: &Caller, asked: &Model) -> Option<Model> {
        let directory = self.directory.load();
        let name = directory.downgrades.get(caller.tenant_id())?;
        let model = self.find(&directory, caller, name)?;
        (model.upstream != asked.upstream).then(|| Model {
            name: asked.name.clone(),
            ..model
        })
    }

    /// Every model the caller may use, by name; aliases among them.
    pub fn models(&self, caller: &Caller) -> Vec<Model> {
        let directory = self.directory.load();
        let names: BTreeSet<&str> = directory
            .prices
            .keys()
            .chain(self.aliases.keys())
            .map(String::as_str)
            .collect();
        names
            .into_iter()
            .filter_map(|name| self.find(&directory, caller, name))
            .collect()
    }

    /// Whether the vendor's model of that name is offered under another one.
    pub fn has_alias(&self, upstream: &str) -> bool {
        self.aliases.values().any(|model| model == upstream)
    }

    fn find(&self, directory: &Directory, caller: &Caller, name: &str) -> Option<Model> {
        let upstream = self.aliases.get(name).map_or(name, String::as_str);
        let listed = directory.prices.get(upstream)?;
        let terms = directory.terms.get(caller.tenant_id());
        let offer = terms.map_or_else(
            || Offer::listed(listed.price.clone()),
            |terms| terms.offer(upstream, &listed.price),
        );
        Some(Model {
            name: name.to_owned(),
            upstream: upstream.to_owned(),
            offer,
            context: listed.context,
            max_output: listed.max_output,
        })
    }
}

/// The refusal of a model that its caller cannot have.
pub fn unknown(name: &str) -> Refused {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(LONGEST_SHOWN).collect();
    Refusal::new(
        Code::ModelNotFound,
        format!("The model `{shown}` does not exist or is not offered by this relay"),
    )
    .hint("GET /v1/models lists the models; the operator adds one with `relay-hub price set`")
    .into()
}

const LONGEST_SHOWN: usize = 80;

#[cfg(test)]
mod tests;
