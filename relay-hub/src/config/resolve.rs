//! From what stands in `hub.toml` and on the command line to a whole [`Config`]: defaults, ranges, contradictions.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use relay_protocol::{Family, Tokens};
use relay_shared::{
    config::{self, Problems},
    tls::{self, TlsError},
};
use toml::Spanned;

use super::{
    Config, DataDir, Door, Egress, Https, Limits, Listen, Log, Overrides, PublicRules,
    file::{self, Entry, File},
    value::{Read, Size},
};

/// Resolves the text of a `hub.toml`.
pub(super) fn resolve(data: &DataDir, text: &str, overrides: &Overrides) -> Result<Config, Problems> {
    let (file, problems) = config::read_toml::<File>(NAME, text);
    let Some(file) = file else {
        return Err(problems);
    };
    let mut reader = Reader {
        text,
        home: data.path().to_owned(),
        problems,
    };
    let File {
        tunnel,
        https,
        http,
        metrics,
        limits,
        aliases,
        public,
        hosts,
        egress,
        countries,
        log,
    } = file;
    let config = Config {
        tunnel: reader.tunnel(tunnel, overrides),
        https: reader.https(data, https, overrides),
        public: PublicRules {
            hosts: reader.hosts(hosts),
            cors_origins: reader.origins(public),
        },
        http: reader.http(http, overrides),
        metrics: reader.metrics(metrics),
        limits: reader.limits(limits),
        aliases: reader.aliases(aliases),
        egress: reader.egress(egress),
        countries: reader.countries(countries),
        log: reader.log(log, overrides),
        data: data.clone(),
    };
    reader.same_port(&config);
    reader.problems.or(config)
}

/// Takes values out of the file and notes what is wrong with them.
struct Reader<'a> {
    text: &'a str,
    home: PathBuf,
    problems: Problems,
}

