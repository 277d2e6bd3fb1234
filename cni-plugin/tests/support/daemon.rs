// SPDX-License-Identifier: Apache-2.0
//! A daemon as the plugin sees one: a stateful model behind the real server of `ipam-api`. It allocates from 10.0.1.10
//! on, gives a key that holds an address the same one, frees on DEL, and behaves as its [`Mode`] says.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use ipam_api::rpc::{
    AddNetworkReply, AddNetworkRequest, Attachment, CollectGarbageReply, CollectGarbageRequest, DelNetworkReply,
    DelNetworkRequest, DeleteNpReply, DeleteNpRequest, EnforceNpReply, EnforceNpRequest, IpAllocationMetadata,
    NetworkPolicyAgentConfigReply, Refusal, ReleasedAttachment,
};
use ipam_api::server::{
    CniBackend, ConfigServerBackend, EnidBackend, ServeOptions, Services, bind, check_version, serve,
};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

/// How the daemon behaves.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mode {
    /// Serves; pods are on the ENI with this device number (table = number + 1, or main for 0).
    Serve { device_number: i32 },
    /// As the reference's daemon: none of our fields, "unknown pod" as an error, a refusal without a reason.
    Reference { is_full: bool },
    /// Refuses ADD and DEL with this reason.
    Refuse(Refusal),
    /// Accepts calls and never answers.
    Hang,
    /// Is of another version.
    OtherVersion,
    /// Serves and asks for network policy.
    Policy,
    /// Gives a branch ENI.
    Branch,
}

/// What the daemon knows and has seen.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) mode: Mode,
    pub(crate) leases: BTreeMap<String, Ipv4Addr>,
    pub(crate) adds: Vec<AddNetworkRequest>,
    pub(crate) dels: Vec<DelNetworkRequest>,
    pub(crate) gcs: Vec<CollectGarbageRequest>,
    next: u8,
}

impl Model {
    fn allocate(&mut self, key: &str) -> Ipv4Addr {
        if let Some(address) = self.leases.get(key) {
            return *address;
        }
        let address = Ipv4Addr::new(10, 0, 1, self.next);
        self.next += 1;
        self.leases.insert(key.to_owned(), address);
        address
    }

    /// The next ADD gets this address.
    pub(crate) fn give_next(&mut self, last_octet: u8) {
        self.next = last_octet;
    }
}

fn key(network: &str, container_id: &str, ifname: &str) -> String {
    format!("{network}/{container_id}/{ifname}")
}

fn metadata(address: Ipv4Addr, device_number: i32) -> Vec<IpAllocationMetadata> {
    let route_table_id = if device_number == 0 { 254 } else { device_number + 1 };
    vec![IpAllocationMetadata { ipv4_addr: address.to_string(), device_number, route_table_id, ..Default::default() }]
}

struct Served(Arc<Mutex<Model>>);

impl Served {
    /// Notes a call, and says how it is met: in one step, so that a test that sees the call can change what comes after it.
    fn seen(&self, note: impl FnOnce(&mut Model)) -> Mode {
        let mut model = self.0.lock().unwrap();
        note(&mut model);
        model.mode.clone()
    }
}

#[tonic::async_trait]
impl CniBackend for Served {
    async fn add_network(&self, request: Request<AddNetworkRequest>) -> Result<Response<AddNetworkReply>, Status> {
        let request = request.into_inner();
        let mode = self.seen(|model| model.adds.push(request.clone()));
        check_version(&request.client_version).map_err(|status| *status)?;
        let key = key(&request.network_name, &request.container_id, &request.if_name);
        let allocated = |device_number| {
            let address = self.0.lock().unwrap().allocate(&key);
            AddNetworkReply {
                success: true,
                ip_allocation_metadata: metadata(address, device_number),
                vpc_v4_cidrs: vec!["10.0.0.0/16".into()],
                ..Default::default()
            }
        };
        Ok(Response::new(match mode {
            Mode::Serve { device_number } => allocated(device_number),
            Mode::Reference { is_full: false } => allocated(1),
            Mode::Reference { is_full: true } => AddNetworkReply::default(),
            Mode::Refuse(refusal) => AddNetworkReply { refusal: Some(refusal), ..Default::default() },
            Mode::Hang => std::future::pending().await,
            Mode::OtherVersion => return Err(Status::failed_precondition("wrong client version \"\" (!= v9)")),
            Mode::Policy => AddNetworkReply { network_policy_mode: "standard".into(), ..allocated(0) },
            Mode::Branch => AddNetworkReply { pod_vlan_id: 7, ..allocated(-1) },
        }))
    }

