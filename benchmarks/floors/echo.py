"""The floor for a data node: a bare `grpc.aio` server of the same messages, which stores nothing.

    python -m benchmarks.floors.echo

Prints the port; every get finds a value of the usual size, every write is acknowledged.
"""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop

from benchmarks.data import value
from muster.wire.rpc import node_pb2, node_pb2_grpc
from workers.node.listener import SERVER_OPTIONS


class Echo(node_pb2_grpc.ShardNodeServicer):
    """Answers at once."""

    async def Put(self, request: node_pb2.PutRequest, context: Any) -> node_pb2.Written:  # noqa: N802
        """Acknowledge."""
        return node_pb2.Written(position=1, epoch=1)

    async def Get(self, request: node_pb2.GetRequest, context: Any) -> node_pb2.Found:  # noqa: N802
        """Find something."""
        return node_pb2.Found(found=True, value=value(0), epoch=1)

    async def Batch(self, requests: AsyncIterator[node_pb2.Operations], context: Any) -> None:  # noqa: N802
        """One message is answered before the next."""
        async for message in requests:
            results = node_pb2.Results()
            for operation in message.operations:
                result = results.results.add()
                if operation.HasField("get"):
                    result.found.CopyFrom(node_pb2.Found(found=True, value=value(0), epoch=1))
                else:
                    result.written.position = result.written.epoch = 1
            await context.write(results)


async def main() -> None:
    """Serve until killed."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    node_pb2_grpc.add_ShardNodeServicer_to_server(Echo(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())
