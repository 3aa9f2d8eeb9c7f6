use http_body_util::BodyExt as _;
use relay_shared::cores::bring_here;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};

use super::*;
use crate::ids::NodeId;

mod ways;

async fn way(tasks: &Tasks) -> (TcpListener, Arc<Ways>) {
    ways_of(tasks, &[]).await
}

/// A vendor and the ways to it.
async fn ways_of(tasks: &Tasks, outs: &[Arc<WayOut>]) -> (TcpListener, Arc<Ways>) {
    let vendor = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}/", vendor.local_addr().unwrap()).parse().unwrap();
    let ways = egress(tasks).ways(Exits {
        account: "acc",
        origin: &origin,
        outs,
        allows_private: false,
        prefers: None,
    });
    (vendor, ways)
}

fn egress(tasks: &Tasks) -> Egress {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let no_nodes = Arc::new(|_: &NodeId| Err("no egress node".into()));
    Egress::new(&[], Duration::from_secs(5), no_nodes, tasks.clone()).unwrap()
}

async fn call_by(ways: &Arc<Ways>) -> Result<Response<Answer>, EgressError> {
    ways.route(None).unwrap().call(request(), Reads::Large).await
}

fn request() -> Request<Full<Bytes>> {
    let request = Request::post("/v1/responses").header("host", "vendor");
    request.body(Full::new(Bytes::from_static(b"hello"))).unwrap()
}

/// Reads one request of [`request`] and answers it.
async fn answer(stream: &mut TcpStream, words: &str) {
    let mut read = Vec::new();
    while !read.ends_with(b"hello") {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "the request was cut");
    }
    stream.write_all(words.as_bytes()).await.unwrap();
}

async fn read(ways: &Arc<Ways>) -> Bytes {
    let answer = call_by(ways).await.unwrap();
    answer.into_body().collect().await.unwrap().to_bytes()
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const CHUNKS: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n";

#[tokio::test]
async fn a_connection_is_used_again_until_the_vendor_closes_it() {
    let tasks = Tasks::new();
    let (vendor, way) = way(&tasks).await;
    let serve = async {
        let (mut first, _) = vendor.accept().await.unwrap();
        answer(&mut first, OK).await;
        answer(&mut first, CHUNKS).await;
        drop(first);
        let (mut second, _) = vendor.accept().await.unwrap();
        answer(&mut second, OK).await;
    };
    let call = async {
        assert_eq!(read(&way).await, "ok");
        assert_eq!(read(&way).await, "ok");
        way.all[0].pool().goodbyes().await;
        assert_eq!(read(&way).await, "ok");
    };
    tokio::join!(serve, call);
}

#[tokio::test]
async fn a_connection_is_taken_only_by_calls_that_read_as_much() {
    let tasks = Tasks::new();
    let (vendor, way) = way(&tasks).await;
    let serve = async {
        let (mut large, _) = vendor.accept().await.unwrap();
        answer(&mut large, OK).await;
        let (mut small, _) = vendor.accept().await.unwrap();
        answer(&mut small, OK).await;
        answer(&mut large, CHUNKS).await;
    };
    let call = async {
        for reads in [Reads::Large, Reads::Small, Reads::Large] {
            let answer = way.route(None).unwrap().call(request(), reads).await.unwrap();
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
        }
    };
    tokio::join!(serve, call);
}

#[tokio::test]
async fn a_connection_whose_vendor_hung_up_is_not_kept_until_its_time() {
    let tasks = Tasks::new();
    let (vendor, way) = way(&tasks).await;
    let serve = async {
        let (mut first, _) = vendor.accept().await.unwrap();
        answer(&mut first, OK).await;
        first
    };
    let (first, answered) = tokio::join!(serve, read(&way));
    assert_eq!(answered, "ok");
    way.all[0].pool().sweep();
    assert_eq!(way.all[0].pool().len(), 1);
    drop(first);
    way.all[0].pool().goodbyes().await;
    way.all[0].pool().sweep();
    assert_eq!(way.all[0].pool().len(), 0);
}

#[tokio::test]
async fn an_answer_dropped_in_the_middle_closes_its_connection() {
    let tasks = Tasks::new();
    let (vendor, way) = way(&tasks).await;
    let serve = async {
        let (mut stream, _) = vendor.accept().await.unwrap();
        answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await;
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    };
    let call = async {
        let mut answer = call_by(&way).await.unwrap();
        let first = answer.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "ok");
    };
    tokio::join!(serve, call);
}

