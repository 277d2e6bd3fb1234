// SPDX-License-Identifier: Apache-2.0
use std::collections::BTreeMap;

use super::super::{Config, ConfigError, parse};
use super::*;

fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn proxies(pairs: &[(&str, &str)]) -> Proxies {
    parse(&set(pairs)).expect("valid").0.proxies
}

fn refusals(pairs: &[(&str, &str)]) -> Vec<ConfigError> {
    parse(&set(pairs)).map(|(config, _): (Config, _)| config.proxies).expect_err("refused")
}

const BOTH: [(&str, &str); 2] = [("HTTP_PROXY", "http://plain:3128"), ("HTTPS_PROXY", "secure:3128")];

#[test]
fn each_scheme_has_its_own_proxy_and_an_unset_one_has_none() {
    let both = proxies(&BOTH);
    assert_eq!(both.route("https://ec2.us-east-1.amazonaws.com/"), Route::HttpsProxy);
    assert_eq!(both.route("http://ec2.internal:8000"), Route::HttpProxy);
    assert_eq!(both.https.as_ref().map(ProxyUrl::secret), Some("http://secure:3128"), "http is what is meant");
    let secure = proxies(&BOTH[1..]);
    assert_eq!(secure.route("http://ec2.internal"), Route::Direct);
    assert_eq!(proxies(&[("ALL_PROXY", "http://all:1")]), Proxies::default(), "Go does not read it");
    for odd in ["", "https://", "ftp://a/", "https://a:port/", "nonsense"] {
        assert_eq!(both.route(odd), Route::Direct, "{odd}");
    }
}

#[test]
fn upper_case_goes_first_unless_it_is_empty() {
    let url = |pairs: &[(&str, &str)]| proxies(pairs).https.map(|url| url.secret().to_owned());
    assert_eq!(url(&[("HTTPS_PROXY", "http://a:1"), ("https_proxy", "http://b:1")]).as_deref(), Some("http://a:1"));
    assert_eq!(url(&[("HTTPS_PROXY", ""), ("https_proxy", "http://b:1")]).as_deref(), Some("http://b:1"));
    let spared = proxies(&[BOTH[1], ("no_proxy", ".amazonaws.com")]);
    assert_eq!(spared.route("https://ec2.us-east-1.amazonaws.com"), Route::Direct);
}

#[test]
fn what_is_on_the_instance_has_no_proxy_whatever_is_set() {
    let all = proxies(&[BOTH[0], BOTH[1], ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://imds.test:8080/")]);
    for url in [
        "http://169.254.169.254/latest/api/token",
        "http://[fd00:ec2::254]/latest",
        "http://169.254.170.2/v2/credentials",
        "http://169.254.170.23/v1/credentials",
        "http://[fd00:ec2::23]/v1/credentials",
        "http://127.0.0.1:8000",
        "https://127.9.9.9",
        "https://[::1]:443/",
        "http://LocalHost:9",
        "http://[fe80::1]/",
        "http://imds.test:8080/latest",
    ] {
        assert_eq!(all.route(url), Route::Direct, "{url}");
    }
    assert_eq!(all.route("http://[fd00:ec3::254]/"), Route::HttpProxy);
    assert_eq!(all.route("http://170.254.169.254/"), Route::HttpProxy);
}

/// Each line: NO_PROXY, a URL, whether it is spared. As golang.org/x/net/http/httpproxy documents it.
#[test]
fn no_proxy_is_read_as_go_reads_it() {
    for (list, url, spared) in [
        ("amazonaws.com", "https://amazonaws.com", true),
        ("amazonaws.com", "https://ec2.us-east-1.amazonaws.com", true),
        ("amazonaws.com", "https://notamazonaws.com", false),
        (".amazonaws.com", "https://amazonaws.com", false),
        (".amazonaws.com", "https://a.amazonaws.com", true),
        ("*.amazonaws.com", "https://a.amazonaws.com", true),
        ("*.amazonaws.com", "https://amazonaws.com", false),
        ("AmazonAWS.com", "https://EC2.amazonaws.COM", true),
        ("ec2.test:443", "https://ec2.test", true),
        ("ec2.test:443", "https://ec2.test:8443", false),
        ("ec2.test:80", "http://ec2.test", true),
        ("10.0.0.0/8", "https://10.1.2.3", true),
        ("10.0.0.0/8", "https://11.1.2.3", false),
        ("10.0.0.0/8", "https://ec2.test", false),
        ("10.1.2.3", "https://10.1.2.3:8443", true),
        ("10.1.2.3:443", "https://10.1.2.3:8443", false),
        ("fd00::/8", "https://[fd00::1]", true),
        ("[fd00::1]:443", "https://[fd00::1]", true),
        ("fd00::1", "https://[fd00::1]:8443", true),
        ("*", "https://anything.test", true),
        ("a.test, *", "https://b.test", true),
        (" a.test , b.test ,", "https://b.test", true),
        ("ec2.test:port", "https://ec2.test", false),
        (",,:80,.", "https://ec2.test", false),
        ("", "https://ec2.test", false),
    ] {
        let all = proxies(&[BOTH[0], BOTH[1], ("NO_PROXY", list)]);
        assert_eq!(all.route(url) == Route::Direct, spared, "NO_PROXY={list} {url}");
    }
}

#[test]
fn a_proxy_that_cannot_be_used_is_refused_by_name_and_its_password_is_not_told() {
    for (value, said) in [
        ("socks5://user:geheim@a:1080", "SOCKS"),
        ("ftp://user:geheim@a", "such as http://"),
        ("http://user:geheim@", "such as http://"),
        ("http://user:geheim@a:port", "such as http://"),
        ("user:geheim@a b:3128", "no host"),
    ] {
        let errors = refusals(&[("HTTPS_PROXY", value)]);
        assert_eq!(errors.iter().map(|error| error.variable.as_str()).collect::<Vec<_>>(), ["HTTPS_PROXY"], "{value}");
        let text = errors[0].to_string();
        assert!(text.contains(said) && !text.contains("geheim"), "{text}");
    }
    let good = proxies(&[("https_proxy", "http://user:geheim@a:3128")]);
    assert!(good.https.as_ref().is_some_and(|url| url.secret().contains("geheim")));
    assert!(!format!("{good:?}").contains("geheim") && format!("{good:?}").contains("http://a:3128"), "{good:?}");
}
