"""Other products, measured in the same run with clients as lean as ours: `make bench RIVALS=etcd`."""
