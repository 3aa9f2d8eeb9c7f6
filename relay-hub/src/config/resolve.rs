//! From what was written to what holds: defaults, checks, and every problem at once.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use relay_protocol::Tokens;
use relay_shared::{
    config::{Problems, read_toml},
    tls,
};

use super::{
    Config, DataDir, Egress, Https, Limits, Listen, Log,
    file::{self, File},
};

/// What the command line says; goes before the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--tunnel`: an address.
    pub tunnel: Option<String>,
    /// `--https`: an address, or `off`.
    pub https: Option<String>,
    /// `--http`: an address, or `off`.
    pub http: Option<String>,
}

impl Config {
    /// Reads `hub.toml` of a data directory.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its key and what helps.
    pub fn load(data: &DataDir, overrides: &Overrides) -> Result<Self, Problems> {
        let path = data.hub_toml();
        let name = path.display().to_string();
        let text = fs::read_to_string(&path).map_err(|error| {
            let mut problems = Problems::new();
            problems.push(&name, format!("cannot be read: {error}"), "`relay-hub init` makes one");
            problems
        })?;
        match read_toml("hub.toml", &text) {
            (Some(file), problems) => Self::resolve(data, file, overrides, problems),
            (None, problems) => Err(problems),
        }
    }

    fn resolve(data: &DataDir, file: File, overrides: &Overrides, problems: Problems) -> Result<Self, Problems> {
        let File {
            tunnel,
            https,
            http,
            limits,
            aliases,
            egress,
            log,
        } = file;
        let mut at = Resolver { data, problems };
        let tunnel = at.tunnel(&tunnel, overrides);
        let https = at.https(&https, overrides);
        let http = at.http(&http, overrides);
        at.distinct(tunnel.listen, https.as_ref().map(|https| https.listen), http);
        let limits = at.limits(&limits);
        at.aliases(&aliases);
        let extra_ca = at.extra_ca(egress.extra_ca.as_deref());
        let log = at.log(log);
        let Resolver { problems, .. } = at;
        let egress = Egress { extra_ca };
        problems.or(Self {
            data: data.clone(),
            tunnel,
            https,
            http,
            limits,
            aliases,
            egress,
            log,
        })
    }
}

struct Resolver<'a> {
    data: &'a DataDir,
    problems: Problems,
}

