"""A data node as a process: the store in a folder, its gRPC server, and the agent that takes part in the cluster."""

import asyncio
import logging
import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from infra.settings import check_loopback
from infra.shards.soundness import DATA_FILE, damaged
from muster.agent.agent import Agent
from muster.agent.settle import LocalShard
from muster.wire.error import NotReady
from muster.wire.shards.driver import Location
from workers.node.node import NodeServer

STORE_FILE: Final = "store.id"
_LOG: Final = logging.getLogger("muster.node")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Settings of a data node. `advertise`: where others reach it (`host:port`), when that is not where it listens.

    `urls` are the controllers; `cluster`: the one that is meant, if that was said.
    """

    node: str
    data: Path
    urls: Sequence[str]
    cluster: str | None = None
    listen: str = "127.0.0.1:0"
    advertise: str | None = None
    zone: str = ""
    capacity: float = 1.0
    lease_seconds: float = 5.0
    serve_bytes_per_second: float | None = None
    insecure: bool = False


async def serve(settings: NodeSettings) -> None:
    """Run a data node until SIGTERM or SIGINT.

    Raises NotReady when another process has the folder or the port, or when it must not listen there; StaleIncarnation when
    another one has joined as this node; NodeTaken when the id belongs to another folder.
    """
    check_loopback("--listen", settings.listen, insecure=settings.insecure)
    check_data(settings.data)
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    async with NodeServer(
        settings.data, settings.node, listen=settings.listen, bytes_per_second=settings.serve_bytes_per_second
    ) as node:
        agent = agent_of(node, settings)
        taking_part = asyncio.create_task(agent.run(), name=f"node {settings.node}")
        asked = asyncio.create_task(stopped.wait())
        await asyncio.wait((taking_part, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        # The agent ends before the server does: it gives up the lease, so that nothing is acknowledged while we stop.
        if not taking_part.done():
            _LOG.info("%s stops", settings.node)
            taking_part.cancel()
            await asyncio.wait([taking_part])
        if not taking_part.cancelled():
            taking_part.result()


def agent_of(node: NodeServer, settings: NodeSettings) -> Agent:
    """The agent of a node that is open already."""
    address = settings.advertise or node.address
    node.store.here = Location(settings.node, address)

    async def local() -> Sequence[LocalShard]:
        records = await asyncio.to_thread(node.store.records)
        node.traffic.look({shard: record.extent.bytes for shard, record in records if record.state == "serving"})
        return [LocalShard(shard, record.epoch, record.state) for shard, record in records]

    _LOG.info("%s listens at %s, for others at %s; its data is in %s", node.name, node.address, address, settings.data)
    return Agent(
        node.driver,
        node=settings.node,
        address=address,
        store=store_id(settings.data),
        on_lease=node.serve_until,
        local=local,
        load=node.traffic.load,
        url=settings.urls,
        cluster=settings.cluster,
        zone=settings.zone,
        capacity=settings.capacity,
        lease_seconds=settings.lease_seconds,
    )


def check_data(folder: Path) -> None:
    """Raises Corrupt when the folder has an id and no data: an empty store under an old id would pass for the old one."""
    data = folder / DATA_FILE
    try:
        if (folder / STORE_FILE).exists() and (not data.exists() or not data.stat().st_size):
            raise damaged(folder, f"{DATA_FILE} is gone or empty, and {STORE_FILE} says that it was there")
    except OSError as error:
        raise NotReady(f"the folder {folder} cannot be used: {error.strerror} ({error.filename})") from error


def store_id(folder: Path) -> str:
    """The id of the data in this folder, by which the controller knows it again; made once. The caller holds the folder.

    Raises Corrupt when the file holds no id, and NotReady when it cannot be read or made.
    """
    file = folder / STORE_FILE
    try:
        _make_id(file)
        found = file.read_bytes()
    except OSError as error:
        raise NotReady(f"the folder {folder} cannot be used: {error.strerror} ({error.filename})") from error
    if not re.fullmatch(rb"[!-~]{1,64}", found):
        raise damaged(folder, f"{STORE_FILE} holds no id: put it back from a copy of the folder")
    return found.decode()


def _make_id(file: Path) -> None:
    if not file.exists():
        # Written aside, synced and renamed: a crash leaves either no id or a whole one, never a part of one.
        fresh = file.with_suffix(".new")
        with fresh.open("w") as writing:
            writing.write(uuid4().hex)
            writing.flush()
            os.fsync(writing.fileno())
        fresh.replace(file)
        directory = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
