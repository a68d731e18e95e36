"""Which hosts there are: names and sets of them, labels, hosts.toml."""
