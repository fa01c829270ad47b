"""What a controller waits for before it answers reads, and before it takes writes; both as sentences for a person."""

from collections.abc import Mapping

from workers.peers.peering import Peering
from workers.writer.writer import Writer


def unread(writers: Mapping[int, Writer]) -> str | None:
    """Why reads cannot be answered yet."""
    reading = [number for number, writer in writers.items() if not writer.recovered.is_set()]
    return f"the log of partitions {reading} is still being read; wait" if reading else None


def unwritten(writers: Mapping[int, Writer], shared: Peering | None) -> str | None:
    """Why not every partition takes writes: it has no writer that reigns, here or at another controller that is alive."""
    waits = {number: why for number, writer in writers.items() if (why := _lacks(writer, shared)) is not None}
    if not waits:
        return None
    number, why = next(iter(waits.items()))
    others = f"; so do {len(waits) - 1} more of {len(writers)}" if len(waits) > 1 else ""
    return f"partition {number} takes no writes yet: {why}{others}"


def _lacks(writer: Writer, shared: Peering | None) -> str | None:
    if writer.state == "reigning":
        return None
    if shared is None:
        return writer.detail
    members, reigning = shared.members, writer.partition.cursor.writer
    owner = members.owner(writer.number)
    held = shared.strangers.hold(writer.number, reigning)
    if held is not None:
        return held
    # A controller that should write the partition does so only once its own term stands in the log.
    if owner is not None and owner != members.self_:
        return None if reigning == owner.name else f"{owner.name} has yet to start its term"
    if writer.state == "following" and owner is None:
        return "it is not known yet which controllers are alive"
    return writer.detail
