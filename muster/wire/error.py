"""The errors of muster, in three families.

    MusterError
    ├── Refused            the domain says no: an answer, not a failure
    │   ├── InvalidInstance, InvalidCommand       422, with the field
    │   ├── ServiceNotFound, InstanceNotFound     404
    │   ├── VersionConflict                       412
    │   ├── StaleIncarnation                      409
    │   ├── IdempotencyConflict                   422
    │   ├── TooLarge                              413
    │   ├── WrongPartition                        421, a command published to another partition than its stream's
    │   ├── WrongCluster                          421, the controller belongs to another cluster than the caller means
    │   ├── NoHealthyInstances                    503
    │   ├── NoAvailableInstances                  503, a balancer has no instance that can take a call
    │   ├── KeyspaceNotFound, ShardNotFound, NodeNotFound        404
    │   ├── SagaNotFound                          404
    │   │   └── MigrationNotFound                 404, it would move a shard
    │   ├── GroupNotFound, MemberNotFound         404
    │   ├── TrafficNotFound                       404, nothing was ever set for the service's clients
    │   ├── NoPrimary, NoHealthyStandby           503, nobody leads, or can take over: with a reason per member
    │   ├── DataLossRefused                       409, acknowledged writes could be lost: who lacks what
    │   ├── InvalidShardKey                       422
    │   ├── ShardOverflow                         413, a value or a shard over its limit
    │   ├── NoShardsAvailable                     503, no shard of the keyspace has an owner that serves
    │   ├── StaleEpoch, NotOwner                  409, with the newer epoch and the owner
    │   ├── NodeCordoned, NodeTaken, MoveInProgress, ShardPinned   409
    │   ├── ChecksumMismatch                      409, the copy is not the source
    │   ├── OtherLog                              409, the token is of another log, or of history that this one does not have
    │   ├── LogTrimmed                            410, the shard's log no longer reaches back that far: copy the shard again
    │   └── VerbNotAllowed                        409, in this state; lists the allowed ones
    ├── Transient          try again, with backoff
    │   ├── NotReady                              503, why and what to do
    │   ├── Timeout                               504, the outcome is unknown: retry with the same command id
    │   │   └── FailoverTimeout                   504, a failover was given up: the group is as it was, or without a primary
    │   ├── Unreachable                           no controller answers
    │   ├── DataUnavailable                       503, the shard's owner cannot serve now
    │   ├── ReadFailed, WriteFailed               503, the store failed; nothing was acknowledged
    │   ├── ResourceExhausted                     429, a balancer has too many calls under way for one of this priority
    │   ├── Fenced                                another writer reigns
    │   └── Uncertain                             an append may or may not be in the log
    └── Corrupt            stop here and keep the position
        └── CursorRefused  the log contradicts the cursor: rebuild what was built from it

A class's name is its name on every wire: `urn:muster:<Name>` in HTTP problems, `error.name` in outcomes. How errors travel, and
the statuses above by class, see `muster.wire.problem`.
"""

from typing import Final


