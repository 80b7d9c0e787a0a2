//! Errors of arti in the words of this project.

use std::error::Error as StdError;

use tor_error::{ErrorKind, HasKind};

use crate::error::chain;

/// The error in one plain clause. arti's own text, which names its types and
/// internals, goes to the log.
pub(super) fn describe<E>(error: &E) -> String
where
    E: HasKind + StdError + 'static,
{
    let kind = error.kind();
    tracing::debug!(?kind, error = chain(error), "arti reports an error");
    match (words(kind), system_error(error)) {
        (Some(words), Some(cause)) => format!("{words}: {cause}"),
        (Some(words), None) => words.to_owned(),
        (None, _) => kind.to_string(),
    }
}

fn words(kind: ErrorKind) -> Option<&'static str> {
    use ErrorKind as K;
    Some(match kind {
        K::RemoteConnectionRefused => "the destination refused the connection",
        K::RemoteHostNotFound | K::RemoteHostResolutionFailed => {
            "the exit cannot resolve the host name of the destination; check the name"
        }
        K::RemoteNetworkFailed => "the exit has no route to the destination",
        K::RemoteNetworkTimeout | K::ExitTimeout => {
            "the exit had no answer from the destination in time"
        }
        K::ExitPolicyRejected => "the policy of the exit does not allow the destination",
        K::RelayTooBusy => "the relay says that it is too busy",
        K::CircuitRefused => "a relay refused the circuit",
        K::CircuitCollapse => "a relay closed the circuit",
        K::TorAccessFailed => "no connection to the relay",
        K::LocalNetworkError => "this machine has no route to the relay",
        K::TorNetworkTimeout => "no answer from the relay in time",
        K::RelayIdMismatch => "the relay has another identity than the consensus says",
        K::TorProtocolViolation | K::RemoteProtocolViolation => "the relay broke the protocol",
        K::RemoteStreamClosed | K::RemoteStreamReset | K::RemoteStreamError => {
            "the exit closed the stream"
        }
        K::TorDirectoryError => "the directory of the network is unusable",
        K::ClockSkew => "the clock of this machine or of the relay is wrong",
        _ => return None,
    })
}

/// The error of the operating system behind it, as people read it.
fn system_error(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && io.raw_os_error().is_some()
        {
            return Some(io.kind().to_string());
        }
        next = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("Problem with [(127.0.0.1:9, Direct(Os {{ code: 111, kind: ConnectionRefused }}))]")]
    struct Opaque(#[source] std::io::Error);

    impl HasKind for Opaque {
        fn kind(&self) -> ErrorKind {
            ErrorKind::TorAccessFailed
        }
    }

    #[test]
    fn no_text_of_arti_is_shown() {
        let text = describe(&Opaque(std::io::Error::from_raw_os_error(111)));
        assert_eq!(text, "no connection to the relay: connection refused");
        let text = describe(&Opaque(std::io::Error::other("Direct(")));
        assert_eq!(text, "no connection to the relay");
    }
}
