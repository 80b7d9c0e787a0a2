//! The facts of a network that a client needs.

use std::fmt::Write as _;
use std::path::Path;

use crate::Network;

impl Network {
    /// A configuration for arti: this network's authorities and first contacts,
    /// no subnet rule (all relays are in 127.0.0.0/8), no padding, no learned
    /// circuit timeouts, and nothing built ahead of need.
    ///
    /// In TOML, for `tor_config`; arti keeps its files in the two directories,
    /// whoever may write there.
    pub fn client_config_toml(&self, cache_dir: &Path, state_dir: &Path) -> String {
        let mut idents = Vec::new();
        let mut contacts = String::new();
        for authority in self.authorities() {
            let node = authority.record();
            idents.push(format!("\"{}\"", authority.v3ident()));
            // Writing to a String cannot fail.
            let _ = writeln!(
                contacts,
                "    {{ rsa_identity = \"{}\", ed_identity = \"{}\", orports = [\"{}\"] }},",
                node.fingerprint,
                node.ed25519,
                node.or_address(),
            );
        }
        format!(
            "[tor_network]\n\
             authorities = {{ v3idents = [{idents}] }}\n\
             fallback_caches = [\n{contacts}]\n\
             [path_rules]\n\
             ipv4_subnet_family_prefix = 33\n\
             ipv6_subnet_family_prefix = 129\n\
             [address_filter]\n\
             allow_local_addrs = true\n\
             [preemptive_circuits]\n\
             initial_predicted_ports = []\n\
             min_exit_circs_for_port = 0\n\
             [channel]\n\
             padding = \"none\"\n\
             [override_net_params]\n\
             cbtdisabled = 1\n\
             [storage]\n\
             cache_dir = {cache}\n\
             state_dir = {state}\n\
             [storage.permissions]\n\
             dangerously_trust_everyone = true\n",
            idents = idents.join(", "),
            cache = quoted(cache_dir),
            state = quoted(state_dir),
        )
    }
}

/// A TOML basic string; arti would take `$` and `~` in a path for variables.
fn quoted(path: &Path) -> String {
    let escaped = path.display().to_string().replace('$', "$$");
    // The escapes of JSON strings are escapes of TOML too.
    serde_json::Value::from(escaped).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Home;
    use crate::manifest::tests::sample_manifest;

    #[test]
    fn the_configuration_names_the_authorities_only() {
        let manifest = sample_manifest();
        let home = Home::of(Path::new("/net"), &manifest);
        let network = Network::new(manifest, home, false);
        let text = network.client_config_toml(Path::new("/a \"b\""), Path::new("/$c"));
        let ident = "09".repeat(20);
        assert!(
            text.contains(&format!("v3idents = [\"{ident}\"]")),
            "{text}"
        );
        assert!(text.contains("orports = [\"127.9.8.1:5000\"]"));
        assert!(!text.contains("127.9.8.2"));
        assert!(text.contains(r#"cache_dir = "/a \"b\"""#));
        assert!(text.contains(r#"state_dir = "/$$c""#));
    }
}