    async fn del_network(&self, request: Request<DelNetworkRequest>) -> Result<Response<DelNetworkReply>, Status> {
        let request = request.into_inner();
        let mode = self.seen(|model| model.dels.push(request.clone()));
        let key = key(&request.network_name, &request.container_id, &request.if_name);
        match &mode {
            Mode::Hang => std::future::pending().await,
            Mode::Refuse(refusal) => {
                return Ok(Response::new(DelNetworkReply { refusal: Some(refusal.clone()), ..Default::default() }));
            }
            Mode::OtherVersion => return Err(Status::failed_precondition("wrong client version")),
            _ => {}
        }
        let released = self.0.lock().unwrap().leases.remove(&key);
        if released.is_none() && matches!(mode, Mode::Reference { .. }) {
            return Err(Status::unknown("datastore: unknown pod"));
        }
        let network_policy_mode = if mode == Mode::Policy { "standard".into() } else { String::new() };
        Ok(Response::new(DelNetworkReply {
            success: true,
            ip_allocation_metadata: released.map(|address| metadata(address, 0)).unwrap_or_default(),
            network_policy_mode,
            ..Default::default()
        }))
    }
}

#[tonic::async_trait]
impl EnidBackend for Served {
    async fn collect_garbage(
        &self,
        request: Request<CollectGarbageRequest>,
    ) -> Result<Response<CollectGarbageReply>, Status> {
        let request = request.into_inner();
        match self.seen(|model| model.gcs.push(request.clone())) {
            Mode::Reference { .. } => return Err(Status::unimplemented("unknown service rpc.EnidBackend")),
            Mode::Hang => std::future::pending().await,
            _ => {}
        }
        let mut model = self.0.lock().unwrap();
        // It has no clock: all is old or, unless told to spare nothing, young.
        let is_stale = |name: &str| {
            let named = |list: &[Attachment]| {
                list.iter().any(|one| key(&request.network_name, &one.container_id, &one.if_name) == name)
            };
            name.starts_with(&format!("{}/", request.network_name))
                && !named(&request.keep)
                && (named(&request.gone) || request.spare_younger_ms == 0)
        };
        let stale: Vec<String> = model.leases.keys().filter(|name| is_stale(name)).cloned().collect();
        let mut released = Vec::new();
        for name in stale {
            let address = model.leases.remove(&name).unwrap();
            let add = model.adds.iter().rev().find(|add| name.contains(&add.container_id)).cloned().unwrap_or_default();
            released.push(ReleasedAttachment {
                container_id: add.container_id,
                if_name: add.if_name,
                k8s_pod_name: add.k8s_pod_name,
                k8s_pod_namespace: add.k8s_pod_namespace,
                ip_allocation_metadata: metadata(address, 0),
            });
        }
        Ok(Response::new(CollectGarbageReply { released }))
    }
}

struct NoConfig;

#[tonic::async_trait]
impl ConfigServerBackend for NoConfig {
    async fn get_network_policy_configs(
        &self,
        _: Request<()>,
    ) -> Result<Response<NetworkPolicyAgentConfigReply>, Status> {
        Ok(Response::new(NetworkPolicyAgentConfigReply::default()))
    }
}

/// A running daemon; its socket closes when it is dropped.
pub(crate) struct Daemon {
    model: Arc<Mutex<Model>>,
    runtime: Option<tokio::runtime::Runtime>,
    _stop: oneshot::Sender<()>,
}

impl Daemon {
    pub(crate) fn start(socket: &Path, mode: Mode) -> Self {
        let model =
            Model { mode, leases: BTreeMap::new(), adds: Vec::new(), dels: Vec::new(), gcs: Vec::new(), next: 10 };
        Self::start_with(socket, Arc::new(Mutex::new(model)))
    }

    fn start_with(socket: &Path, model: Arc<Mutex<Model>>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = runtime.block_on(bind(socket)).unwrap();
        let services = Services { backend: Arc::new(Served(Arc::clone(&model))), config: Arc::new(NoConfig) };
        runtime.spawn(serve(listener, services, ServeOptions::default(), async {
            let _ = stopped.await;
        }));
        Self { model, runtime: Some(runtime), _stop: stop }
    }

    pub(crate) fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        self.model().mode = mode;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Drops calls in progress as they are, as kill -9 does, and the listening socket with them.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(std::time::Duration::from_secs(2));
        }
    }
}

/// A network policy agent that writes down what it is told.
#[derive(Clone, Default)]
pub(crate) struct Agent {
    pub(crate) enforced: Arc<Mutex<Vec<EnforceNpRequest>>>,
    pub(crate) deleted: Arc<Mutex<Vec<DeleteNpRequest>>>,
}

#[tonic::async_trait]
impl ipam_api::rpc::np_backend_server::NpBackend for Agent {
    async fn enforce_np_to_pod(&self, request: Request<EnforceNpRequest>) -> Result<Response<EnforceNpReply>, Status> {
        self.enforced.lock().unwrap().push(request.into_inner());
        Ok(Response::new(EnforceNpReply { success: true }))
    }

    async fn delete_pod_np(&self, request: Request<DeleteNpRequest>) -> Result<Response<DeleteNpReply>, Status> {
        self.deleted.lock().unwrap().push(request.into_inner());
        Ok(Response::new(DeleteNpReply { success: true }))
    }
}

impl Agent {
    /// Serves on `socket` until the returned runtime is dropped.
    pub(crate) fn start(&self, socket: &Path) -> tokio::runtime::Runtime {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(bind(socket)).unwrap();
        let service = ipam_api::rpc::np_backend_server::NpBackendServer::new(self.clone());
        let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
        runtime.spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        runtime
    }
}
