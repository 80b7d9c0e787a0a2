//! Diagnostics on standard error: quiet unless asked for.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::args::Global;

/// Sets up the process's log.
///
/// Without an option only our own warnings are shown: arti warns at length
/// about networks as small as a private one.
pub(crate) fn init(global: &Global) {
    let filter = match (&global.log, global.verbose) {
        (Some(filter), _) => filter.clone(),
        (None, 0) => "error,bw_cli=warn,bw_measure=warn,bw_testnet=warn,\
                      arti_client=off,tor_dirmgr=off,tor_guardmgr=off,tor_circmgr=off,\
                      tor_chanmgr=off,tor_proto=off,tor_netdir=off,fs_mistrust=off"
            .to_owned(),
        (None, 1) => "error,bw_cli=info,bw_measure=info,bw_testnet=info".to_owned(),
        (None, 2) => "info,bw_cli=debug,bw_measure=debug,bw_testnet=debug".to_owned(),
        (None, _) => "debug".to_owned(),
    };
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("warn"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Output)
        .with_ansi(std::io::stderr().is_terminal())
        .with_span_events(FmtSpan::NONE);
    // A subscriber may be installed already only in tests.
    let _ = if global.log_json {
        builder.json().try_init()
    } else {
        builder.with_target(false).try_init()
    };
}

/// The log while it is held back; `None` while it is not.
static HELD: Mutex<Option<Vec<u8>>> = Mutex::new(None);
/// The bytes that are kept of it, the first that came.
const MOST: usize = 1 << 16;

/// Holds the log back until it is dropped: standard error is silent meanwhile.
pub(crate) struct Hold(());

impl Hold {
    pub(crate) fn new() -> Self {
        held().get_or_insert_default();
        Self(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(bytes) = held().take() {
            let _ = std::io::stderr().write_all(&bytes);
        }
    }
}

fn held() -> MutexGuard<'static, Option<Vec<u8>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Standard error, or what is held back.
struct Output;

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &mut *held() {
            None => std::io::stderr().write(bytes),
            Some(kept) => {
                let room = MOST.saturating_sub(kept.len()).min(bytes.len());
                kept.extend_from_slice(&bytes[..room]);
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
