// SPDX-License-Identifier: Apache-2.0
//! The emulated VPC as a library: the model, driven by real time, served over HTTP, followed by a packet fabric.
//!
//! Owns the one [`Vpc`], the clock and the data plane, and keeps them in step. What EC2 and IMDS answer is decided by the
//! model; how a request arrives is in `ec2_http`, `imds_http` and `control`; what packets do is the data plane's.
//!
//! Invariant: the data plane gets every event of the model, once, in order, and an event that a call causes at once before
//! that call is answered. So when EC2 says that an address is assigned, packets for it arrive.
//!
//! ```text
//! ec2_http ─┐                      ┌─ events ─► DataPlane::apply (under the model's lock: order is order)
//! control  ─┼─► with_model(|vpc|) ─┤
//! time     ─┘        one lock      └─ next_deadline ─► the task that waits for it
//! ```
//!
//! The lock is a plain mutex and is never held across an await: every visit to the model runs on a blocking thread, because
//! a data plane may take milliseconds. A data plane must not call back into the emulator.

mod clock;

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use vpc_model::{Caller, ConfigError, FabricEvent, InstanceId, Response, Vpc, VpcConfig};

pub use clock::{Clock, WallClock};

/// The packet fabric, as far as the emulator needs it.
pub trait DataPlane: Send {
    /// Makes an event true for packets.
    ///
    /// # Errors
    /// It could not. The emulator notes it (see [`Emulator::data_plane_errors`]) and goes on.
    fn apply(&mut self, event: &FabricEvent) -> Result<(), String>;

    /// What the fabric counted, such as packets dropped, for the control API. Null: it counts nothing.
    fn counters(&self) -> Value {
        Value::Null
    }
}

/// The data plane of an emulator that carries no packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDataPlane;

impl DataPlane for NoDataPlane {
    fn apply(&mut self, _event: &FabricEvent) -> Result<(), String> {
        Ok(())
    }
}

/// Why there is no emulator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The topology does not fit together.
    #[error("building the topology")]
    Topology(#[from] ConfigError),
}

/// What serving tasks share.
pub(crate) struct Shared {
    vpc: Arc<Mutex<Vpc>>,
    plane: Mutex<Box<dyn DataPlane>>,
    plane_errors: Mutex<Vec<String>>,
    clock: Box<dyn Clock>,
    /// Wakes the task that waits for the model's next deadline.
    changed: Notify,
}

/// The emulated VPC. Dropping it ends everything that it serves.
pub struct Emulator {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").field("now", &self.shared.clock.now()).finish_non_exhaustive()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
    }
}

impl Emulator {
    /// Makes the VPC of this topology and follows time from now on. The primary ENIs of its instances are given to the data
    /// plane before this returns. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The topology does not fit together.
    pub fn start(
        mut config: VpcConfig,
        seed: u64,
        clock: impl Clock + 'static,
        plane: Box<dyn DataPlane>,
    ) -> Result<Self, StartError> {
        config.epoch_unix_seconds = config.epoch_unix_seconds.or_else(|| clock.unix_seconds_at_zero());
        let vpc = Vpc::new(config, seed)?;
        let shared = Arc::new(Shared {
            vpc: Arc::new(Mutex::new(vpc)),
            plane: Mutex::new(plane),
            plane_errors: Mutex::new(Vec::new()),
            clock: Box::new(clock),
            changed: Notify::new(),
        });
        shared.with_model(|_, _| ());
        let emulator = Self { shared: Arc::clone(&shared), tasks: Mutex::new(Vec::new()) };
        emulator.keep(tokio::spawn(follow_time(shared)));
        Ok(emulator)
    }

    /// The model, to look at. A change made here reaches the data plane only with the next event; use
    /// [`Emulator::with_model`] to change something.
    #[must_use]
    pub fn model(&self) -> Arc<Mutex<Vpc>> {
        Arc::clone(&self.shared.vpc)
    }

    /// Visits the model at the present time; afterwards the data plane is given what followed from the visit. Blocks.
    pub fn with_model<R>(&self, visit: impl FnOnce(&mut Vpc, Duration) -> R) -> R {
        self.shared.with_model(visit)
    }

    /// An EC2 call without HTTP: at once, whatever the latency.
    pub fn ec2(&self, action: &str, params: &[(&str, &str)]) -> Response {
        let params: Vec<_> = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.with_model(|vpc, now| vpc.ec2(&Caller::default(), action, &params, now))
    }

    /// The id of a subnet by the name that the configuration gives it.
    ///
    /// # Panics
    /// There is none of that name.
    pub fn subnet_id(&self, name: &str) -> String {
        let id = self.with_model(|vpc, _| vpc.subnet_named(name).map(|subnet| subnet.id.to_string()));
        id.unwrap_or_else(|| panic!("no subnet {name}"))
    }