impl Resolver<'_> {
    fn tunnel(&mut self, file: &file::Tunnel, overrides: &Overrides) -> Listen {
        let (key, text) = pick("tunnel.listen", &file.listen, "--tunnel", &overrides.tunnel);
        let listen = self.address(key, text.unwrap_or(TUNNEL)).unwrap_or(UNUSABLE);
        let advertise = file
            .advertise
            .as_deref()
            .and_then(|text| self.advertise(text, listen.port()));
        Listen { listen, advertise }
    }

    /// `host:port`, with the port of the tunnel where none is named.
    fn advertise(&mut self, text: &str, port: u16) -> Option<String> {
        let key = "tunnel.advertise";
        let (host, named) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (format!("[{host}]"), rest.strip_prefix(':')),
            None if text.parse::<std::net::Ipv6Addr>().is_ok() => (format!("[{text}]"), None),
            None => match text.split_once(':') {
                Some((host, port)) => (host.to_owned(), Some(port)),
                None => (text.to_owned(), None),
            },
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let is_host = !bare.is_empty()
            && bare.len() <= 253
            && (bare.parse::<IpAddr>().is_ok()
                || bare.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)));
        if !is_host {
            self.problems.push(
                key,
                format!("`{}` names no host", shown(text)),
                "write it like hub.example.com or hub.example.com:8443",
            );
            return None;
        }
        let port = match named {
            Some(named) => named.parse().ok().filter(|port| *port != 0),
            None => Some(port).filter(|port| *port != 0),
        };
        if port.is_none() {
            let hint = "name the port that devices reach, like hub.example.com:8443";
            self.problems
                .push(key, format!("`{}` has no usable port", shown(text)), hint);
        }
        port.map(|port| format!("{host}:{port}"))
    }

    fn https(&mut self, file: &file::Https, overrides: &Overrides) -> Option<Https> {
        let (key, text) = pick("https.listen", &file.listen, "--https", &overrides.https);
        let text = text.unwrap_or(HTTPS);
        let pair = match (&file.certificate, &file.key) {
            (Some(certificate), Some(key)) => Some((self.path(certificate), self.path(key))),
            (None, None) => None,
            (Some(_), None) => {
                self.problems
                    .push("https.key", "is missing", "a certificate needs its private key");
                None
            }
            (None, Some(_)) => {
                self.problems.push(
                    "https.certificate",
                    "is missing",
                    "a private key needs its certificate chain",
                );
                None
            }
        };
        if let Some((certificate, key)) = &pair {
            self.pem("https.certificate", certificate, |pem| tls::certificates(pem).map(drop));
            self.pem("https.key", key, |pem| tls::private_key(pem).map(drop));
        }
        if text == OFF {
            return None;
        }
        let listen = self.address(key, text)?;
        let own = || (self.data.server_certificate(), self.data.server_key());
        let (certificate, key) = pair.unwrap_or_else(own);
        Some(Https {
            listen,
            certificate,
            key,
        })
    }

    fn http(&mut self, file: &file::Http, overrides: &Overrides) -> Option<SocketAddr> {
        let (key, text) = pick("http.listen", &file.listen, "--http", &overrides.http);
        let text = text.unwrap_or(OFF);
        if text == OFF {
            return None;
        }
        let listen = self.address(key, text)?;
        if !listen.ip().is_loopback() {
            let hint = "keys would cross the network in clear: use 127.0.0.1 or [::1], or the https entrance";
            self.problems
                .push(key, format!("{listen} is not a loopback address"), hint);
        }
        Some(listen)
    }

    /// Two entrances on one TCP port would fail at start, one after the other.
    fn distinct(&mut self, tunnel: SocketAddr, https: Option<SocketAddr>, http: Option<SocketAddr>) {
        let clash = |a: SocketAddr, b: SocketAddr| {
            let any = a.ip().is_unspecified() || b.ip().is_unspecified();
            a.port() != 0 && a.port() == b.port() && (any || a.ip() == b.ip())
        };
        let hint = "each entrance needs a port of its own";
        if let Some(https) = https.filter(|https| clash(*https, tunnel)) {
            self.problems
                .push("https.listen", format!("{https} is the tunnel's port as well"), hint);
        }
        if let Some(http) = http.filter(|http| clash(*http, tunnel) || https.is_some_and(|https| clash(*http, https))) {
            self.problems.push(
                "http.listen",
                format!("{http} is another entrance's port as well"),
                hint,
            );
        }
    }

    fn limits(&mut self, file: &file::Limits) -> Limits {
        let mut number = |key: &str, value: Option<u64>, default: u64, range: std::ops::RangeInclusive<u64>| {
            let value = value.unwrap_or(default);
            if range.contains(&value) {
                return value;
            }
            let problem = format!("{value} is out of range");
            let hint = format!("from {} to {}; the default is {default}", range.start(), range.end());
            self.problems.push(format!("limits.{key}"), problem, hint);
            default
        };
        let head_bytes = number("head_bytes", file.head_bytes, 64 << 10, 4 << 10..=1 << 20);
        let body_bytes = number("body_bytes", file.body_bytes, 64 << 20, 1 << 10..=1 << 30);
        let ratio = number("decode_ratio", file.decode_ratio, 200, 1..=10_000);
        let body_memory = number(
            "body_memory_bytes",
            file.body_memory_bytes,
            512 << 20,
            1 << 20..=1 << 40,
        );
        let calls_per_tenant = number("calls_per_tenant", file.calls_per_tenant, 10_000, 1..=1_000_000);
        let output = number(
            "default_output_tokens",
            file.default_output_tokens,
            8192,
            1..=10_000_000,
        );
        let mut seconds = |key, value, default| Duration::from_secs(number(key, value, default, 1..=86_400));
        let first_byte_timeout = seconds("first_byte_seconds", file.first_byte_seconds, 600);
        let idle_timeout = seconds("idle_seconds", file.idle_seconds, 300);
        let drain_timeout = seconds("drain_seconds", file.drain_seconds, 600);
        let vendor_connect_timeout = seconds("vendor_connect_seconds", file.vendor_connect_seconds, 5);
        if body_memory < body_bytes {
            let hint = "no body of the allowed size would ever fit";
            self.problems.push(
                "limits.body_memory_bytes",
                format!("{body_memory} is less than body_bytes"),
                hint,
            );
        }
        let size = |n| usize::try_from(n).unwrap_or(usize::MAX);
        Limits {
            head_bytes: size(head_bytes),
            body_bytes: size(body_bytes),
            ratio: size(ratio),
            body_memory: size(body_memory),
            calls_per_tenant: size(calls_per_tenant),
            default_hold_output: Tokens::new(output),
            first_byte_timeout,
            idle_timeout,
            drain_timeout,
            vendor_connect_timeout,
        }
    }

    fn aliases(&mut self, aliases: &BTreeMap<String, String>) {
        for (alias, model) in aliases {
            let key = format!("aliases.\"{}\"", shown(alias));
            if alias.trim().is_empty() || model.trim().is_empty() {
                self.problems
                    .push(key, "is empty", "write it like \"fast\" = \"gpt-5.4-mini\"");
            } else if alias == model {
                self.problems
                    .push(key, "stands for itself", "remove the line: a model needs no alias");
            } else if aliases.contains_key(model) {
                self.problems.push(
                    key,
                    format!("stands for the alias `{}`", shown(model)),
                    "name the vendor's model",
                );
            }
        }
    }

    fn extra_ca(&mut self, text: Option<&str>) -> Option<PathBuf> {
        let path = self.path(text?);
        self.pem("egress.extra_ca", &path, |pem| tls::certificates(pem).map(drop));
        Some(path)
    }

    fn log(&mut self, file: file::Log) -> Log {
        let filter = file.filter.unwrap_or_else(|| "info".to_owned());
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&filter) {
            let hint = "use error, warn, info, debug or trace, or a list such as \"info,relay_hub=debug\"";
            self.problems.push(
                "log.filter",
                format!("`{}` is no filter: {error}", shown(&filter)),
                hint,
            );
        }
        Log {
            filter,
            json: file.json.unwrap_or(false),
        }
    }

    fn address(&mut self, key: &str, text: &str) -> Option<SocketAddr> {
        let read = text.trim().parse().ok();
        if read.is_none() {
            let hint = "write an IP address and a port, like 0.0.0.0:8443 or [::1]:8443";
            self.problems
                .push(key, format!("`{}` is not an address", shown(text)), hint);
        }
        read
    }

    fn pem(&mut self, key: &str, path: &Path, read: impl Fn(&[u8]) -> Result<(), tls::TlsError>) {
        match fs::read(path) {
            Err(error) => {
                let problem = format!("{} cannot be read: {error}", path.display());
                self.problems
                    .push(key, problem, "paths are relative to the data directory");
            }
            Ok(bytes) => {
                if let Err(error) = read(&bytes) {
                    self.problems.push(
                        key,
                        format!("{} cannot be used: {error}", path.display()),
                        "it must be PEM",
                    );
                }
            }
        }
    }

    fn path(&self, text: &str) -> PathBuf {
        self.data.path().join(text)
    }
}

