// SPDX-License-Identifier: Apache-2.0
//! Which requests to AWS go through a proxy: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` as Go's net/http reads them, because
//! that is what the reference's users have written down.
//!
//! Decides by scheme, host and port alone; it resolves no name and opens no connection. Differences from Go: a proxy that cannot
//! be read or that speaks SOCKS is an error and not ignored, and what is link-local never goes through a proxy, whatever is set:
//! instance metadata, the credentials of ECS and EKS, and the metadata endpoint of the configuration. `ALL_PROXY` is not read,
//! nor does Go read it.
//!
//! Invariant: loopback and link-local destinations have no proxy. An upper-case variable that is not empty goes before the
//! lower-case one.
//!
//! Worked example: `NO_PROXY=.internal,10.0.0.0/8,ec2.us-east-1.amazonaws.com:443` spares a.internal (not `internal` itself),
//! 10.1.2.3 and that one name at port 443.
//!
//! Source: golang.org/x/net/http/httpproxy, documentation of `Config`; EC2 user guide, "Use IMDSv2" (fd00:ec2::254); EKS user guide,
//! "EKS Pod Identity" (169.254.170.23, fd00:ec2::23).

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};

use super::read::Reader;

/// Variables, each with its lower-case name.
const HTTP: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
const HTTPS: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
const SPARED: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// A proxy's URL, as it is connected to; may hold a password, which is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(String);

/// The proxies of the environment, and who is spared them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http` URLs (`HTTP_PROXY`).
    pub http: Option<ProxyUrl>,
    /// For `https` URLs (`HTTPS_PROXY`).
    pub https: Option<ProxyUrl>,
    spared: Vec<Spared>,
    /// Host of the metadata endpoint, where it is not the link-local one.
    metadata: Option<String>,
}

/// One entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Spared {
    All,
    Network(IpNet),
    Address {
        address: IpAddr,
        port: Option<u16>,
    },
    /// `suffix` begins with a dot; `itself`: the name without it, too.
    Name {
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Straight to its destination.
    Direct,
    /// Through the proxy for `http`.
    HttpProxy,
    /// Through the proxy for `https`.
    HttpsProxy,
}

impl ProxyUrl {
    /// The whole URL, with its password.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_user(&self.0))
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Proxies {
    /// Where a request to this URL goes; one that cannot be taken apart goes straight, and fails there.
    #[must_use]
    pub fn route(&self, url: &str) -> Route {
        let Some((scheme, host, port)) = take_apart(url) else { return Route::Direct };
        let (route, proxy, usual) = match scheme.as_str() {
            "https" => (Route::HttpsProxy, &self.https, 443),
            "http" => (Route::HttpProxy, &self.http, 80),
            _ => return Route::Direct,
        };
        if proxy.is_none() || self.spares(&host, port.unwrap_or(usual)) { Route::Direct } else { route }
    }

    fn spares(&self, host: &str, port: u16) -> bool {
        let address: Option<IpAddr> = host.parse().ok();
        if host == "localhost" || self.metadata.as_deref() == Some(host) || address.is_some_and(is_never_proxied) {
            return true;
        }
        self.spared.iter().any(|spared| spared.matches(host, address, port))
    }
}

impl Spared {
    fn read(entry: &str) -> Option<Self> {
        if let Ok(network) = entry.parse() {
            return Some(Self::Network(network));
        }
        let (host, port) = split_port(entry)?;
        if let Ok(address) = host.parse() {
            return Some(Self::Address { address, port });
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        match host.strip_prefix('.') {
            Some("") => None,
            _ if host.is_empty() => None,
            Some(_) => Some(Self::Name { suffix: host.to_owned(), itself: false, port }),
            None => Some(Self::Name { suffix: format!(".{host}"), itself: true, port }),
        }
    }

    fn matches(&self, host: &str, address: Option<IpAddr>, at: u16) -> bool {
        match self {
            Self::All => true,
            Self::Network(network) => address.is_some_and(|address| network.contains(&address)),
            Self::Address { address: own, port } => address == Some(*own) && port.is_none_or(|port| port == at),
            Self::Name { suffix, itself, port } => {
                (host.ends_with(suffix) || (*itself && host == &suffix[1..])) && port.is_none_or(|port| port == at)
            }
        }
    }
}

/// Loopback, and what lives on the link of an instance: metadata and the agents of ECS and EKS.
fn is_never_proxied(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => {
            let of_ec2 = Ipv6Net::new_assert([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0].into(), 32);
            address.is_loopback() || address.is_unicast_link_local() || of_ec2.contains(&address)
        }
    }
}

/// Scheme, host (lower case, no brackets) and port of a URL. `None`: it has no host, or a port that is no number.
fn take_apart(url: &str) -> Option<(String, String, Option<u16>)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let (host, port) = split_port(authority)?;
    (!host.is_empty()).then(|| (scheme.to_ascii_lowercase(), host.to_ascii_lowercase(), port))
}

