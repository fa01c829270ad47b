"""The checker's look at the files of stopped data nodes, held against the shard map that the log gives."""

from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from domain.shards.shard import Keyspace, Shard
from examples.shards.findings import Findings
from infra.shards.record import ShardRecord, digest_hex
from infra.shards.store import ShardStore
from muster.wire.shards.driver import Extent, ShardId
from muster.wire.shards.key import shard_of

_READABLE: Final = ("serving", "fenced")


@dataclass(slots=True)
class Copy:
    """A copy of a shard as it lies on a node. `write_ids`: the change that each counts as; `repeated`: those that stand more
    than once in its log of changes. Of copies that nobody may read, only the record is looked at.
    """

    node: str
    record: ShardRecord
    extent: Extent
    pairs: dict[str, bytes]
    write_ids: dict[str, int]
    repeated: list[str]


Copies = dict[ShardId, list[Copy]]


def read_nodes(nodes: dict[str, Path]) -> Copies:
    """All copies of all shards."""
    found: Copies = {}
    for node, path in nodes.items():
        with closing(ShardStore(path)) as store:
            for shard, record in store.records():
                if record.copy:
                    found.setdefault(shard, []).append(_copy(store, node, shard, record))
    return found


def _copy(store: ShardStore, node: str, shard: ShardId, record: ShardRecord) -> Copy:
    if record.state not in _READABLE:
        return Copy(node, record, record.extent, {}, {}, [])
    with store.snapshot(shard) as snapshot:
        pairs = {key: value for part in snapshot.pairs() for key, value in part}
        ids = {write_id: position for part in snapshot.write_ids() for write_id, position in part}
        extent = snapshot.recompute()
    logged: Counter[str] = Counter()
    after = record.log_first - 1
    while after < record.position:
        changes = store.changes(shard, after).changes
        logged.update(change.write_id for change in changes if change.write_id)
        after = changes[-1].position
    return Copy(node, record, extent, pairs, ids, [id_ for id_, times in logged.items() if times > 1])


def check_nodes(keyspaces: dict[str, Keyspace], copies: Copies, findings: Findings) -> Copies:
    """Every shard is served by its owner and nobody else, and nothing else lies about; the owners' copies, one for a shard."""
    owned: Copies = {}
    for shard, here in copies.items():
        state = keyspaces.get(shard.keyspace)
        if state is None or shard.shard >= state.count:
            findings.breach(f"I11 {shard} lies about on {[copy.node for copy in here]}, but there is no such shard")
    for name, state in keyspaces.items():
        for number in range(state.count):
            id_, shard = ShardId(name, number), state.shard(number)
            here = copies.get(id_, [])
            _check_places(id_, shard, here, findings)
            for copy in here:
                if copy.node == shard.owner and copy.record.state in _READABLE:
                    owned[id_] = [copy]
                    findings.shards += 1
                    _check_content(id_, state, copy, findings)
                elif copy.node != shard.owner and (number, copy.node) not in state.cleanups:
                    findings.breach(f"I11 {id_} lies about on {copy.node}: {copy.record.state}")
    return owned


def _check_places(id_: ShardId, shard: Shard, here: list[Copy], findings: Findings) -> None:
    serving = {copy.node: copy.record.epoch for copy in here if copy.record.state == "serving"}
    if shard.status == "active" and serving.get(shard.owner or "") != shard.epoch:
        findings.breach(f"I1 {id_} is {shard.owner}'s with epoch {shard.epoch}, but served by {serving or 'nobody'}")
    for node, epoch in serving.items():
        if node != shard.owner and epoch >= shard.epoch:
            findings.breach(f"I4 {id_} is served by {node} with epoch {epoch}, which was never given it")
        elif node != shard.owner and shard.status == "active":
            findings.breach(f"I2 {id_} would still be served by {node} with epoch {epoch}")


def _check_content(id_: ShardId, state: Keyspace, copy: Copy, findings: Findings) -> None:
    where = f"{id_} on {copy.node}"
    strayed = [key for key in copy.pairs if shard_of(key, state.count) != id_.shard]
    if strayed:
        findings.breach(f"{where} holds keys of other shards: {strayed[:3]}")
    kept = (digest_hex(copy.record.digest), copy.record.records, copy.record.bytes)
    if kept != (copy.extent.digest, copy.extent.records, copy.extent.bytes):
        findings.breach(f"{where}: its digest and counts are not those of its pairs")
    if copy.repeated:
        findings.breach(f"I14 {where} applied writes twice: {copy.repeated[:3]}")
