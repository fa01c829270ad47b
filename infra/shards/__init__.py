"""The store of a data node, on LMDB."""
