// SPDX-License-Identifier: Apache-2.0
//! Client and server of this crate against each other over a real socket, and against peers that misbehave.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails the test")]
#![expect(clippy::disallowed_methods, reason = "the tests measure how long calls take")]

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipam_api::rpc::{
    AddNetworkReply, AddNetworkRequest, CollectGarbageReply, CollectGarbageRequest, DelNetworkReply, DelNetworkRequest,
    NetworkPolicyAgentConfigReply, Refusal,
};
use ipam_api::server::{
    CniBackend, ConfigServerBackend, ConnectionEvent, EnidBackend, ServeError, ServeOptions, Services, bind,
    check_version, serve,
};
use ipam_api::{CallError, Client, Code};
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};

/// What the handlers saw, in order.
#[derive(Debug, PartialEq)]
enum Seen {
    Add { container: String, budget_ms: Option<u32> },
    Abandoned,
}

/// Answers by container id: `hang` never, `slow` after half a second, `refuse` with a reason, anything else with success.
struct Backend(mpsc::UnboundedSender<Seen>);

/// Tells when a handler was dropped before its end.
struct OnDrop(Option<mpsc::UnboundedSender<Seen>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(seen) = &self.0 {
            let _ = seen.send(Seen::Abandoned);
        }
    }
}

#[tonic::async_trait]
impl CniBackend for Backend {
    async fn add_network(&self, request: Request<AddNetworkRequest>) -> Result<Response<AddNetworkReply>, Status> {
        let request = request.into_inner();
        check_version(&request.client_version).map_err(|status| *status)?;
        let container = request.container_id.clone();
        self.0.send(Seen::Add { container: container.clone(), budget_ms: request.wait_budget_ms }).unwrap();
        let mut guard = OnDrop(Some(self.0.clone()));
        match container.as_str() {
            "hang" => std::future::pending::<()>().await,
            "slow" => tokio::time::sleep(SECOND / 2).await,
            _ => {}
        }
        guard.0 = None;
        let refusal = (container == "refuse").then(|| Refusal { code: "NodeFull".into(), ..Default::default() });
        // As an operator's list of excluded blocks: longer than a frame.
        let vpc_v4_cidrs = vec!["10.100.200.0/24".into(); 2_000];
        Ok(Response::new(AddNetworkReply { success: refusal.is_none(), refusal, vpc_v4_cidrs, ..Default::default() }))
    }

    async fn del_network(&self, _: Request<DelNetworkRequest>) -> Result<Response<DelNetworkReply>, Status> {
        Err(Status::unknown(ipam_api::UNKNOWN_POD))
    }
}

#[tonic::async_trait]
impl EnidBackend for Backend {
    async fn collect_garbage(
        &self,
        _: Request<CollectGarbageRequest>,
    ) -> Result<Response<CollectGarbageReply>, Status> {
        Err(Status::unimplemented("as the reference's daemon"))
    }
}

struct Config;

#[tonic::async_trait]
impl ConfigServerBackend for Config {
    async fn get_network_policy_configs(
        &self,
        _: Request<()>,
    ) -> Result<Response<NetworkPolicyAgentConfigReply>, Status> {
        Ok(Response::new(NetworkPolicyAgentConfigReply { region: "eu-west-1".into(), ..Default::default() }))
    }
}

/// A running server; stops when dropped.
struct Daemon {
    folder: tempfile::TempDir,
    seen: mpsc::UnboundedReceiver<Seen>,
    _stop: oneshot::Sender<()>,
}

impl Daemon {
    async fn start(options: ServeOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let seen = start_at(&folder.path().join("ipamd.sock"), options, stopped).await;
        Self { folder, seen, _stop: stop }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("ipamd.sock")
    }
}

async fn start_at(
    socket: &Path,
    options: ServeOptions,
    stopped: oneshot::Receiver<()>,
) -> mpsc::UnboundedReceiver<Seen> {
    let (seen, receiver) = mpsc::unbounded_channel();
    let listener = bind(socket).await.unwrap();
    let services = Services { backend: Arc::new(Backend(seen)), config: Arc::new(Config) };
    tokio::spawn(serve(listener, services, options, async {
        let _ = stopped.await;
    }));
    receiver
}

