// SPDX-License-Identifier: Apache-2.0
//! The call alone, for `make bench`: AddNetwork and DelNetwork by turns over a daemon's socket, without a process a call and without
//! plumbing. A program of its own, built as the plugin is, so that the caller's end costs what it costs there.
//!
//! `cni-calls SOCKET kept|new CALLERS ROUNDS`: each caller has a thread and makes so many pairs, over one connection of tonic's that it
//! keeps, or by the plugin's own client with a new one a call. What it was given it gives back. The first pair of each is not
//! counted. Prints two lines, `add` and `del`, of times in microseconds.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measuring program's edge"
)]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use ipam_api::client::Client;
use ipam_api::client::channel::{channel_on, origin};
use ipam_api::rpc::cni_backend_client::CniBackendClient;
use ipam_api::rpc::{AddNetworkRequest, DelNetworkRequest};
use tokio::net::UnixStream;

const BUDGET: Duration = Duration::from_secs(20);

type Failed = Box<dyn Error + Send + Sync>;
/// Of each pair how long ADD and DEL took.
type Pairs = Vec<[Duration; 2]>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(pairs) => {
            for (at, verb) in ["add", "del"].into_iter().enumerate() {
                let times = pairs.iter().map(|pair| format!(" {:.1}", pair[at].as_secs_f64() * 1e6));
                println!("{verb}{}", times.collect::<String>());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cni-calls: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<Pairs, Failed> {
    let [socket, connection, callers, rounds] = arguments else {
        return Err("usage: cni-calls SOCKET kept|new CALLERS ROUNDS".into());
    };
    let socket = PathBuf::from(socket);
    let calls: fn(&Path, usize, usize) -> Result<Pairs, Failed> = match connection.as_str() {
        "kept" => over_one_connection,
        "new" => over_new_connections,
        other => return Err(format!("a connection is kept or new, not {other}").into()),
    };
    let (callers, rounds): (usize, usize) = (callers.parse()?, rounds.parse()?);
    let start = Barrier::new(callers);
    std::thread::scope(|scope| {
        let (socket, start) = (&socket, &start);
        let work = move |caller| {
            start.wait();
            calls(socket, caller, rounds)
        };
        let threads: Vec<_> = (0..callers).map(|caller| scope.spawn(move || work(caller))).collect();
        let ended = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a caller panicked".into())));
        let pairs: Result<Vec<Pairs>, Failed> = ended.collect::<Vec<_>>().into_iter().collect();
        Ok(pairs?.concat())
    })
}

/// The messages of one pod: no two runs of this program have a sandbox in common.
fn pod(caller: usize, round: usize) -> (AddNetworkRequest, DelNetworkRequest) {
    let container_id = format!("{:016x}{caller:024x}{round:024x}", std::process::id());
    let name = format!("calls-{}-{caller}-{round}", std::process::id());
    let add = AddNetworkRequest {
        client_version: ipam_api::CLIENT_VERSION.to_owned(),
        k8s_pod_name: name.clone(),
        k8s_pod_namespace: "default".to_owned(),
        k8s_pod_infra_container_id: container_id.clone(),
        container_id,
        if_name: "eth0".to_owned(),
        network_name: "aws-cni".to_owned(),
        netns: format!("/var/run/netns/{name}"),
        wait_budget_ms: u32::try_from(BUDGET.as_millis()).ok(),
        ..AddNetworkRequest::default()
    };
    let del = add.del();
    (add, del)
}

fn refused(verb: &str, is_success: bool) -> Result<(), Failed> {
    if is_success { Ok(()) } else { Err(format!("{verb} was refused").into()) }
}

fn over_new_connections(socket: &Path, caller: usize, rounds: usize) -> Result<Pairs, Failed> {
    let mut pairs = Pairs::new();
    for round in 0..=rounds {
        let (add, del) = pod(caller, round);
        let began = Instant::now();
        refused("ADD", Client::new(socket).add_network(add, BUDGET)?.success)?;
        let added = began.elapsed();
        refused("DEL", Client::new(socket).del_network(del, BUDGET)?.success)?;
        if round > 0 {
            pairs.push([added, began.elapsed() - added]);
        }
    }
    Ok(pairs)
}

fn over_one_connection(socket: &Path, caller: usize, rounds: usize) -> Result<Pairs, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stream = UnixStream::connect(socket).await.map_err(|error| format!("{}: {error}", socket.display()))?;
        let mut client = CniBackendClient::with_origin(channel_on(stream).await?, origin());
        let mut pairs = Pairs::new();
        for round in 0..=rounds {
            let (add, del) = pod(caller, round);
            let began = Instant::now();
            refused("ADD", client.add_network(add).await?.into_inner().success)?;
            let added = began.elapsed();
            refused("DEL", client.del_network(del).await?.into_inner().success)?;
            if round > 0 {
                pairs.push([added, began.elapsed() - added]);
            }
        }
        Ok(pairs)
    })
}
