// SPDX-License-Identifier: Apache-2.0
//! A scrape: asked for as Prometheus does, from inside the node, and read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};

use integration::node::Node;
use integration::node::http::{ANSWER, Answer, get};

/// Where metrics are when nobody says otherwise.
pub(crate) const PORT: u16 = 61678;

/// The text of one scrape.
#[derive(Clone, Debug)]
pub(crate) struct Scrape(pub(crate) String);

/// Asks at a TCP address of the node.
pub(crate) fn at(node: &Node, address: SocketAddr) -> Result<Scrape, String> {
    by_name(node, address, &address.to_string())
}

/// The same, with another name for the host.
pub(crate) fn by_name(node: &Node, address: SocketAddr, host: &str) -> Result<Scrape, String> {
    let asked = node.netns.run(|| {
        let stream = TcpStream::connect_timeout(&address, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        get(stream, host, "/metrics")
    });
    scraped(asked.map_err(|error| error.to_string())?)
}

/// Asks at the default port.
pub(crate) fn of(node: &Node) -> Result<Scrape, String> {
    at(node, SocketAddr::from(([127, 0, 0, 1], PORT)))
}

/// Asks at the socket of root's commands.
pub(crate) fn by_socket(node: &Node) -> Result<Scrape, String> {
    scraped(node.get("/metrics"))
}

fn scraped(answer: std::io::Result<Answer>) -> Result<Scrape, String> {
    let Answer { head, body } = answer.map_err(|error| error.to_string())?;
    let content_type = "content-type: text/plain; version=0.0.4; charset=utf-8";
    if !head.to_lowercase().contains(content_type) {
        return Err(format!("another content type: {head}"));
    }
    Ok(Scrape(body))
}

impl Scrape {
    /// All series: `name{labels}` and value.
    pub(crate) fn series(&self) -> BTreeMap<String, f64> {
        let lines = self.0.lines().filter(|line| !line.starts_with('#'));
        let read = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
        });
        read.collect()
    }

    /// The value of one series, which must be there.
    pub(crate) fn value(&self, series: &str) -> f64 {
        let all = self.series();
        *all.get(series).unwrap_or_else(|| panic!("no {series} in\n{}", self.0))
    }

    /// Sum over the series of a family that have all of these labels.
    pub(crate) fn sum(&self, family: &str, labels: &[&str]) -> f64 {
        let all = self.series().into_iter();
        let ours =
            all.filter(|(series, _)| name_of(series) == family && labels.iter().all(|label| series.contains(label)));
        ours.map(|(_, value)| value).sum()
    }

    /// Kinds of the families, by name.
    pub(crate) fn kinds(&self) -> BTreeMap<&str, &str> {
        let lines = self.0.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        lines.map(|line| line.split_once(' ').unwrap()).collect()
    }

    /// Values of a label, wherever it is.
    pub(crate) fn values_of(&self, label: &str) -> BTreeSet<String> {
        let wanted = format!("{label}=\"");
        let series = self.series().into_keys();
        let values = series.filter_map(|series| {
            let (_, rest) = series.split_once(&wanted)?;
            Some(rest.split_once('"')?.0.to_owned())
        });
        values.collect()
    }

    /// The part of the text that is about families of which this is true.
    pub(crate) fn only(&self, is_meant: impl Fn(&str) -> bool) -> String {
        let name =
            |line: &str| line.strip_prefix("# HELP ").or(line.strip_prefix("# TYPE ")).unwrap_or(line).to_owned();
        let lines = self.0.lines().filter(|line| is_meant(&name(line)));
        lines.map(|line| format!("{line}\n")).collect()
    }
}

/// `name` of `name{labels}`.
pub(crate) fn name_of(series: &str) -> &str {
    series.split('{').next().unwrap_or_default()
}
