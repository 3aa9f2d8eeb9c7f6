//! A client for one plain-HTTP origin on this machine: a request, its answer as it comes. The demo's
//! stand-in where the real Codex CLI cannot be had, and its stop-watch.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// A kept-alive connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    address: String,
    key: Option<String>,
}

impl Client {
    /// Connects to `http://host:port`.
    pub(crate) fn connect(url: &str, key: Option<&str>) -> Result<Self> {
        let address = url
            .strip_prefix("http://")
            .context("the client speaks plain HTTP only")?
            .to_owned();
        let stream = TcpStream::connect(&address).with_context(|| format!("cannot reach {url}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self {
            stream: BufReader::new(stream),
            address,
            key: key.map(str::to_owned),
        })
    }

    /// Sends a Responses call; `on` gets the pieces of the answer's body.
    pub(crate) fn call(&mut self, body: &Value, on: &mut dyn FnMut(&[u8])) -> Result<()> {
        let body = body.to_string();
        let key = self
            .key
            .as_ref()
            .map(|key| format!("authorization: Bearer {key}\r\n"))
            .unwrap_or_default();
        let head = format!(
            "POST /v1/responses HTTP/1.1\r\nhost: {}\r\n{key}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.stream.get_mut().write_all((head + &body).as_bytes())?;
        let head = self.head()?;
        let mut text = Vec::new();
        let is_fine = head.status == 200;
        let mut on = |piece: &[u8]| {
            if is_fine {
                on(piece)
            } else {
                text.extend_from_slice(piece)
            }
        };
        match head.length {
            Some(length) => self.exactly(length, &mut on)?,
            None => self.chunks(&mut on)?,
        }
        ensure!(is_fine, "status {}: {}", head.status, String::from_utf8_lossy(&text));
        Ok(())
    }

    fn head(&mut self) -> Result<Head> {
        let status = self
            .line()?
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok())
            .context("no status line")?;
        let mut head = Head { status, length: None };
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                return Ok(head);
            }
            if let Some(length) = line.strip_prefix("content-length:") {
                head.length = Some(length.trim().parse()?);
            }
        }
    }

    fn chunks(&mut self, on: &mut dyn FnMut(&[u8])) -> Result<()> {
        loop {
            let size = u64::from_str_radix(self.line()?.trim(), 16)?;
            self.exactly(size, on)?;
            self.line()?;
            if size == 0 {
                return Ok(());
            }
        }
    }

    fn exactly(&mut self, length: u64, on: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut left = length;
        while left > 0 {
            let piece = self.stream.fill_buf()?;
            let now = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if now == 0 {
                bail!("the connection ended within a body");
            }
            on(&piece[..now]);
            self.stream.consume(now);
            left -= now as u64;
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(
            self.stream.read_line(&mut line)? > 0,
            "the connection ended before an answer"
        );
        Ok(line.trim_end().to_owned())
    }
}

struct Head {
    status: u16,
    /// Without one the body comes in chunks.
    length: Option<u64>,
}

/// Parts a stream of events into the JSON of their data.
#[derive(Default)]
pub(crate) struct Events {
    text: Vec<u8>,
}

impl Events {
    pub(crate) fn add(&mut self, piece: &[u8]) -> Vec<Value> {
        self.text.extend_from_slice(piece);
        let mut events = Vec::new();
        while let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = self.text.drain(..end + 2).collect();
            let data = event
                .split(|byte| *byte == b'\n')
                .find_map(|line| line.strip_prefix(b"data: "));
            events.extend(data.and_then(|data| serde_json::from_slice(data).ok()));
        }
        events
    }
}

const ANSWER_WITHIN: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::Events;

    #[test]
    fn an_event_is_told_once_it_is_whole() {
        let mut events = Events::default();
        assert!(events.add(b"event: a\ndata: {\"type\":").is_empty());
        let told = events.add(b"\"x\"}\n\ndata: {\"type\":\"y\"}\n\ndata: {");
        let types: Vec<_> = told
            .iter()
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(types, ["x", "y"]);
    }
}