/// Runs a blocking client call as the plugin does: on a thread without a runtime.
async fn call<R: Send + 'static>(socket: &Path, job: impl FnOnce(Client) -> R + Send + 'static) -> (R, Duration) {
    let client = Client::new(socket);
    let started = Instant::now();
    let (done, result) = oneshot::channel();
    std::thread::spawn(move || done.send(job(client)).ok());
    (result.await.unwrap(), started.elapsed())
}

fn add(container: &str) -> AddNetworkRequest {
    AddNetworkRequest { container_id: container.into(), ..Default::default() }
}

/// One that is all there with its connection's first bytes, and one that is too long for that, which tonic serves.
fn both(container: &str) -> [AddNetworkRequest; 2] {
    [add(container), AddNetworkRequest { netns: "n".repeat(100_000), ..add(container) }]
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn an_add_carries_what_is_left_of_its_budget() {
    let mut daemon = Daemon::start(ServeOptions::default()).await;
    for add in both("c1") {
        let (reply, _) = call(&daemon.socket(), |client| client.add_network(add, 5 * SECOND)).await;
        assert!(reply.unwrap().success);
        let Some(Seen::Add { container, budget_ms: Some(left) }) = daemon.seen.recv().await else { panic!("no ADD") };
        assert_eq!(container, "c1");
        assert!((4_000..=5_000).contains(&left), "{left} ms");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_and_an_error_status_arrive_as_they_were_given() {
    let daemon = Daemon::start(ServeOptions::default()).await;
    for add in both("refuse") {
        let (reply, _) = call(&daemon.socket(), |client| client.add_network(add, SECOND)).await;
        let reply = reply.unwrap();
        assert_eq!((reply.success, reply.refusal.unwrap().code.as_str()), (false, "NodeFull"));
    }

    let (reply, _) = call(&daemon.socket(), |client| client.del_network(DelNetworkRequest::default(), SECOND)).await;
    let Err(CallError::Failed { code: Code::Unknown, message }) = reply else { panic!("{reply:?}") };
    assert!(message.contains(ipam_api::UNKNOWN_POD));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_begun_is_made_anew_when_its_daemon_has_gone_since() {
    let (folder, gone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let socket = folder.path().join("ipamd.sock");
    // Takes no connection, and goes.
    let first = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let (after, before) = std::sync::mpsc::channel::<()>();
    let begun = call(&socket, move |client| {
        let add = client.begin_add_network(add("c1"), 10 * SECOND);
        before.recv().unwrap();
        add.answer()
    });
    let next = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(first);
        std::fs::rename(&socket, gone.path().join("old")).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let seen = start_at(&socket, ServeOptions::default(), stopped).await;
        after.send(()).unwrap();
        (stop, seen)
    };
    let ((add, _), (_stop, mut seen)) = tokio::join!(begun, next);
    assert!(add.unwrap().success);
    assert!(matches!(seen.recv().await, Some(Seen::Add { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_starts_late_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("not-yet-there/ipamd.sock");
    let waiting = call(&socket, |client| client.add_network(add("c1"), 10 * SECOND));
    let starting = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (stop, stopped) = oneshot::channel::<()>();
        (start_at(&socket, ServeOptions::default(), stopped).await, stop)
    };
    let ((reply, took), (mut seen, _stop)) = tokio::join!(waiting, starting);
    assert!(reply.unwrap().success);
    assert!(took < 2 * SECOND, "{took:?}");
    let Some(Seen::Add { budget_ms: Some(left), .. }) = seen.recv().await else { panic!("no ADD") };
    assert!(left < 9_750, "the wait for the socket counts: {left} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_a_call_ends_with_its_budget() {
    let folder = tempfile::tempdir().unwrap();
    let (reply, took) =
        call(&folder.path().join("none"), |client| client.add_network(add("c1"), Duration::from_millis(300))).await;
    assert!(matches!(reply, Err(CallError::NoDaemon { .. })), "{reply:?}");
    assert!(took > Duration::from_millis(150) && took < Duration::from_millis(900), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_accepts_and_never_answers_costs_one_budget() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let _hung = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let (reply, took) = call(&socket, |client| client.add_network(add("c1"), Duration::from_millis(300))).await;
    assert!(matches!(reply, Err(CallError::TimedOut { .. })), "{reply:?}");
    assert!(took < Duration::from_millis(900), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_always_says_something_and_never_answers_costs_one_budget() {
    use std::io::{Read, Write};
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let talks = std::thread::spawn(move || {
        let (mut out, _) = listener.accept().unwrap();
        let mut input = out.try_clone().unwrap();
        // Reads all, acknowledgements too, until the caller is gone.
        let reads = std::thread::spawn(move || while input.read(&mut [0; 4_096]).is_ok_and(|read| read > 0) {});
        // SETTINGS, then PING after PING (RFC 9113, 6.5 and 6.7).
        let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        let mut sent = out.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
        while sent.is_ok() {
            sent = out.write_all(&ping);
        }
        reads.join().unwrap();
    });
    let (reply, took) = call(&socket, |client| client.add_network(add("c1"), Duration::from_millis(300))).await;
    assert!(matches!(reply, Err(CallError::TimedOut { .. })), "{reply:?}");
    assert!(took < Duration::from_millis(900), "{took:?}");
    talks.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_under_the_call_is_asked_again_after_its_restart() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let dying = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let dies = std::thread::spawn(move || drop((dying.accept().unwrap(), dying)));
    let waiting = call(&socket, |client| client.add_network(add("c1"), 10 * SECOND));
    let restarting = async {
        tokio::task::spawn_blocking(move || dies.join().unwrap()).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        (start_at(&socket, ServeOptions::default(), stopped).await, stop)
    };
    let ((reply, took), _daemon) = tokio::join!(waiting, restarting);
    assert!(reply.unwrap().success);
    assert!(took < 2 * SECOND, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_speak_http2_is_an_error_within_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let nonsense = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = nonsense.accept() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let (reply, took) = call(&socket, |client| client.add_network(add("c1"), Duration::from_millis(400))).await;
    assert!(reply.is_err());
    assert!(took < SECOND, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handler_is_dropped_when_its_caller_goes_away() {
    let mut daemon = Daemon::start(ServeOptions::default()).await;
    for add in both("hang") {
        let (reply, _) = call(&daemon.socket(), |client| client.add_network(add, Duration::from_millis(300))).await;
        assert!(matches!(reply, Err(CallError::TimedOut { .. })), "{reply:?}");
        assert!(matches!(daemon.seen.recv().await, Some(Seen::Add { .. })));
        let abandoned = tokio::time::timeout(SECOND, daemon.seen.recv()).await.expect("the handler goes on");
        assert_eq!(abandoned, Some(Seen::Abandoned));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_deadline_of_its_own_ends_at_the_server_s_limit() {
    let options = ServeOptions { call_limit: Duration::from_millis(200), ..Default::default() };
    let mut daemon = Daemon::start(options).await;
    for add in both("hang") {
        let (reply, took) = call(&daemon.socket(), |client| client.add_network(add, 10 * SECOND)).await;
        assert!(matches!(reply, Err(CallError::TimedOut { .. })), "{reply:?}");
        assert!(took < 3 * SECOND, "{took:?}");
        daemon.seen.recv().await.unwrap();
        assert_eq!(daemon.seen.recv().await, Some(Seen::Abandoned));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_calls_in_progress_and_not_for_who_says_nothing() {
    for add in both("slow") {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let (seen, mut receiver) = mpsc::unbounded_channel();
        let services = Services { backend: Arc::new(Backend(seen)), config: Arc::new(Config) };
        let listener = bind(&socket).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(listener, services, ServeOptions::default(), async {
            let _ = stopped.await;
        }));
        let silent = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let stopping = async {
            assert!(matches!(receiver.recv().await, Some(Seen::Add { .. })));
            drop(stop);
            let stopped_at = Instant::now();
            tokio::time::timeout(5 * SECOND, serving).await.expect("it stops").unwrap().unwrap();
            stopped_at.elapsed()
        };
        let ((reply, _), took) = tokio::join!(call(&socket, |client| client.add_network(add, 5 * SECOND)), stopping);
        assert!(reply.unwrap().success);
        assert!((SECOND / 4..3 * SECOND).contains(&took), "{took:?}");
        assert!(std::os::unix::net::UnixStream::connect(&socket).is_err(), "nobody accepts any more");
        drop(silent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_dropped_lets_nobody_in_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let (_stop, stopped) = oneshot::channel::<()>();
    let (seen, _receiver) = mpsc::unbounded_channel();
    let services = Services { backend: Arc::new(Backend(seen)), config: Arc::new(Config) };
    let serving = tokio::spawn(serve(bind(&socket).await.unwrap(), services, ServeOptions::default(), async {
        let _ = stopped.await;
    }));
    let (reply, _) = call(&socket, |client| client.add_network(add("c1"), SECOND)).await;
    assert!(reply.unwrap().success);
    serving.abort();
    let _ = serving.await;
    let (reply, _) = call(&socket, |client| client.add_network(add("c1"), SECOND / 5)).await;
    assert!(matches!(reply, Err(CallError::NoDaemon { .. })), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_uid_that_is_not_allowed_reaches_no_handler() {
    let refused = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&refused);
    let own_uid = std::fs::metadata("/proc/self").unwrap().uid();
    let options = ServeOptions {
        allowed_uids: vec![own_uid + 1],
        on_event: Arc::new(move |event| {
            if let ConnectionEvent::Refused { uid, pid } = event {
                log.lock().unwrap().push((*uid, *pid));
            }
        }),
        ..Default::default()
    };
    let mut daemon = Daemon::start(options).await;
    let (reply, _) = call(&daemon.socket(), |client| client.add_network(add("c1"), Duration::from_millis(300))).await;
    // Refused again and again, or in the middle of a try when its time is over.
    assert!(matches!(reply, Err(CallError::Failed { .. } | CallError::TimedOut { .. })), "{reply:?}");
    assert!(daemon.seen.try_recv().is_err());
    let own_pid = i32::try_from(std::process::id()).unwrap();
    assert_eq!(refused.lock().unwrap().first(), Some(&(Some(own_uid), Some(own_pid))));
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_match_neither_the_reference_s_nor_ours_are_refused() {
    let daemon = Daemon::start(ServeOptions::default()).await;
    let with_version = |version: &str| AddNetworkRequest { client_version: version.into(), ..Default::default() };
    for (version, accepted) in [("", true), (env!("CARGO_PKG_VERSION"), true), ("v1.22.0", false)] {
        let request = with_version(version);
        let (reply, _) = call(&daemon.socket(), |client| client.add_network(request, SECOND)).await;
        match reply {
            Ok(_) => assert!(accepted, "{version:?}"),
            Err(CallError::VersionMismatch { message }) => assert!(!accepted && message.contains(version)),
            Err(other) => panic!("{version:?}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_serving_under_the_reference_s_two_names_only() {
    let daemon = Daemon::start(ServeOptions::default()).await;
    for name in ipam_api::HEALTH_SERVICES {
        let (serving, _) = call(&daemon.socket(), move |client| client.is_serving(name, SECOND)).await;
        assert!(serving.unwrap(), "{name:?}");
    }
    let (unknown, _) = call(&daemon.socket(), |client| client.is_serving("other", SECOND)).await;
    assert!(matches!(unknown, Err(CallError::Failed { code: Code::NotFound, .. })), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_beyond_the_limit_is_refused_and_the_server_goes_on() {
    let daemon = Daemon::start(ServeOptions::default()).await;
    let huge = AddNetworkRequest { netns: "n".repeat(ipam_api::MAX_MESSAGE_BYTES + 1), ..Default::default() };
    let (reply, _) = call(&daemon.socket(), |client| client.add_network(huge, SECOND)).await;
    assert!(matches!(reply, Err(CallError::Failed { code: Code::OutOfRange, .. })), "{reply:?}");
    let (reply, _) = call(&daemon.socket(), |client| client.add_network(add("c1"), SECOND)).await;
    assert!(reply.unwrap().success);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_the_owner_s_only_and_a_stale_one_is_replaced_but_not_a_live_one() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    drop(bind(&socket).await.unwrap());
    assert!(socket.exists(), "a stale file stays behind");
    let _live = bind(&socket).await.unwrap();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(bind(&socket).await, Err(ServeError::InUse { .. })));
}
