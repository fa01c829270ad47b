"""The rows of any read model: listed, one by its key, and followed."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic

from muster.client.event_stream import follow
from muster.client.keyed import Keyed
from muster.client.transport import Consistency, Transport, path_of
from muster.wire.read_model import Item, Page, ReadModel

Asked = Mapping[str, object]
"""What a list is asked for, by the names of its filters; None: that one is not asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsChanged(Generic[Item]):
    """Rows that are new or have changed, as they are now, and the keys (`a/b`) of those that are gone."""

    changed: tuple[Item, ...]
    gone: tuple[str, ...]


async def page_of(transport: Transport, model: ReadModel[Item], asked: Asked, consistency: Consistency) -> Page[Item]:
    """The rows that match."""
    return model.page.validate_json(await transport.read(path_of(model.name), query_of(asked), consistency))


async def row_of(transport: Transport, model: ReadModel[Item], key: Sequence[str], consistency: Consistency) -> Item:
    """The row of the key. Raises what the read model's controller says of a key without a row."""
    return model.one.validate_json(await transport.read(path_of(model.name, *key), {}, consistency))


async def changes_of(
    transport: Transport, model: ReadModel[Item], asked: Asked, reconnect_seconds_max: float
) -> AsyncGenerator[RowsChanged[Item], None]:
    """First all rows, then those that change, as they do."""
    held = Keyed(*model.key)
    path = path_of("watch", model.name)
    async with aclosing(follow(transport, path, query_of(asked), held.take, reconnect_seconds_max)) as changes:
        async for keys in changes:
            rows = [held.rows[key] for key in keys if key in held.rows]
            yield RowsChanged(
                changed=tuple(map(model.one.validate_python, rows)),
                gone=tuple(key for key in keys if key not in held.rows),
            )


def query_of(asked: Asked) -> dict[str, str]:
    """The query of a request: what was asked for, as texts."""
    texts = {name: value for name, value in asked.items() if value is not None}
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in texts.items()}