    /// Somebody takes every free address of a subnet.
    pub fn exhaust(&self, subnet_id: &str) {
        // ENIs of fifty addresses, and of one for what is left.
        let params = [("SubnetId", subnet_id), ("SecondaryPrivateIpAddressCount", "49")];
        for params in [&params[..], &params[..1]] {
            while self.ec2("CreateNetworkInterface", params).status == 200 {}
        }
    }

    /// Serves EC2's query API on this socket, which may be in another network namespace.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn serve_ec2(&self, listener: TcpListener) -> io::Result<()> {
        self.serve(listener, crate::ec2_http::router(Arc::clone(&self.shared)))
    }

    /// Serves IMDS of this instance on this socket: the socket says which instance a reader is on.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn serve_imds(&self, listener: TcpListener, instance: InstanceId) -> io::Result<()> {
        let source = crate::imds_http::ModelSource::new(Arc::clone(&self.shared), instance);
        self.serve(listener, crate::imds_http::router(Arc::new(source)))
    }

    /// Serves STS on this socket.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn serve_sts(&self, listener: TcpListener) -> io::Result<()> {
        self.serve(listener, crate::keys_http::sts(Arc::clone(&self.shared)))
    }

    /// Serves the agent of EKS Pod Identity on this socket.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn serve_pod_identity(&self, listener: TcpListener) -> io::Result<()> {
        self.serve(listener, crate::keys_http::pod_identity(Arc::clone(&self.shared)))
    }

    /// Serves the control API on this socket.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn serve_control(&self, listener: TcpListener) -> io::Result<()> {
        self.serve(listener, crate::control::router(Arc::clone(&self.shared)))
    }

    /// What the data plane could not do, oldest first.
    #[must_use]
    pub fn data_plane_errors(&self) -> Vec<String> {
        lock(&self.shared.plane_errors).clone()
    }

    fn serve(&self, listener: TcpListener, router: axum::Router) -> io::Result<()> {
        self.keep(crate::emulator::serve(listener, router)?);
        Ok(())
    }

    fn keep(&self, task: JoinHandle<()>) {
        lock(&self.tasks).push(task);
    }
}

impl Shared {
    /// Visits the model at the present time, then gives the data plane what followed.
    pub(crate) fn with_model<R>(&self, visit: impl FnOnce(&mut Vpc, Duration) -> R) -> R {
        let mut vpc = lock(&self.vpc);
        let now = self.clock.now();
        // What was due before the visit happens before it, for packets too.
        self.follow(vpc.advance(now));
        let answer = visit(&mut vpc, now);
        self.follow(vpc.advance(now));
        drop(vpc);
        self.changed.notify_one();
        answer
    }

    /// The same from a task: on a blocking thread.
    pub(crate) async fn visit<R: Send + 'static>(
        self: Arc<Self>,
        visit: impl FnOnce(&mut Vpc, Duration) -> R + Send + 'static,
    ) -> R {
        match tokio::task::spawn_blocking(move || self.with_model(visit)).await {
            Ok(answer) => answer,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is going down: nobody waits for the answer.
            Err(_) => std::future::pending().await,
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.now()
    }

    pub(crate) fn counters(&self) -> Value {
        lock(&self.plane).counters()
    }

    pub(crate) fn data_plane_errors(&self) -> Vec<String> {
        lock(&self.plane_errors).clone()
    }

    fn follow(&self, events: Vec<FabricEvent>) {
        if events.is_empty() {
            return;
        }
        let mut plane = lock(&self.plane);
        for event in events {
            if let Err(error) = plane.apply(&event) {
                tracing::error!(?event, error, "the data plane could not follow");
                lock(&self.plane_errors).push(format!("{event:?}: {error}"));
            }
        }
    }
}

/// Text of the first element of this name in an answer of EC2's.
///
/// # Panics
/// There is none: EC2 has refused what the caller needs.
#[must_use]
pub fn text_of<'a>(xml: &'a str, name: &str) -> &'a str {
    let text = xml.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once('<'));
    text.map_or_else(|| panic!("no {name} in {xml}"), |(text, _)| text)
}

/// Serves a router on a socket until the task is aborted.
///
/// # Errors
/// The socket cannot be used.
pub fn serve(listener: TcpListener, router: axum::Router) -> io::Result<JoinHandle<()>> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "serving HTTP");
        }
    }))
}

/// Visits the model whenever something in it is due.
async fn follow_time(shared: Arc<Shared>) {
    loop {
        let deadline = lock(&shared.vpc).next_deadline();
        match deadline {
            None => shared.changed.notified().await,
            Some(deadline) => {
                let wait = deadline.saturating_sub(shared.clock.now());
                if wait.is_zero() {
                    Arc::clone(&shared).visit(|_, _| ()).await;
                } else {
                    // Woken early by a change, or late by a coarse timer: either way the loop looks again.
                    let _elapsed = tokio::time::timeout(wait, shared.changed.notified()).await;
                }
            }
        }
    }
}

/// A poisoned lock guards nothing that a panic could have left half done: every visit ends by settling the model.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
