//! What the hub answers instead of serving a call: public words for the client, the private cause for the log.
//! Each module turns its own errors into it, beside them.

use std::{error::Error, fmt};

use relay_protocol::{Code, Refusal};

/// A refusal with its cause. The cause never reaches a client: there is no Display.
pub struct Refused {
    /// What the client may read.
    pub public: Refusal,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Refused {
    /// A refusal whose cause is its own public text.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Refusal::new(code, message).into()
    }

    /// The same with a private cause for the log.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The private cause; for the log alone.
    pub fn cause(&self) -> Option<&(dyn Error + Send + Sync)> {
        self.cause.as_deref()
    }
}

impl From<Refusal> for Refused {
    fn from(public: Refusal) -> Self {
        Self { public, cause: None }
    }
}

impl fmt::Debug for Refused {
    /// The code alone: enough for a failed assertion, nothing that a log must not hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Refused").field(&self.public.code).finish()
    }
}
