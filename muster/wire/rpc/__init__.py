"""The data nodes' gRPC service: its definition, and the code generated from it (`python -m docs.generate`)."""

import os

# Left alone, gRPC's handlers run in every child that this process forks, and can hang it before its program begins (seen:
# `epoll_wait error: Bad file descriptor`). No child of ours uses gRPC without a program of its own.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
