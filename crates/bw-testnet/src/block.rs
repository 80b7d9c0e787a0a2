//! Addresses for a network: a block of 127.0.0.0/8 with free ports.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

use crate::{Error, ErrorKind, Plan, Role};

/// Random blocks that are tried before giving up. One is nearly always free,
/// unless something listens on the port at every address.
const ATTEMPTS: usize = 8;

/// The first three bytes of all addresses of a network: 127.A.B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block(u8, u8);

impl Block {
    /// The plan's block, or a random one, with all ports free.
    pub(crate) fn find(plan: &Plan) -> Result<Self, Error> {
        if let Some((a, b)) = plan.options.block {
            let block = Self(a, b);
            return block.probe(plan).map(|()| block);
        }
        let mut last = None;
        for _ in 0..ATTEMPTS {
            // 127.0.x.y is where other programs listen.
            let block = Self(rand::random_range(1..=254), rand::random_range(0..=254));
            match block.probe(plan) {
                Ok(()) => return Ok(block),
                Err(error) if error.kind() == ErrorKind::AddressBusy => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        let everywhere = || Error::new(ErrorKind::AddressBusy, "no free addresses");
        Err(last.unwrap_or_else(everywhere))
    }

    /// The address of the `index`-th node.
    pub(crate) fn address(self, index: usize) -> Ipv4Addr {
        // A plan has at most 250 nodes.
        let host = u8::try_from(index + 1).unwrap_or(u8::MAX);
        Ipv4Addr::new(127, self.0, self.1, host)
    }

    /// Checks that every port that the network needs can be listened on now.
    fn probe(self, plan: &Plan) -> Result<(), Error> {
        let options = &plan.options;
        for (index, relay) in plan.relays.iter().enumerate() {
            let dir_port = (relay.role == Role::Authority).then_some(options.dir_port);
            let inner_port = relay.has_line().then(|| plan.inner_port());
            let ports = [Some(options.or_port), inner_port, dir_port];
            for port in ports.into_iter().flatten() {
                let address = SocketAddrV4::new(self.address(index), port);
                TcpListener::bind(address).map_err(|error| refused(address, error))?;
            }
        }
        Ok(())
    }
}

fn refused(address: SocketAddrV4, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::AddrInUse {
        let text = format!(
            "{address} is in use by another program: stop it (ss -tlnp names it), or give \
             the network other ports or another block of addresses"
        );
        Error::new(ErrorKind::AddressBusy, text)
    } else {
        Error::new(ErrorKind::Io, format!("listening on {address}")).with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(port: u16) -> crate::PlanBuilder {
        Plan::builder().ports(port, port + 1)
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind("127.77.88.2:0").unwrap();
        let address = taken.local_addr().unwrap();
        let fixed = plan(address.port()).block(77, 88).build().unwrap();
        let error = Block::find(&fixed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddressBusy);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        drop(taken);
        assert_eq!(Block::find(&fixed).unwrap(), Block(77, 88));
    }

    #[test]
    fn a_port_taken_everywhere_is_an_error() {
        let taken = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = Block::find(&plan(port).build().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddressBusy);
    }

    #[test]
    fn every_node_has_its_own_address() {
        let block = Block::find(&plan(5000).build().unwrap()).unwrap();
        assert_eq!(block.address(0).octets()[3], 1);
        assert_eq!(block.address(249).octets()[3], 250);
    }
}