impl Reader<'_> {
    fn tunnel(&mut self, file: file::Tunnel, overrides: &Overrides) -> Listen {
        let file::Tunnel { listen, advertise } = file;
        let listen = self.read("tunnel.listen", listen, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8443)));
        let listen = overrides.tunnel.unwrap_or(listen);
        let advertise = advertise.and_then(|entry| self.advertise(&entry, listen));
        Listen { listen, advertise }
    }

    /// `host:port`: a port that is not named is the one listened on.
    fn advertise(&mut self, entry: &Spanned<String>, listen: SocketAddr) -> Option<String> {
        let (key, text) = ("tunnel.advertise", entry.get_ref());
        let Some((host, port)) = host_and_port(text) else {
            let problem = format!("`{text}` is no host");
            let hint = "write a name or address, such as \"relay.example.com\" or \"relay.example.com:8443\"";
            self.wrong(key, entry, problem, hint);
            return None;
        };
        let port = port.unwrap_or_else(|| listen.port());
        if port == 0 {
            let hint = "write the port devices dial, such as \"relay.example.com:8443\"";
            self.wrong(key, entry, "the port is not known while tunnel.listen has port 0", hint);
        }
        Some(format!("{host}:{port}"))
    }

    fn https(&mut self, data: &DataDir, file: file::Https, overrides: &Overrides) -> Option<Https> {
        let file::Https {
            listen,
            certificate,
            key,
        } = file;
        let default = Door::At(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8444)));
        let door = self.read("https.listen", listen, default);
        for (one, other, here, missing) in [
            (&certificate, &key, "https.certificate", "https.key"),
            (&key, &certificate, "https.key", "https.certificate"),
        ] {
            if let (Some(entry), None) = (one, other) {
                let hint = format!("name {missing} as well, or neither for the hub's own certificate");
                self.wrong(here, entry, format!("{missing} is missing beside it"), hint);
            }
        }
        let certificate = self.pem("https.certificate", certificate.as_ref(), is_chain);
        let key = self.pem("https.key", key.as_ref(), is_key);
        match overrides.https.unwrap_or(door) {
            Door::Closed => None,
            Door::At(listen) => Some(Https {
                listen,
                certificate: certificate.unwrap_or_else(|| data.server_certificate()),
                key: key.unwrap_or_else(|| data.server_key()),
            }),
        }
    }

    fn http(&mut self, file: file::Http, overrides: &Overrides) -> Option<SocketAddr> {
        const OPEN: &str = "without TLS only this machine may connect: use 127.0.0.1 or [::1], or https.listen";
        let file::Http { listen } = file;
        let (mut key, mut door) = self.door("http.listen", listen);
        if let Some(flag) = overrides.http {
            (door, key) = (flag, "--http".to_owned());
        }
        self.loopback(key, door, OPEN)
    }

    fn metrics(&mut self, file: file::Metrics) -> Option<SocketAddr> {
        const OPEN: &str = "only this machine may read them: use 127.0.0.1 or [::1], and a proxy for others";
        let file::Metrics { listen } = file;
        let (key, door) = self.door("metrics.listen", listen);
        self.loopback(key, door, OPEN)
    }

    /// A door that is closed unless it is named, and where it was.
    fn door(&mut self, key: &str, listen: Entry<Read<Door>>) -> (String, Door) {
        let place = listen.as_ref().map(Spanned::span);
        let door = self.read(key, listen, Door::Closed);
        let key = place.map_or_else(|| key.to_owned(), |span| self.place(key, span));
        (key, door)
    }

    fn loopback(&mut self, key: String, door: Door, hint: &str) -> Option<SocketAddr> {
        match door {
            Door::Closed => None,
            Door::At(address) if address.ip().is_loopback() => Some(address),
            Door::At(address) => {
                self.problems
                    .push(key, format!("{address} is not a loopback address"), hint);
                None
            }
        }
    }

    fn limits(&mut self, file: file::Limits) -> Limits {
        let file::Limits {
            head_bytes,
            body_bytes,
            ratio,
            body_memory,
            calls_per_tenant,
            queue_calls,
            queue_calls_per_tenant,
            queue_wait,
            calls_per_connection,
            default_hold_output,
            first_byte_timeout,
            idle_timeout,
            drain_timeout,
            vendor_connect_timeout,
            abort_drain_timeout,
            abort_drain_bytes,
            attempts,
            retry_timeout,
            pin_lifetime,
            pins,
        } = file;
        let memory_place = body_memory.as_ref().map(Spanned::span);
        let [kib, mib, gib] = [10, 20, 30].map(|shift| move |n: usize| Size(n << shift));
        let head_bytes = self.within("limits.head_bytes", head_bytes, kib(64), kib(8), mib(1));
        let body_bytes = self.within("limits.body_bytes", body_bytes, mib(64), kib(64), gib(1));
        let body_memory = self.within("limits.body_memory", body_memory, mib(512), kib(64), gib(1024));
        if body_memory < body_bytes {
            let key = memory_place.map_or_else(
                || "limits.body_memory".to_owned(),
                |span| self.place("limits.body_memory", span),
            );
            let problem = format!("{body_memory} does not hold one body of limits.body_bytes ({body_bytes})");
            self.problems
                .push(key, problem, "make it larger, or limits.body_bytes smaller");
        }
        Limits {
            head_bytes: head_bytes.0,
            body_bytes: body_bytes.0,
            body_memory: body_memory.0,
            ratio: self.within("limits.ratio", ratio, 200, 1, 100_000),
            calls_per_tenant: self.within("limits.calls_per_tenant", calls_per_tenant, 10_000, 1, 1_000_000),
            queue_calls: self.within("limits.queue_calls", queue_calls, 1_024, 0, 1_000_000),
            queue_calls_per_tenant: self.within(
                "limits.queue_calls_per_tenant",
                queue_calls_per_tenant,
                128,
                0,
                1_000_000,
            ),
            queue_wait: self.lasting("limits.queue_wait", queue_wait, 10),
            calls_per_connection: self.within("limits.calls_per_connection", calls_per_connection, 512, 1, 16_384),
            default_hold_output: self.within(
                "limits.default_hold_output",
                default_hold_output,
                Tokens::new(8_192),
                Tokens::new(1),
                Tokens::new(10_000_000),
            ),
            first_byte_timeout: self.lasting("limits.first_byte_timeout", first_byte_timeout, 600),
            idle_timeout: self.lasting("limits.idle_timeout", idle_timeout, 300),
            drain_timeout: self.lasting("limits.drain_timeout", drain_timeout, 600),
            vendor_connect_timeout: self.lasting("limits.vendor_connect_timeout", vendor_connect_timeout, 5),
            abort_drain_timeout: self.lasting("limits.abort_drain_timeout", abort_drain_timeout, 60),
            abort_drain_bytes: self
                .within("limits.abort_drain_bytes", abort_drain_bytes, mib(16), kib(1), gib(1))
                .0,
            attempts: self.within("limits.attempts", attempts, 3, 1, 10),
            retry_timeout: self.lasting("limits.retry_timeout", retry_timeout, 30),
            pin_lifetime: self.lasting("limits.pin_lifetime", pin_lifetime, 24 * 3_600),
            pins: self.within("limits.pins", pins, 262_144, 1_024, 16_777_216),
        }
    }

    fn aliases(&mut self, file: BTreeMap<String, Spanned<String>>) -> BTreeMap<String, String> {
        for (name, target) in &file {
            let (key, to) = (format!("aliases.{name}"), target.get_ref());
            if name.trim().is_empty() || to.trim().is_empty() {
                self.wrong(
                    &key,
                    target,
                    "a model's name is empty",
                    "write aliases.\"public-name\" = \"model\"",
                );
            } else if to == name {
                let hint = "take the line out: a model needs no alias to be called by its own name";
                self.wrong(&key, target, "the alias stands for itself", hint);
            } else if file.contains_key(to) {
                let problem = format!("`{to}` is an alias itself");
                self.wrong(&key, target, problem, "name the model that it stands for");
            }
        }
        file.into_iter()
            .map(|(name, target)| (name, target.into_inner()))
            .collect()
    }

    fn hosts(&mut self, file: BTreeMap<String, Spanned<String>>) -> BTreeMap<String, Family> {
        let mut hosts = BTreeMap::new();
        for (name, entry) in file {
            let key = format!("hosts.\"{name}\"");
            let host = host_and_port(&name).and_then(|(host, port)| port.is_none().then_some(host));
            let family = Family::parse(entry.get_ref());
            if host.is_none() {
                let hint = "write a name without a port, such as hosts.\"claude.example.com\" = \"anthropic\"";
                self.wrong(&key, &entry, format!("`{name}` is no host"), hint);
            }
            if family.is_none() {
                let names = Family::ALL.map(Family::name).join(", ");
                let problem = format!("`{}` is no protocol", entry.get_ref());
                self.wrong(&key, &entry, problem, format!("there are {names}"));
            }
            let known = host.zip(family);
            let known = known.map(|(host, family)| (host.trim_end_matches('.').to_ascii_lowercase(), family));
            if let Some((host, family)) = known
                && hosts.insert(host, family).is_some()
            {
                self.wrong(&key, &entry, "the host is there twice", "name each host once");
            }
        }
        hosts
    }

    fn origins(&mut self, file: file::Public) -> BTreeSet<String> {
        let file::Public { cors_origins } = file;
        for entry in &cors_origins {
            if !is_origin(entry.get_ref()) {
                let problem = format!("`{}` is no origin", entry.get_ref());
                let hint = "write it as browsers do: \"https://app.example.com\", in small letters, with a port where it is not \
                            the usual one, and nothing behind it";
                self.wrong("public.cors_origins", entry, problem, hint);
            }
        }
        cors_origins.into_iter().map(Spanned::into_inner).collect()
    }

    fn egress(&mut self, file: file::Egress) -> Egress {
        let file::Egress { extra_ca } = file;
        Egress {
            extra_ca: self.pem("egress.extra_ca", extra_ca.as_ref(), is_chain),
        }
    }

    /// What is in the file is looked at when the hub starts.
    fn countries(&mut self, file: file::Countries) -> Option<PathBuf> {
        let file::Countries { database } = file;
        self.pem("countries.database", database.as_ref(), |_| Ok(()))
    }

    fn log(&mut self, file: file::Log, overrides: &Overrides) -> Log {
        let file::Log { filter, json } = file;
        let of_file = filter.map_or_else(|| "info".to_owned(), |entry| self.filter("log.filter", entry));
        Log {
            filter: overrides.log.clone().unwrap_or(of_file),
            json: json.is_some_and(Spanned::into_inner),
        }
    }

    fn filter(&mut self, key: &str, entry: Spanned<String>) -> String {
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(entry.get_ref()) {
            let hint = "write a level such as \"info\", or levels by part such as \"info,relay_hub=debug\"";
            self.wrong(key, &entry, error, hint);
        }
        entry.into_inner()
    }

    /// Two entrances cannot have the same TCP port.
    fn same_port(&mut self, config: &Config) {
        let doors = [
            ("tunnel.listen", Some(config.tunnel.listen)),
            ("https.listen", config.https.as_ref().map(|https| https.listen)),
            ("http.listen", config.http),
            ("metrics.listen", config.metrics),
        ];
        for (at, (key, one)) in doors.iter().enumerate() {
            for (other_key, other) in &doors[..at] {
                if let (Some(one), Some(other)) = (one, other)
                    && collide(*one, *other)
                {
                    let problem = format!("{one} is taken by {other_key} already");
                    self.problems
                        .push(*key, problem, "give each entrance a port of its own");
                }
            }
        }
    }

    fn lasting(&mut self, key: &str, entry: Entry<Read<Duration>>, default_seconds: u64) -> Duration {
        let (shortest, longest) = (Duration::from_millis(100), Duration::from_secs(24 * 3_600));
        let span = entry.as_ref().map(Spanned::span);
        let value = self.read(key, entry, Duration::from_secs(default_seconds));
        if (shortest..=longest).contains(&value) {
            return value;
        }
        let place = span.map_or_else(|| key.to_owned(), |span| self.place(key, span));
        self.problems.push(
            place,
            format!("{value:?} is out of range"),
            "write something between \"100ms\" and \"24h\"",
        );
        value
    }

    fn within<T>(&mut self, key: &str, entry: Entry<Read<T>>, default: T, least: T, most: T) -> T
    where
        T: PartialOrd + Display,
    {
        let span = entry.as_ref().map(Spanned::span);
        let value = self.read(key, entry, default);
        if value < least || value > most {
            let place = span.map_or_else(|| key.to_owned(), |span| self.place(key, span));
            let hint = format!("write something between {least} and {most}");
            self.problems.push(place, format!("{value} is out of range"), hint);
        }
        value
    }

    fn read<T>(&mut self, key: &str, entry: Entry<Read<T>>, default: T) -> T {
        let Some(entry) = entry else {
            return default;
        };
        let place = self.place(key, entry.span());
        match entry.into_inner().0 {
            Ok(value) => value,
            Err(fault) => {
                self.problems.push(place, fault.problem, fault.hint);
                default
            }
        }
    }

    /// A PEM file that must be there and hold what it should.
    fn pem(&mut self, key: &str, entry: Option<&Spanned<String>>, is_good: IsGood) -> Option<PathBuf> {
        let entry = entry?;
        let path = self.home.join(Path::new(entry.get_ref()));
        match fs::read(&path) {
            Err(error) => {
                let problem = format!("cannot read {}: {error}", path.display());
                let hint = "correct the path, or let the hub's user read the file; relative paths start at hub.toml";
                self.wrong(key, entry, problem, hint);
            }
            Ok(bytes) => {
                if let Err(error) = is_good(&bytes) {
                    self.wrong(key, entry, format!("{}: {error}", path.display()), "name a PEM file");
                }
            }
        }
        Some(path)
    }

    fn wrong<T>(&mut self, key: &str, entry: &Spanned<T>, problem: impl ToString, hint: impl Into<String>) {
        let place = self.place(key, entry.span());
        self.problems.push(place, problem.to_string(), hint);
    }

    fn place(&self, key: &str, span: std::ops::Range<usize>) -> String {
        format!("{key} ({})", config::line(NAME, self.text, Some(span)))
    }
}

