//! Diagnostics on standard error: quiet unless asked for.

use std::io::IsTerminal;

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
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_span_events(FmtSpan::NONE);
    // A subscriber may be installed already only in tests.
    let _ = if global.log_json {
        builder.json().try_init()
    } else {
        builder.with_target(false).try_init()
    };
}
