//! The web servers that relays are measured against.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

use crate::{Error, ErrorKind};

/// A file on a web server, to be fetched through relays in ranges.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    url: Url,
    host: String,
    port: u16,
    tls: bool,
}

impl Destination {
    /// The destination at `url`: `http` or `https`, with a host, without
    /// credentials.
    ///
    /// Over plain HTTP an exit can answer in the server's place; take HTTPS
    /// wherever the exits are not your own.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`], telling what is wrong with the URL.
    pub fn new(url: &str) -> Result<Self, Error> {
        let refuse = |why: &str| {
            Error::new(
                ErrorKind::Configuration,
                format!("destination {url:?}: {why}"),
            )
        };
        let parsed = Url::parse(url).map_err(|error| refuse(&error.to_string()))?;
        let tls = match parsed.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(refuse(&format!("{other} is neither http nor https"))),
        };
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(refuse("credentials in the URL are not supported"));
        }
        let host = match parsed.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            // A BEGIN message wants an IPv6 address in brackets.
            Some(Host::Ipv6(address)) => format!("[{address}]"),
            None => return Err(refuse("no host")),
        };
        let port = parsed
            .port_or_known_default()
            .filter(|&port| port != 0)
            .ok_or_else(|| refuse("no port"))?;
        Ok(Self {
            url: parsed,
            host,
            port,
            tls,
        })
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// The host as a BEGIN message wants it: a name, an IPv4 address, or an
    /// IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host as a TLS certificate names it: without brackets.
    pub fn server_name(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }

    /// The port, the scheme's default if the URL gives none.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns true if the scheme is `https`.
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// Path and query, as a request line wants them.
    #[cfg(feature = "http")]
    pub(crate) fn path_and_query(&self) -> &str {
        &self.url[url::Position::BeforePath..url::Position::AfterQuery]
    }

    /// The value of the `Host` header.
    #[cfg(feature = "http")]
    pub(crate) fn authority(&self) -> &str {
        &self.url[url::Position::BeforeHost..url::Position::AfterPort]
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Destination {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        Self::new(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_url() {
        let destination = Destination::new("https://bw.example/1G?x=y#f").unwrap();
        assert_eq!(
            (destination.host(), destination.port()),
            ("bw.example", 443)
        );
        assert!(destination.is_tls());
        assert_eq!(destination.path_and_query(), "/1G?x=y");
        assert_eq!(destination.authority(), "bw.example");

        let destination = Destination::new("http://[::1]:8080").unwrap();
        assert_eq!((destination.host(), destination.port()), ("[::1]", 8080));
        assert_eq!(destination.server_name(), "::1");
        assert_eq!(destination.path_and_query(), "/");
        assert_eq!(destination.authority(), "[::1]:8080");
    }

    #[test]
    fn what_cannot_be_a_destination_is_refused_by_name() {
        for (url, why) in [
            ("bw.example/1G", "relative URL"),
            ("ftp://bw.example/1G", "ftp is neither"),
            ("https://user@bw.example/", "credentials"),
            ("http://", "host"),
            ("http://h:0/", "no port"),
        ] {
            let error = Destination::new(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            let text = error.to_string();
            assert!(text.contains(url) && text.contains(why), "{text}");
        }
    }
}
