"""What happens to the doubt about an instance's checks: it begins, clients say that the instance answers, it ends."""

from typing import Annotated, Literal

from pydantic import Field

from domain.message import event
from domain.registry.status import InstanceEvent
from muster.wire.registry.spec import Seconds

# Left out of the bytes where clients have said nothing: so events of before keep theirs.
_Count = Annotated[int, Field(exclude_if=lambda value: not value)]


@event
class InstanceChecksDisputed(InstanceEvent):
    """It goes on serving for `seconds` although its checks say otherwise: those of `fallen` instances have failed together, and
    no more than `healthy` are left.
    """

    type = "muster.instance.checks_disputed.v1"
    seconds: Seconds
    fallen: int
    healthy: int


@event
class InstanceSeenAnswering(InstanceEvent):
    """Its checks are in doubt, and clients see it answer: on so many hosts, of those on which something calls it."""

    type = "muster.instance.seen_answering.v1"
    clients: int
    answering: int


@event
class InstanceChecksBelieved(InstanceEvent):
    """Its checks count again: `because` of a second opinion (`reported`; `observed`: clients on `failing` of `clients` hosts see
    it fail), an operator (`told`), or since time has passed.
    """

    type = "muster.instance.checks_believed.v1"
    because: Literal["reported", "observed", "told", "time"]
    clients: _Count = 0
    failing: _Count = 0
