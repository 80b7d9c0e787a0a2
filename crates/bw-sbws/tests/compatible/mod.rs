//! Files as sbws makes them, from a store.

use bw_results::UnixMillis;
use bw_sbws::{GenerateError, Generator, Header, Options};
use bw_store::{Store, Stores};

/// The file that `bwscan generate --compat sbws` makes of a store; the header gets
/// the store's state.
pub(crate) fn from_store(
    store: &Store,
    options: Options,
    mut header: Header,
) -> Result<String, GenerateError> {
    let stores = Stores::open_read_only([store.path()]).unwrap();
    header.state = store.imported_state().unwrap().unwrap_or_default();
    let mut generator = Generator::new(options);
    generator.read_stores(&stores).unwrap();
    let network = stores
        .latest_snapshot_by(UnixMillis::new(u64::MAX))
        .unwrap();
    let file = generator.finish(&header, network.as_ref())?;
    Ok(String::from_utf8(file).unwrap())
}