/// `host:port`, `[address]:port`, or what has no port: an IPv6 address without brackets among them. `None`: a port that is none.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (host, port) = match bracketed {
        Some((host, rest)) => (host, rest.strip_prefix(':').unwrap_or(rest)),
        None => text.rsplit_once(':').filter(|(host, _)| !host.contains(':')).unwrap_or((text, "")),
    };
    if port.is_empty() { Some((host, None)) } else { Some((host, Some(port.parse().ok()?))) }
}

/// A URL without the user and password in it. All before the last `@` goes, whatever stands there: a password may hold `/`, and no
/// scheme need be written.
pub(super) fn without_user(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    if scheme.is_empty() { place.to_owned() } else { format!("{scheme}://{place}") }
}

/// The lower-case name of a variable, which counts where that one is not set.
pub(super) fn alias(variable: &str) -> Option<&'static str> {
    [HTTP, HTTPS, SPARED].into_iter().find_map(|[name, alias]| (name == variable).then_some(alias))
}

/// The variables; `metadata`: base URL of the metadata service, which is spared by its host.
pub(super) fn read(reader: &mut Reader<'_>, metadata: Option<&str>) -> Proxies {
    let http = proxy(reader, HTTP);
    let https = proxy(reader, HTTPS);
    let list = either(reader, SPARED).map(|(_, list)| list).unwrap_or_default();
    let spared = if list.split(',').any(|entry| entry.trim() == "*") {
        vec![Spared::All]
    } else {
        list.split(',').filter_map(|entry| Spared::read(&entry.trim().to_ascii_lowercase())).collect()
    };
    Proxies { http, https, spared, metadata: metadata.and_then(take_apart).map(|(_, host, _)| host) }
}

fn either(reader: &Reader<'_>, names: [&'static str; 2]) -> Option<(&'static str, String)> {
    names.into_iter().find_map(|name| reader.text(name).map(|text| (name, text)))
}

fn proxy(reader: &mut Reader<'_>, names: [&'static str; 2]) -> Option<ProxyUrl> {
    let (name, text) = either(reader, names)?;
    let url = if text.contains("://") { text.clone() } else { format!("http://{text}") };
    let allowed = "a proxy's URL such as http://10.0.0.5:3128 is allowed";
    let problem = match take_apart(&url) {
        Some((scheme, ..)) if scheme.starts_with("socks") => format!("SOCKS is not spoken; {allowed}"),
        Some((scheme, host, _)) if scheme == "http" || scheme == "https" => {
            if host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte)) {
                return Some(ProxyUrl(url));
            }
            format!("{host:?} is no host; {allowed}")
        }
        _ => allowed.to_owned(),
    };
    // A password must not get into a log by a mistake elsewhere in the URL.
    reader.error(name, &without_user(&text), problem);
    None
}

#[cfg(test)]
mod tests;
