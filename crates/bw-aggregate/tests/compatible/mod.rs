//! Files as sbws makes them, from a store.

use std::ops::ControlFlow;

use bw_aggregate::{SbwsError, SbwsGenerator, SbwsHeader, SbwsOptions};
use bw_results::{Filter, Store, UnixMillis};

/// What `bwscan generate --compat sbws` makes of a store; the header gets the
/// store's state.
pub(crate) fn from_store(
    store: &Store,
    options: SbwsOptions,
    mut header: SbwsHeader,
) -> Result<String, SbwsError> {
    header.state = store.sbws_state().unwrap().unwrap_or_default();
    let since = UnixMillis::from_secs(options.first_day());
    let mut generator = SbwsGenerator::new(options);
    let end = store.for_each_sbws_facts(&Filter::all().since(since), |stored| {
        generator.add(stored.value.0, stored.value.1);
        ControlFlow::<()>::Continue(())
    });
    assert!(end.unwrap().is_continue());
    let network = store.latest_snapshot().unwrap().map(|(_, network)| network);
    let file = generator.finish(&header, network.as_ref())?;
    Ok(String::from_utf8(file).unwrap())
}