/// The flag's text goes before the file's; a problem names where the text is from.
fn pick<'a>(
    key: &'static str,
    file: &'a Option<String>,
    flag: &'static str,
    given: &'a Option<String>,
) -> (&'static str, Option<&'a str>) {
    match given {
        Some(text) => (flag, Some(text)),
        None => (key, file.as_deref()),
    }
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

const TUNNEL: &str = "0.0.0.0:8443";
const HTTPS: &str = "0.0.0.0:8444";
const OFF: &str = "off";
/// Stands in where the address has a problem; the problem keeps it from being used.
const UNUSABLE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, overrides: &Overrides) -> Result<Config, Problems> {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        fs::write(data.hub_toml(), text).unwrap();
        Config::load(&data, overrides)
    }

    #[test]
    fn the_file_that_init_writes_says_the_defaults() {
        let text = include_str!("hub.toml");
        let plain = load(text, &Overrides::default()).unwrap();
        // The same with every default spelled out.
        let spelled: String = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')) => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .filter(|line| {
                !["advertise", "certificate", "key =", "\"fast", "extra_ca"]
                    .iter()
                    .any(|key| line.starts_with(key))
            })
            .collect();
        assert!(spelled.contains("\nidle_seconds = 300"));
        let spelled = load(&spelled, &Overrides::default()).unwrap();
        let unplaced = |config: Config| Config {
            data: DataDir::new(""),
            https: None,
            ..config
        };
        assert_eq!(unplaced(spelled), unplaced(plain));
    }

    #[test]
    fn all_problems_are_told_at_once_with_key_and_hint() {
        let text = "[tunnel]\nlisten = \"here\"\nadvertise = \"https://hub\"\n[https]\nlisten = \"0.0.0.0:1\"\ncertificate = \"lost.pem\"\n\
                    [http]\nlisten = \"0.0.0.0:1\"\n[limits]\nidle_seconds = 0\n[aliases]\na = \"a\"\n[egress]\nextra_ca = \"lost.pem\"\n\
                    [log]\nfilter = \"a=b=c\"\n";
        let problems = load(text, &Overrides::default()).unwrap_err();
        let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
        let expected = [
            "tunnel.listen",
            "tunnel.advertise",
            "https.key",
            "http.listen",
            "http.listen",
            "limits.idle_seconds",
            "aliases.\"a\"",
            "egress.extra_ca",
            "log.filter",
        ];
        assert_eq!(keys, expected);
        assert!(problems.iter().all(|problem| !problem.hint.is_empty()));
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_told_together() {
        let problems = load(
            "[tunel]\n[limits]\nidle_seconds = \"long\"\nbody_byte = 1\n",
            &Overrides::default(),
        )
        .unwrap_err();
        let text = problems.to_string();
        for part in [
            "tunel",
            "did you mean `tunnel`?",
            "idle_seconds",
            "did you mean `body_bytes`?",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn flags_go_before_the_file_and_are_named_in_problems() {
        let flags = |tunnel: &str, http: &str| Overrides {
            tunnel: Some(tunnel.into()),
            https: Some("off".into()),
            http: Some(http.into()),
        };
        let config = load("[tunnel]\nlisten = \"0.0.0.0:1\"\n", &flags("127.0.0.1:0", "[::1]:0")).unwrap();
        assert_eq!(
            (config.tunnel.listen.port(), config.https, config.http.map(|a| a.port())),
            (0, None, Some(0))
        );
        let problems = load("", &flags("x", "10.0.0.1:80")).unwrap_err();
        let keys: Vec<_> = problems.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(keys, ["--tunnel", "--http"]);
    }

    #[test]
    fn a_missing_file_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let problems = Config::load(&DataDir::new(dir.path()), &Overrides::default()).unwrap_err();
        assert!(problems.to_string().contains("relay-hub init"), "{problems}");
    }

    #[test]
    fn an_advertised_host_gets_the_tunnels_port() {
        for (text, expected) in [
            ("hub.example", "hub.example:8443"),
            ("hub.example:9", "hub.example:9"),
            ("::1", "[::1]:8443"),
            ("[::1]:9", "[::1]:9"),
        ] {
            let config = load(&format!("[tunnel]\nadvertise = \"{text}\"\n"), &Overrides::default()).unwrap();
            assert_eq!(config.tunnel.advertise.as_deref(), Some(expected));
        }
    }
}
