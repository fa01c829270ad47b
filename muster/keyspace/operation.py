"""Operations on a keyspace and their results, as plain values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Put:
    """Set the key's value. With a `write_id` of your own, any process may repeat it, and it is applied once."""

    key: str
    value: bytes
    write_id: str | None = None


@dataclass(frozen=True, slots=True)
class Get:
    """Read the key's value."""

    key: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the key; one that is not there is fine."""

    key: str
    write_id: str | None = None


Operation = Put | Get | Delete


@dataclass(frozen=True, slots=True)
class Applied:
    """A put or delete is durable: it is change number `position` of `shard`, made under `epoch`.

    `duplicate`: an earlier try with the same write id had been applied, and this is its answer.
    """

    shard: int
    position: int
    epoch: int
    write_id: str
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class KeyspaceStatistics:
    """Figures of a keyspace's client: retries by the error's name, the longest time from the call of an acknowledged
    write to its answer, and how much is held back now and was at most.
    """

    retries: dict[str, int]
    longest_write_seconds: float
    held_operations: int
    held_bytes: int
    held_operations_most: int
