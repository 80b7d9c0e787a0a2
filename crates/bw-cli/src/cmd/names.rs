//! Names of destinations, looked up before a scan.
//!
//! Exits look them up themselves. A name that does not exist at all would be found
//! out only when circuits through relays have failed, so this machine asks first.

use std::io;
use std::time::Duration;

use bw_measure::{Destination, Error, ErrorKind};

use crate::text::warn;

/// A look-up that takes longer says nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// The result of looking a name up.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// It has an address, or nothing is known against it.
    Fine,
    /// The resolver of this machine does not work.
    NoResolver,
    /// There is no such name.
    Unknown,
}

/// The destinations without those whose names do not exist, of which it warns.
///
/// # Errors
/// If no other is left.
pub(super) async fn with_known_names(
    destinations: Vec<Destination>,
) -> Result<Vec<Destination>, Error> {
    let answers = futures::future::join_all(destinations.iter().map(look_up)).await;
    let mut known = Vec::new();
    let mut refused = Vec::new();
    for (destination, answer) in destinations.into_iter().zip(answers) {
        let name = destination.server_name().to_owned();
        match answer {
            Answer::Unknown => refused.push(name),
            Answer::NoResolver => {
                warn(&format!(
                    "this machine cannot look up names now, so {name} may be wrong"
                ));
                known.push(destination);
            }
            Answer::Fine => known.push(destination),
        }
    }
    let text = |name: &String| {
        format!(
            "there is no host with the name {name}; correct --destination, or give the server's \
             address in place of its name"
        )
    };
    match refused.first() {
        Some(name) if known.is_empty() => Err(Error::new(ErrorKind::Destination, text(name))),
        _ => {
            for name in &refused {
                warn(&format!("{}; the scan leaves it out", text(name)));
            }
            Ok(known)
        }
    }
}

async fn look_up(destination: &Destination) -> Answer {
    let name = (destination.server_name(), destination.port());
    match tokio::time::timeout(PATIENCE, tokio::net::lookup_host(name)).await {
        Ok(Err(error)) => answer(&error),
        Ok(Ok(_)) => Answer::Fine,
        Err(_) => Answer::NoResolver,
    }
}

/// The standard library tells the reason in words only. Those of glibc and musl for
/// a resolver that does not answer are known; errors of the system have a number.
fn answer(error: &io::Error) -> Answer {
    let text = error.to_string().to_lowercase();
    let passing = ["temporary", "try again", "recoverable"];
    if error.raw_os_error().is_some() || passing.iter().any(|words| text.contains(words)) {
        Answer::NoResolver
    } else {
        Answer::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_that_fails_is_not_a_name_that_is_wrong() {
        let failed = |text: &str| {
            let text = format!("failed to lookup address information: {text}");
            answer(&io::Error::other(text))
        };
        assert_eq!(failed("Name or service not known"), Answer::Unknown);
        assert_eq!(failed("Name does not resolve"), Answer::Unknown);
        assert_eq!(
            failed("No address associated with hostname"),
            Answer::Unknown
        );
        for text in [
            "Temporary failure in name resolution",
            "Try again",
            "Non-recoverable failure in name resolution",
        ] {
            assert_eq!(failed(text), Answer::NoResolver, "{text}");
        }
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(answer(&refused), Answer::NoResolver);
    }

    #[tokio::test]
    async fn only_names_that_do_not_exist_are_left_out() {
        let of = |urls: &[&str]| -> Vec<Destination> {
            urls.iter()
                .map(|url| Destination::new(url).unwrap())
                .collect()
        };
        let good = of(&["http://127.0.0.1:80/x", "http://[::1]/x"]);
        assert_eq!(with_known_names(good.clone()).await.unwrap(), good);
    }
}
