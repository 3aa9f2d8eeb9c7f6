//! `relay-hub check-config`: every problem at once.

use serde_json::json;

use super::{Desk, Failure, failure::listed};
use crate::config::{Config, Overrides};

pub(super) fn run(desk: &mut Desk<'_>) -> Result<(), Failure> {
    match Config::load(&desk.data, &Overrides::default()) {
        Ok(config) => {
            let off = || "off".to_owned();
            let https = config.https.map_or_else(off, |https| https.listen.to_string());
            let http = config.http.map_or_else(off, |listen| listen.to_string());
            let metrics = config.metrics.map_or_else(off, |listen| listen.to_string());
            let tunnel = config.tunnel.listen.to_string();
            let line = format!("ok: tunnel {tunnel}, https {https}, http {http}, metrics {metrics}");
            Ok(desk.print.done(
                &json!({"ok": true, "tunnel": tunnel, "https": https, "http": http, "metrics": metrics}),
                &line,
            )?)
        }
        Err(problems) => {
            if desk.print.is_json() {
                desk.print.json(&json!({"ok": false, "problems": listed(&problems)}))?;
            }
            Err(problems.into())
        }
    }
}
