//! The calls: which there are, and a client that makes them on a connection that it keeps.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use relay_tests::vendor::soak::{Kind, Order, mix};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::oracle;

/// One call.
pub(crate) struct Call {
    pub(crate) order: Order,
    model: String,
    path: &'static str,
    is_streamed: bool,
}

impl Call {
    /// The call of this number: endings, models and dialects mixed, the same in every run.
    pub(crate) fn of(tenant: u16, number: u64) -> Self {
        let seed = mix(number.wrapping_mul(1_000).wrapping_add(u64::from(tenant)));
        let kind = kind(mix(seed ^ 1) % 100);
        let models = oracle::models();
        let letter = models[(mix(seed ^ 2) % models.len() as u64) as usize];
        let model = match kind {
            Kind::Unheard => "soak-unheard".to_owned(),
            _ => format!("soak-{}", char::from(letter)),
        };
        // A chat's failure has no form of its own, and only a stream can be cut or left in its middle.
        let is_chat = mix(seed ^ 3).is_multiple_of(3) && !matches!(kind, Kind::Failed | Kind::FailedFree);
        let is_streamed = mix(seed ^ 4).is_multiple_of(2) || matches!(kind, Kind::Cut | Kind::Left);
        Self {
            order: Order { tenant, kind, seed },
            model,
            path: if is_chat {
                "/v1/chat/completions"
            } else {
                "/v1/responses"
            },
            is_streamed,
        }
    }

    fn body(&self) -> String {
        let user = json!(self.order).to_string();
        let mut body = json!({"model": self.model, "user": user, "stream": self.is_streamed});
        let (key, value, limit) = match self.path {
            "/v1/responses" => ("input", json!("Say something."), "max_output_tokens"),
            _ => (
                "messages",
                json!([{"role": "user", "content": "Say something."}]),
                "max_completion_tokens",
            ),
        };
        body[key] = value;
        body[limit] = json!(20_000);
        body.to_string()
    }

    fn expects(&self, status: u16) -> bool {
        match self.order.kind {
            Kind::Error => matches!(status, 400 | 429 | 500 | 503),
            Kind::HangUp => status == 502,
            Kind::Unheard => status == 404,
            _ => status == 200,
        }
    }
}

/// Of a hundred calls.
fn kind(of_hundred: u64) -> Kind {
    match of_hundred {
        0..62 => Kind::Completed,
        62..70 => Kind::Incomplete,
        70..76 => Kind::Failed,
        76..79 => Kind::FailedFree,
        79..84 => Kind::Error,
        84..86 => Kind::HangUp,
        86..90 => Kind::Cut,
        90..93 => Kind::Silent,
        93..98 => Kind::Left,
        _ => Kind::Unheard,
    }
}

/// A connection and what drives it.
type Connection = (SendRequest<Full<Bytes>>, JoinSet<()>);

/// A client of one tenant.
pub(crate) struct Caller {
    addr: SocketAddr,
    authorization: String,
    connection: Option<Connection>,
}

impl Caller {
    pub(crate) fn new(addr: SocketAddr, key: &str) -> Self {
        Self {
            addr,
            authorization: format!("Bearer {key}"),
            connection: None,
        }
    }

    /// The connection of the last call, if it can be used again.
    async fn connection(&mut self) -> Result<Connection> {
        if let Some((mut sender, driver)) = self.connection.take()
            && sender.ready().await.is_ok()
        {
            return Ok((sender, driver));
        }
        connect(self.addr).await
    }

    /// Makes a call and reads the answer as far as it shall be read.
    pub(crate) async fn make(&mut self, call: &Call) -> Result<()> {
        let (mut sender, driver) = self.connection().await?;
        let request = Request::post(call.path)
            .header(header::HOST, self.addr.to_string())
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(call.body())))?;
        let response = sender.send_request(request).await.context("no answer")?;
        let status = response.status().as_u16();
        ensure!(call.expects(status), "{:?} was answered with {status}", call.order);
        let mut body = response.into_body();
        if call.order.kind == Kind::Left {
            // What has come proves that the answer began; the connection goes with it.
            body.frame().await.context("the answer ended before it was left")??;
            return Ok(());
        }
        while let Some(frame) = body.frame().await {
            frame.context("the answer was cut")?;
        }
        self.connection = Some((sender, driver));
        Ok(())
    }
}

async fn connect(addr: SocketAddr) -> Result<Connection> {
    let stream = TcpStream::connect(addr).await.context("cannot reach the hub")?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        let _ended = connection.await;
    });
    Ok((sender, driver))
}
