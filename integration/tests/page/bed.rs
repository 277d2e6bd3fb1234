// SPDX-License-Identifier: Apache-2.0
//! A node whose daemon serves the page, and a browser on it; what the page shows, in few words.

use std::time::Duration;

use integration::browser::Browser;
use integration::eventually::eventually;
use integration::node::Node;
use integration::topology::{NodeSpec, Subnet, Topology, TopologySpec};
use serde_json::Value;

/// Where introspection is by default.
pub(crate) const PAGE: &str = "http://127.0.0.1:61679/";

/// How long the page may take to show what the daemon knows: it asks four times a second, and the machine is busy.
pub(crate) const SHOWN: Duration = Duration::from_secs(10);

/// A page that is not stuck: how long a large one takes is printed, and depends on what else the machine does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Bed {
    /// Ends before the node.
    pub(crate) browser: Browser,
    pub(crate) topology: Topology,
}

impl Bed {
    /// A node, its daemon ready, and the page open.
    pub(crate) fn new(instance_type: &str, environment: &[(&str, &str)]) -> Self {
        let bed = Self::unopened(instance_type, environment);
        bed.browser.open(PAGE).unwrap();
        bed.shows("that it is live", "document.getElementById('link').dataset.is === 'live'");
        bed
    }

    /// The same, the page not opened yet.
    pub(crate) fn unopened(instance_type: &str, environment: &[(&str, &str)]) -> Self {
        Self::prepared(instance_type, environment, |_| {})
    }

    /// The same, with whatever is to be done before the daemon starts.
    pub(crate) fn prepared(
        instance_type: &str,
        environment: &[(&str, &str)],
        prepare: impl FnOnce(&mut Topology),
    ) -> Self {
        let subnet = if instance_type == "m5.24xlarge" { Subnet::C } else { Subnet::A };
        let nodes = vec![NodeSpec::new("n1", instance_type, subnet)];
        let mut topology = Topology::build(&TopologySpec { nodes, ..TopologySpec::one(instance_type) }).unwrap();
        prepare(&mut topology);
        topology.start(environment).unwrap();
        let browser = Browser::start(&topology.world, &topology.node("n1").netns).unwrap();
        Self { browser, topology }
    }

    pub(crate) fn node(&self) -> &Node {
        self.topology.node("n1")
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&self, expression: &str) -> Value {
        self.browser.run(&format!("return {expression}")).unwrap()
    }

    pub(crate) fn text(&self, expression: &str) -> String {
        self.value(expression).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression in the page is true.
    pub(crate) fn shows(&self, what: &str, expression: &str) {
        self.shows_within(SHOWN, what, expression);
    }

    /// The same, for what takes the daemon longer.
    pub(crate) fn shows_within(&self, time: Duration, what: &str, expression: &str) {
        let seen = eventually(&format!("the page shows {what}"), time, || match self.value(expression) {
            Value::Bool(true) => Ok(()),
            other => Err(format!("{expression} is {other}; the page: {}", self.summary())),
        });
        seen.unwrap();
    }

    /// What an element with an id says.
    pub(crate) fn says(&self, id: &str) -> String {
        self.text(&format!("document.getElementById('{id}').textContent"))
    }

    /// Addresses in the grid.
    pub(crate) fn slots(&self) -> u64 {
        self.value("document.querySelectorAll('.slot').length").as_u64().unwrap()
    }

    /// The label of an address in the grid: `10.0.1.12, used, default/web`.
    pub(crate) fn slot(&self, address: &str) -> String {
        self.text(&format!("document.querySelector('[data-address=\"{address}\"]')?.getAttribute('aria-label')"))
    }

    /// Addresses of the status, as many as the grid must have.
    pub(crate) fn addresses(&self) -> u64 {
        self.node().status().unwrap()["addresses"].as_array().unwrap().len() as u64
    }

    /// Waits until the grid has every address that the daemon has.
    pub(crate) fn shows_every_address(&self) -> u64 {
        let same = eventually("the grid has every address", PATIENCE, || match (self.slots(), self.addresses()) {
            (slots, addresses) if slots == addresses && slots > 0 => Ok(slots),
            (slots, addresses) => Err(format!("{slots} slots, {addresses} addresses; the page: {}", self.summary())),
        });
        same.unwrap()
    }

    /// The page is in one piece: nothing in the console but messages, and nothing to scroll sideways.
    ///
    /// The browser runs where pods' links and ENIs come and go, and breaks connections off then; the page connects again.
    pub(crate) fn is_sound(&self) {
        let said = self.browser.console().unwrap();
        let is_error = |line: &&String| !line.starts_with("INFO") && !line.contains("net::ERR_NETWORK_CHANGED");
        let errors: Vec<&String> = said.iter().filter(is_error).collect();
        assert!(errors.is_empty(), "{errors:?}");
        let widths = self.value("[document.documentElement.scrollWidth, innerWidth]");
        assert!(widths[0].as_u64().unwrap() <= widths[1].as_u64().unwrap(), "wider than its window: {widths}");
    }

    /// Keeps a picture, and says where.
    pub(crate) fn picture(&self, name: &str) {
        println!("screenshot: {}", self.browser.screenshot(name).unwrap().display());
    }

    fn summary(&self) -> String {
        ["headline", "bound", "cause", "linked", "matches"].map(|id| self.says(id)).join(" | ")
    }
}