#[tokio::test]
async fn a_cut_answer_is_an_error_and_its_connection_is_not_used_again() {
    let tasks = Tasks::new();
    let (vendor, way) = way(&tasks).await;
    let serve = async {
        let (mut first, _) = vendor.accept().await.unwrap();
        answer(&mut first, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await;
        drop(first);
        let (mut second, _) = vendor.accept().await.unwrap();
        answer(
            &mut second,
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        )
        .await;
        let (mut third, _) = vendor.accept().await.unwrap();
        answer(&mut third, OK).await;
    };
    let call = async {
        let cut = call_by(&way).await.unwrap();
        assert!(cut.into_body().collect().await.is_err());
        assert_eq!(read(&way).await, "ok");
        assert_eq!(read(&way).await, "ok");
    };
    tokio::join!(serve, call);
}

#[tokio::test]
async fn a_vendor_that_hangs_up_on_a_request_is_not_sent_it_twice() {
    let tasks = Tasks::new();
    let (vendor, way) = way(&tasks).await;
    let serve = async {
        let (mut stream, _) = vendor.accept().await.unwrap();
        answer(&mut stream, OK).await;
        answer(&mut stream, "").await;
        drop(stream);
    };
    let call = async {
        assert_eq!(read(&way).await, "ok");
        assert!(matches!(call_by(&way).await, Err(EgressError::Unreachable(_))));
    };
    tokio::join!(serve, call);
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// One call on a runtime that does nothing after it, answered on a fresh connection or on one that it had.
fn call_on(runtime: &Runtime, ways: &Arc<Ways>, vendor: &std::net::TcpListener, had: Option<TcpStream>) -> TcpStream {
    runtime.block_on(async {
        let serve = async {
            let mut stream = match had {
                Some(mut stream) => {
                    bring_here(&mut stream).unwrap();
                    stream
                }
                None => {
                    let vendor = TcpListener::from_std(vendor.try_clone().unwrap()).unwrap();
                    vendor.accept().await.unwrap().0
                }
            };
            answer(&mut stream, OK).await;
            stream
        };
        let both = async { tokio::join!(serve, read(ways)) };
        let done = tokio::time::timeout(Duration::from_secs(10), both).await;
        let (stream, answered) =
            done.expect("the answer was told on another runtime, or asked for on another connection");
        assert_eq!(answered, "ok");
        stream
    })
}

#[test]
fn an_idle_connection_carries_the_call_of_another_runtime() {
    let (first, second, tasks) = (runtime(), runtime(), Tasks::new());
    let (vendor, ways) = first.block_on(way(&tasks));
    let vendor = vendor.into_std().unwrap();
    let carried = call_on(&first, &ways, &vendor, None);
    call_on(&second, &ways, &vendor, Some(carried));
    assert_eq!(ways.all[0].pool().len(), 1);
}

#[test]
fn a_call_prefers_the_idle_connection_that_its_own_runtime_watches() {
    let (first, second, tasks) = (runtime(), runtime(), Tasks::new());
    let (vendor, ways) = first.block_on(way(&tasks));
    let vendor = vendor.into_std().unwrap();
    let pool = ways.all[0].pool();
    let of_first = call_on(&first, &ways, &vendor, None);
    let older = pool.take(Reads::Large).unwrap();
    let of_second = call_on(&second, &ways, &vendor, None);
    let newer = pool.take(Reads::Large).unwrap();
    pool.put(older);
    pool.put(newer);
    let of_first = call_on(&first, &ways, &vendor, Some(of_first));
    // That one lies on top now.
    call_on(&second, &ways, &vendor, Some(of_second));
    drop(of_first);
}
