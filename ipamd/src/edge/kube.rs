// SPDX-License-Identifier: Apache-2.0
//! The Kubernetes edge: watches our Node and its pods, and tells Kubernetes what it should know. Optional, and awaited by nobody.
//!
//! It has a thread and a runtime of its own: a list of 700 pods takes tens of milliseconds to read, for which no ADD should wait.
//! The rest of the daemon rings a bell and puts news into a bounded queue ([`report`]); it takes the core's state as everyone
//! does, by a snapshot. What is decided is pure: [`demand`], [`node`], [`eni_config`], [`condition`], [`capacity`],
//! [`events`], [`annotation`].
//!
//! ```text
//!              API server                                       the daemon
//!  Node ──watch──► node ─────► NodeSchedulable ───────────────────► core
//!                   └────────► labels, annotations ───────────────► layers
//!  pods ──watch──► demand ───► PodsBound ─────────────────────────► core
//!  ENIConfig ─watch─► eni_config ─► PodNetworkChanged ────────────► core      with custom networking; the one that the Node names
//!  conditions, taints, capacity, annotations, events ◄── writer ◄── snapshot, news (refused ADDs, notices), bell
//!  Lease ◄──polled──► sweeper ► SweeperElected ──────────────────► core
//! ```
//!
//! States: `off` (no `MY_NODE_NAME`, or nothing that says how to connect), `connecting`, `connected` ([`status`]). Every right that
//! is missing makes its own feature rest, and no other: docs/kubernetes.md has the table.

mod annotation;
mod capacity;
mod client;
mod condition;
mod demand;
mod eni_config;
mod events;
mod node;
mod report;
mod status;
mod sweeper;
mod watch;
mod writer;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipamd_core::config::{ANNOTATION, SubnetChoice};
use ipamd_core::pod_network::{EniConfigName, PodNetwork};
use ipamd_core::{Config, Event};
use k8s_openapi::api::core::v1;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::watcher;
use tokio::sync::{Notify, watch as latest};

use crate::alarm::sleep as pause;
use crate::background;
use crate::edge::layers::{Board, NodeWords};
use crate::inbox::Inbox;
use crate::telemetry::chain;
use demand::{Pod, Pods};
use node::{Node, View};
use report::Told;
use status::Work;
use sweeper::Sweeper;
use watch::{News, follow};
use writer::Writer;

pub(crate) use report::Reporter;
pub(crate) use status::Status;

/// Between two tries to make a client: a file that is not there yet.
const CLIENT_PAUSE: Duration = Duration::from_secs(10);

/// The API server's answer to who has not the right.
const FORBIDDEN: u16 = 403;

/// After so long without a word of pods, what was known of them is no demand any more.
const STALE: Duration = Duration::from_secs(60);

/// What watches and writer share: pods, and the bell that says that they changed.
#[derive(Clone, Debug)]
struct SharedPods {
    pods: Arc<Mutex<Pods>>,
    bell: Arc<Notify>,
}

impl SharedPods {
    fn lock(&self) -> MutexGuard<'_, Pods> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the rest of the daemon has of the edge.
pub(crate) struct Ends {
    pub(crate) reporter: Reporter,
    pub(crate) status: Status,
    /// The Node's labels and annotations; `None`: nothing was heard yet.
    pub(crate) words: latest::Receiver<Option<NodeWords>>,
}

/// Starts the edge, where there is a node name. `settings`: what the Node's condition says of them.
///
/// # Errors
/// No thread can be had.
pub(crate) fn start(config: &Config, inbox: Inbox, settings: Board) -> io::Result<Ends> {
    let status = Status::new(config.kubernetes.node_name.clone());
    let said = latest::Sender::new(None);
    let words = said.subscribe();
    let Some(node) = config.kubernetes.node_name.clone() else {
        tracing::info!("MY_NODE_NAME is not set: the Kubernetes API server is not talked to");
        return Ok(Ends { reporter: Reporter::default(), status, words });
    };
    let (reporter, told) = Reporter::new(status.dropped());
    let edge = Edge { config: config.clone(), node, inbox, status: status.clone(), settings, said };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
    background::start("kube", move || runtime.block_on(edge.run(told)))?;
    Ok(Ends { reporter, status, words })
}

struct Edge {
    config: Config,
    node: String,
    inbox: Inbox,
    status: Status,
    settings: Board,
    said: latest::Sender<Option<NodeWords>>,
}

impl Edge {
    async fn run(self, told: Told) {
        let Some(client) = self.client().await else { return };
        let pods = SharedPods {
            pods: Arc::new(Mutex::new(Pods::new(self.config.kubernetes.annotates_pods))),
            bell: told.bell.clone(),
        };
        let view = latest::Sender::new(None);
        let writer = Writer::new(&self, client.clone(), told, (view.subscribe(), pods.clone()));
        let sweeper = Sweeper::new(&self, client.clone());
        let node = self.watch_node(client.clone(), &view);
        let eni_config = self.watch_eni_config(client.clone(), view.subscribe());
        tokio::join!(node, self.watch_pods(client, &pods), eni_config, writer.run(), sweeper::run(sweeper));
    }