/// The parts of `host`, `host:port`, `v4:port`, `[v6]` or `[v6]:port`; a bare IPv6 address gets its brackets.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        let host = match address {
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        };
        return Some((host, Some(address.port())));
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Ok(v6) = bare.unwrap_or(text).parse::<std::net::Ipv6Addr>() {
        return Some((format!("[{v6}]"), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (text, None),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (!host.is_empty() && host.chars().all(is_name)).then(|| (host.to_owned(), port))
}

/// `scheme://host` or `scheme://host:port` in the one spelling that browsers have for it.
fn is_origin(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let usual = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return false,
    };
    let parts = host_and_port(rest);
    parts.is_some_and(|(host, port)| {
        let is_spelled = match port {
            None => rest == host,
            Some(port) => port != usual && rest == format!("{host}:{port}"),
        };
        is_spelled && !text.contains(|c: char| c.is_ascii_uppercase())
    })
}

type IsGood = fn(&[u8]) -> Result<(), TlsError>;

fn is_chain(pem: &[u8]) -> Result<(), TlsError> {
    tls::certificates(pem).map(drop)
}

fn is_key(pem: &[u8]) -> Result<(), TlsError> {
    tls::private_key(pem).map(drop)
}

fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let is_any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (is_any || one.ip() == other.ip())
}

/// How `hub.toml` is called in the words of a problem.
const NAME: &str = "hub.toml";

#[cfg(test)]
mod tests;
