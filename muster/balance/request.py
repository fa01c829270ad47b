"""A call as `Balancer.send` is given it: what is sent, how important it is, and the id by which a repeated one is known."""

from dataclasses import dataclass, field

from muster.balance.limit import Priority
from muster.wire.command import new_id
from muster.wire.error import InvalidCommand


@dataclass(frozen=True, slots=True)
class Request:
    """A call to a service. `id` stays the same when it is repeated: send it along, so that the service can tell."""

    service: str
    data: bytes = b""
    priority: Priority = "normal"
    id: str = field(default_factory=new_id)


class NotSent(Exception):
    """Raised by what carries out a call: surely nothing has reached the instance, so another one may be asked."""


def refuse_others(service: str, called: str) -> None:
    """Raises InvalidCommand for a call of another service than that of the balancer."""
    if called != service:
        raise InvalidCommand(f"a call of {called} cannot go to {service}", field="service")
