//! Takes members out of a body's outermost object and puts others in. Every byte of a member that stays is the same.

use crate::{envelope::EnvelopeError, json::Walk};

/// The object without the members of these names, and with others before what stays. The values of `put` are JSON.
///
/// # Errors
/// The body is no object.
pub fn with_members(body: &[u8], without: &[&str], put: &[(&str, &str)]) -> Result<Vec<u8>, EnvelopeError> {
    let mut kept = Vec::new();
    let mut done = None;
    let inside = Walk::new(body)?.members(|member| {
        let from = done.replace(member.value.end);
        if !without.contains(&plain(member.key).as_ref()) {
            kept.push((from, member.value.end));
        }
        Ok::<_, EnvelopeError>(())
    })?;
    let mut out = Vec::with_capacity(
        body.len()
            + put
                .iter()
                .map(|(name, value)| name.len() + value.len() + 4)
                .sum::<usize>(),
    );
    out.push(b'{');
    for (name, value) in put {
        begin(&mut out);
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        out.extend_from_slice(value.as_bytes());
    }
    for (from, to) in kept {
        begin(&mut out);
        // What lies between two members is a comma and blanks.
        let member = body.get(from.unwrap_or(inside.start)..to).unwrap_or_default();
        let begins = member.iter().position(|byte| *byte == b'"').unwrap_or_default();
        out.extend_from_slice(member.get(begins..).unwrap_or_default());
    }
    out.push(b'}');
    Ok(out)
}

fn begin(out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

/// A key as it is meant. An escape that is not a character is in no name of ours.
fn plain(key: &str) -> std::borrow::Cow<'_, str> {
    if key.contains('\\') {
        serde_json::from_str(&format!("\"{key}\"")).unwrap_or_default()
    } else {
        key.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(body: &str) -> String {
        let put = [("version", "\"v1\""), ("list", "[1]")];
        String::from_utf8(with_members(body.as_bytes(), &["model", "stream", "version"], &put).unwrap()).unwrap()
    }

    #[test]
    fn a_member_that_stays_keeps_every_byte_of_itself() {
        let put = "{\"version\":\"v1\",\"list\":[1]";
        for (body, kept) in [
            ("{}", ""),
            ("{ \"model\" : \"m\" }", ""),
            ("{\"model\":\"m\",\"stream\":true}", ""),
            (
                "{\"model\":\"m\", \"messages\" :\n [ {\"model\": 1.50} ] ,\"stream\":true , \"x\":\"\\u00e9, }\"}",
                ",\"messages\" :\n [ {\"model\": 1.50} ],\"x\":\"\\u00e9, }\"",
            ),
            (
                "{\"a\":1e2,\"mod\\u0065l\":\"m\",\"version\":\"mine\",\"b\":{}}",
                ",\"a\":1e2,\"b\":{}",
            ),
        ] {
            let out = edited(body);
            assert_eq!(out, format!("{put}{kept}}}"), "{body}");
            serde_json::from_str::<serde_json::Value>(&out).unwrap();
        }
        for body in ["", "[]", "{\"a\":}", "{} x"] {
            assert!(with_members(body.as_bytes(), &[], &[]).is_err(), "{body}");
        }
    }

    #[test]
    fn nothing_taken_and_nothing_put_leaves_the_members_as_they_are() {
        let body = b"{\"b\":1,\"a\":[true,null],\"b\":\"\xf0\x9f\xa6\x80\"}";
        assert_eq!(with_members(body, &["c"], &[]).unwrap(), body);
    }
}