class MusterError(Exception):
    """Any error of ours. `detail` is one sentence for a person; `context` holds the named facts of it."""

    def __init__(self, detail: str, **context: str | int | None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.context = {name: value for name, value in context.items() if value is not None}

    @property
    def name(self) -> str:
        """The error's name on the wire."""
        return type(self).__name__


class Refused(MusterError):
    """The domain says no; nothing has changed."""


class InvalidInstance(Refused):
    """A registration that cannot stand; `field` says where."""


class InvalidCommand(Refused):
    """A command that cannot be read; `field` says where."""


class ServiceNotFound(Refused):
    """No instance of this service is registered."""


class InstanceNotFound(Refused):
    """The service has no such instance."""


class VersionConflict(Refused):
    """The caller's expected version is not the current one (`actual`)."""


class StaleIncarnation(Refused):
    """The caller speaks for an earlier incarnation of the instance."""


class IdempotencyConflict(Refused):
    """The command id was used before, for a command with other content."""


class TooLarge(Refused):
    """The command, or what it would record, is over a limit."""


class WrongPartition(Refused):
    """The command was published to a partition that its stream does not live in; `partition` is the one that is due."""


class WrongCluster(Refused):
    """The controller belongs to another cluster (`cluster`) than the one that the caller means."""


class OtherLog(Refused):
    """What the token has seen of `partition` is not in the log of this controller, and never will be: it was lost, or a backup
    was put in its place. Begin anew, without the token.
    """


class NoHealthyInstances(Refused):
    """The service is known, but none of its instances can take traffic."""


class NoAvailableInstances(Refused):
    """No instance can take this client's call: how many are `registered`, `healthy`, and `ejected` by this client for now."""


class KeyspaceNotFound(Refused):
    """There is no such keyspace."""


class ShardNotFound(Refused):
    """The keyspace, or the node, has no such shard."""


class NodeNotFound(Refused):
    """The cluster has no such data node."""


class SagaNotFound(Refused):
    """There is no such saga."""


class MigrationNotFound(SagaNotFound):
    """There is no such migration."""


class GroupNotFound(Refused):
    """There is no such failover group."""


class MemberNotFound(Refused):
    """The failover group has no such member."""


class TrafficNotFound(Refused):
    """Nothing was ever set for the clients of this service."""


class NoPrimary(Refused):
    """Nobody leads the failover group now; the detail says since when, and why."""


class NoHealthyStandby(Refused):
    """No member can take over; `members` says why of each."""


class DataLossRefused(Refused):
    """Acknowledged writes could be missing at every member that can take over; `missing` says at whom and how much."""


class InvalidShardKey(Refused):
    """The key cannot be hashed to a shard."""


class ShardOverflow(Refused):
    """The value or the shard would be over its limit; nothing was written."""


class NoShardsAvailable(Refused):
    """No shard of the keyspace has an owner that serves."""


class StaleEpoch(Refused):
    """The caller's epoch of the shard, or group, is over; `epoch`, `owner` and `address` are the newer ones."""


class NotOwner(Refused):
    """This node does not serve the shard; `epoch`, `owner` and `address` say who does, as far as it knows."""


class NodeCordoned(Refused):
    """The data node takes no new shards."""


class NodeTaken(Refused):
    """The data node's id belongs to another store."""


class MoveInProgress(Refused):
    """The shard is being moved already, by `migration`."""


class ShardPinned(Refused):
    """The shard is pinned to its node."""


class ChecksumMismatch(Refused):
    """The copy of a shard is not what the source had at that position."""


class LogTrimmed(Refused):
    """The log of the shard no longer has the change that follows `after`; its first is `first`. Copy the shard again."""


class VerbNotAllowed(Refused):
    """The migration's state does not allow the verb; `allowed` lists those that it does."""


class Transient(MusterError):
    """Nothing is wrong with the request; try again later."""


class NotReady(Transient):
    """The controller cannot answer yet; the detail says why and what to do."""


class Timeout(Transient):
    """The outcome is unknown. Retry with the same command id to learn it."""


class FailoverTimeout(Timeout):
    """A failover took too long and was given up; the detail says what it waited for."""


class Unreachable(Transient):
    """No controller answers at the address."""


class DataUnavailable(Transient):
    """The shard's owner cannot serve now: its lease is over, or the shard is being handed over. Try again."""


class ReadFailed(Transient):
    """The store could not read."""


class WriteFailed(Transient):
    """The store could not write; nothing was acknowledged. Retry with the same write id."""


class ResourceExhausted(Transient):
    """So many calls are under way (`in_flight`) that no more of this `priority` may begin (`limit`). Try again later."""


class Fenced(Transient):
    """Another writer has started a term; this reign is over."""


class Uncertain(Transient):
    """An append's fate is unknown; only the log can tell. This reign is over."""


class Corrupt(MusterError):
    """The log is damaged at `partition`, `position`. The partition stops there; nothing is skipped."""


class CursorRefused(Corrupt):
    """The log does not hold what the cursor says it held: rebuild from the start."""


def _all(family: type[MusterError]) -> list[type[MusterError]]:
    return [family, *(below for child in family.__subclasses__() for below in _all(child))]


# Made here, so it has the classes of this module alone. Those derived elsewhere, like the client's OutOfStep, are on no
# wire.
BY_NAME: Final[dict[str, type[MusterError]]] = {error.__name__: error for error in _all(MusterError)}
