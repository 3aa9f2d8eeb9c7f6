//! What a vendor wants to see again and nobody else can read: signatures of thoughts, reasoning under its lock. A client
//! keeps it where its own wire has a place for such a thing, and sends it back.

use crate::lane::VendorWire;

/// Bytes that only one wire understands.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub struct Opaque {
    /// Whose they are. No other wire is given them.
    pub wire: VendorWire,
    /// As the vendor wrote them, mostly base64.
    pub data: String,
}

/// Tells that what follows is another wire's: `relay.g.`.
const CARRIED: &str = "relay.";

impl Opaque {
    /// Between a call's id and what is carried with it. Fit for the ids of every wire: letters, digits, `_` and `-`.
    pub(crate) const WITH_CALL: &str = "__sig";

    /// To be kept by a client of the wire `own`, in a place of its wire for such a thing. [`Self::of_client`] reads it
    /// again.
    #[must_use]
    pub fn for_client(&self, own: VendorWire) -> String {
        if self.wire == own {
            return self.data.clone();
        }
        format!("{CARRIED}{}.{}", self.wire.tag(), self.data)
    }

    /// What a client of the wire `own` sent in such a place.
    #[must_use]
    pub fn of_client(own: VendorWire, kept: &str) -> Self {
        let carried = kept.strip_prefix(CARRIED).and_then(|rest| rest.split_once('.'));
        let carried = carried.and_then(|(tag, data)| Some((VendorWire::of_tag(tag)?, data)));
        let (wire, data) = carried.unwrap_or((own, kept));
        Self {
            wire,
            data: data.to_owned(),
        }
    }

    /// The data, where it is meant for `wire`.
    #[must_use]
    pub fn of(&self, wire: VendorWire) -> Option<&str> {
        (self.wire == wire).then_some(self.data.as_str())
    }

    /// A call's id that carries this along, for a client whose wire has no place for it beside a call. Only base64 of
    /// the standard alphabet can be carried; other data is left out.
    #[must_use]
    pub fn on_call(id: &str, opaque: Option<&Self>) -> String {
        let Some(opaque) = opaque else {
            return id.to_owned();
        };
        let url_safe: Option<String> = opaque.data.trim_end_matches('=').chars().map(url_safe).collect();
        match url_safe {
            Some(data) => format!("{id}{}{}_{data}", Self::WITH_CALL, opaque.wire.tag()),
            None => id.to_owned(),
        }
    }

    /// A call's id as a client sent it: the vendor's own, and what it carries.
    #[must_use]
    pub fn off_call(id: &str) -> (String, Option<Self>) {
        let carried = id.split_once(Self::WITH_CALL).and_then(|(id, rest)| {
            let (tag, data) = rest.split_once('_')?;
            Some((id, VendorWire::of_tag(tag)?, data))
        });
        let Some((id, wire, data)) = carried else {
            return (id.to_owned(), None);
        };
        let mut data: String = data.chars().map(standard).collect();
        while !data.len().is_multiple_of(4) {
            data.push('=');
        }
        (id.to_owned(), Some(Self { wire, data }))
    }
}

const fn url_safe(c: char) -> Option<char> {
    match c {
        '+' => Some('-'),
        '/' => Some('_'),
        'a'..='z' | 'A'..='Z' | '0'..='9' => Some(c),
        _ => None,
    }
}

const fn standard(c: char) -> char {
    match c {
        '-' => '+',
        '_' => '/',
        other => other,
    }
}

/// The name of a tool, and the group it belongs to.
#[derive(Clone, PartialEq, Eq, Hash)]
#[cfg_attr(test, derive(Debug))]
pub struct CallName {
    /// Responses: the `namespace` of a function. [`crate::turn::Flat`] makes one name of both for other wires.
    pub namespace: Option<String>,
    /// Its name there.
    pub name: String,
}

impl CallName {
    /// One that belongs to no group.
    #[must_use]
    pub fn plain(name: impl Into<String>) -> Self {
        Self {
            namespace: None,
            name: name.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_keeps_comes_back_to_its_own_wire_alone() {
        for wire in VendorWire::ALL {
            for own in VendorWire::ALL {
                let opaque = Opaque {
                    wire,
                    data: "EvAB+/=.x".to_owned(),
                };
                let kept = opaque.for_client(own);
                assert_eq!(kept == opaque.data, wire == own);
                let back = Opaque::of_client(own, &kept);
                assert_eq!(back, opaque);
                assert_eq!(back.of(own).is_some(), wire == own);
            }
        }
        for own in ["gAAA", "relay.", "relay.z.x", ""] {
            let read = Opaque::of_client(VendorWire::Responses, own);
            assert_eq!((read.wire, read.data.as_str()), (VendorWire::Responses, own));
        }
    }

    #[test]
    fn a_calls_id_carries_a_signature_in_letters_that_every_wire_takes() {
        for data in ["EvAB+/9z", "YQ==", "YWI=", ""] {
            let opaque = Opaque {
                wire: VendorWire::Gemini,
                data: data.to_owned(),
            };
            let id = Opaque::on_call("call_1", Some(&opaque));
            assert!(
                id.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
            );
            assert_eq!(Opaque::off_call(&id), ("call_1".to_owned(), Some(opaque)));
        }
        assert_eq!(Opaque::on_call("call_1", None), "call_1");
        for id in ["call_1", "call__sigx", "call__sigz_x", ""] {
            assert_eq!(Opaque::off_call(id), (id.to_owned(), None));
        }
    }
}
