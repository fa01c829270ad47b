"""A data node's agent, for any store: joins the cluster, holds a lease, and carries out the node's part in moves."""
