// SPDX-License-Identifier: Apache-2.0
//! An emulator on loopback sockets, a data plane that writes down what it is told, and HTTP/1.1 by hand.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use integration::emulator::{DataPlane, Emulator, WallClock};
use tokio::runtime::Runtime;
use vpc_model::{FabricEvent, InstanceId, VpcConfig};

const TOPOLOGY: &str = include_str!("../../examples/topology.json");

/// How long a socket waits before the test fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes down every event.
#[derive(Clone, Default)]
pub(crate) struct Recorder(pub(crate) Arc<Mutex<Vec<FabricEvent>>>);

impl DataPlane for Recorder {
    fn apply(&mut self, event: &FabricEvent) -> Result<(), String> {
        self.0.lock().unwrap().push(event.clone());
        Ok(())
    }
}

/// The example topology without latencies, served.
pub(crate) struct Served {
    pub(crate) emulator: Emulator,
    pub(crate) events: Recorder,
    pub(crate) ec2: SocketAddr,
    pub(crate) imds: SocketAddr,
    pub(crate) control: SocketAddr,
    pub(crate) runtime: Runtime,
}

pub(crate) const NODE_1: &str = "i-0aaaaaaaaaaaaaaa1";
pub(crate) const SUBNET_A: &str = "subnet-0aaaaaaaaaaaaaaa1";

impl Served {
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let _inside = runtime.enter();
        let mut config: VpcConfig = serde_json::from_str(TOPOLOGY).unwrap();
        config.settings = vpc_model::Settings::default();
        let events = Recorder::default();
        let emulator = Emulator::start(config, 1, WallClock::start(), Box::new(events.clone())).unwrap();
        let [ec2, imds, control] = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let at = |listener: &TcpListener| listener.local_addr().unwrap();
        let addresses = (at(&ec2), at(&imds), at(&control));
        emulator.serve_ec2(ec2).unwrap();
        emulator.serve_imds(imds, InstanceId::from(NODE_1)).unwrap();
        emulator.serve_control(control).unwrap();
        drop(_inside);
        Self { emulator, events, ec2: addresses.0, imds: addresses.1, control: addresses.2, runtime }
    }

    /// An EC2 call as a form.
    pub(crate) fn call(&self, form: &str) -> Answer {
        post(self.ec2, "/", "application/x-www-form-urlencoded", &format!("Version=2016-11-15&{form}"))
    }

    pub(crate) fn control(&self, method: &str, path: &str, body: &str) -> Answer {
        exchange(self.control, &request(method, path, &[("Content-Type", "application/json")], body)).unwrap()
    }

    pub(crate) fn primary_eni(&self) -> String {
        let answer = self.call(&format!("Action=DescribeInstances&InstanceId.1={NODE_1}"));
        between(&answer.body, "networkInterfaceId")
    }
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: emulator\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

pub(crate) fn post(at: SocketAddr, path: &str, kind: &str, body: &str) -> Answer {
    exchange(at, &request("POST", path, &[("Content-Type", kind)], body)).unwrap()
}

pub(crate) fn get(at: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    exchange(at, &request("GET", path, headers, "")).unwrap()
}

/// Sends the bytes and reads until the server closes; `None`: it closed without an answer.
pub(crate) fn exchange(at: SocketAddr, request: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some(Answer { status, head: head.to_lowercase(), body: body.to_owned() })
}

/// What is between the first `<name>` and its end.
pub(crate) fn between(body: &str, name: &str) -> String {
    let rest = body.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no <{name}> in {body}")).1;
    rest.split_once(&format!("</{name}>")).unwrap().0.to_owned()
}