    /// `None`: nothing says how to connect, and nothing is going to.
    async fn client(&self) -> Option<kube::Client> {
        loop {
            match client::client(&self.config).await {
                Ok(Some(client)) => {
                    self.status.works(Work::Client);
                    return Some(client);
                }
                Ok(None) => {
                    let why = "neither KUBECONFIG nor a service account says how the API server is reached";
                    tracing::info!("{why}: it is not talked to");
                    self.status.off(why);
                    return None;
                }
                Err(error) => self.status.fails(Work::Client, chain(&error)),
            }
            pause(CLIENT_PAUSE).await;
        }
    }

    async fn watch_node(&self, client: kube::Client, view: &latest::Sender<Option<View>>) {
        let api: Api<Node> = Api::all_with(client, &ApiResource::erase::<v1::Node>(&()));
        let take = |news: News<Node>| {
            let News::Event(watcher::Event::Apply(node) | watcher::Event::InitApply(node)) = news else { return };
            let seen = View::of(node);
            let cordoned = view.borrow().as_ref().map(|view| view.cordoned);
            if cordoned != Some(seen.cordoned) {
                // Until told, the core takes it for schedulable.
                if seen.cordoned || cordoned.is_some() {
                    tracing::info!(node = self.node, cordoned = seen.cordoned, "the node's cordon changed");
                }
                self.status.cordoned(seen.cordoned);
                self.inbox.event(Event::NodeSchedulable(!seen.cordoned));
            }
            // Those that are settings: others change with our own writes, too.
            let settings = seen.annotations.iter().filter(|(name, _)| name.starts_with(ANNOTATION));
            let annotations = settings.map(|(name, value)| (name.clone(), value.clone())).collect();
            let words = NodeWords { labels: seen.labels.clone(), annotations };
            self.said.send_if_modified(|said| {
                let is_other = said.as_ref() != Some(&words);
                *said = Some(words);
                is_other
            });
            view.send_if_modified(|view| {
                let changed = view.as_ref() != Some(&seen);
                *view = Some(seen);
                changed
            });
        };
        follow(api, (Work::WatchNode, format!("metadata.name={}", self.node)), &self.status, take).await;
    }

    async fn watch_pods(&self, client: kube::Client, pods: &SharedPods) {
        let api: Api<Pod> = Api::all_with(client, &ApiResource::erase::<v1::Pod>(&()));
        let mut told = None;
        let take = |news: News<Pod>| {
            let mut known = pods.lock();
            let changed = match news {
                News::Event(event) => known.apply(event),
                News::Failing(time, code) => {
                    if code == Some(FORBIDDEN) {
                        known.refused();
                    }
                    let stale = time >= STALE;
                    if stale {
                        known.forget_demand();
                    }
                    stale
                }
            };
            if !changed {
                return;
            }
            let bound = known.bound();
            drop(known);
            pods.bell.notify_one();
            if told.as_ref() != Some(&bound) {
                tracing::debug!(pods = bound.len(), "pods that are bound to the node and have no address yet");
                told = Some(bound.clone());
                self.inbox.event(Event::PodsBound(bound));
            }
        };
        follow(api, (Work::WatchPods, format!("spec.nodeName={}", self.node)), &self.status, take).await;
    }

    /// Follows the ENIConfig that the Node names, and another one as soon as it names that. What an API server that is away said
    /// last goes on counting.
    async fn watch_eni_config(&self, client: kube::Client, mut view: latest::Receiver<Option<View>>) {
        if self.config.subnets != SubnetChoice::EniConfig {
            return;
        }
        let keys = &self.config.kubernetes.eni_config_keys;
        let mut name = None;
        loop {
            let present = view.borrow_and_update().as_ref().map(|view| eni_config::name_of(view, keys));
            if present == name {
                if view.changed().await.is_err() {
                    return;
                }
                continue;
            }
            name = present;
            let Some(named) = name.clone() else { continue };
            tracing::info!("the node has {named}");
            let another = async {
                let is_another =
                    |view: &Option<View>| view.as_ref().is_some_and(|view| eni_config::name_of(view, keys) != named);
                view.wait_for(is_another).await.map(drop)
            };
            tokio::select! {
                () = self.follow_eni_config(client.clone(), &named) => {}
                ended = another => if ended.is_err() { return },
            }
        }
    }

    async fn follow_eni_config(&self, client: kube::Client, named: &EniConfigName) {
        let tell = |said: PodNetwork| self.inbox.event(Event::PodNetworkChanged(said));
        if !eni_config::is_name(&named.name) {
            tell(eni_config::absent(named.clone()));
            return std::future::pending().await;
        }
        let api: Api<DynamicObject> = Api::all_with(client, &eni_config::resource());
        let mut listed = false;
        let take = |news: News<DynamicObject>| match news {
            News::Event(watcher::Event::Init) => listed = false,
            News::Event(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                listed = true;
                tell(eni_config::read(named.clone(), &object.data));
            }
            News::Event(watcher::Event::InitDone) if listed => {}
            News::Event(watcher::Event::InitDone | watcher::Event::Delete(_)) => {
                tell(eni_config::absent(named.clone()))
            }
            News::Failing(_, code) => {
                if let Some(cause) = code.and_then(eni_config::refused) {
                    self.inbox
                        .event(Event::PodNetworkRefused(PodNetwork::Missing { eni_config: named.clone(), cause }));
                }
            }
        };
        follow(api, (Work::WatchEniConfig, format!("metadata.name={}", named.name)), &self.status, take).await;
    }
}
