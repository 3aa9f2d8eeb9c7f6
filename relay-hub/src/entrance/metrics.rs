//! The listener for whoever watches the hub: `GET /metrics`, and nothing else. Never on the public entrance.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use relay_shared::tasks::Tasks;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use super::http1::{self, WAITS};

/// Where figures are asked for; answers the media type and the text for what a scraper accepts.
pub trait Figures: Send + Sync + 'static {
    /// Reads them now.
    fn read(&self, accept: &str) -> impl Future<Output = (&'static str, String)> + Send;
}

/// Accepts until drained.
pub async fn serve_metrics<F: Figures>(listener: TcpListener, figures: Arc<F>, drain: CancellationToken, tasks: Tasks) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.cancelled() => return,
        };
        let Ok((tcp, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = room.clone().try_acquire_owned() else {
            continue;
        };
        let (figures, drain) = (figures.clone(), drain.clone());
        tasks.spawn("metrics-connection", async move {
            let service = service_fn(move |request| answer(figures.clone(), request));
            http1::serve(tcp, service, WAITS, HEAD_BYTES, drain).await;
            drop(place);
        });
    }
}

async fn answer<F: Figures>(figures: Arc<F>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let status = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => StatusCode::OK,
        (_, "/metrics") => StatusCode::METHOD_NOT_ALLOWED,
        _ => StatusCode::NOT_FOUND,
    };
    let accept = request.headers().get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let (media_type, text) = match status {
        StatusCode::OK => figures.read(accept).await,
        _ => ("text/plain", "only GET /metrics is answered here\n".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(response)
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const MOST_CONNECTIONS: usize = 16;
const HEAD_BYTES: usize = 8 * 1024;
