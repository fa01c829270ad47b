"""Heartbeats of many instances at once: each is heard as if it had come as a command of its own, without being one.

Nearly all of them change nothing: the instance is there, in this incarnation, and well. What it has that runs out is renewed, and
that is all; so there is no command, no answer for each and nothing to remember, since a message that comes twice does nothing
twice. Where something may change, or is to be refused, an ordinary `Heartbeat` is decided.
"""

from collections.abc import Callable, Mapping
from typing import Final

from domain.decider import Renewed
from domain.registry.health import is_well
from domain.registry.service import Heartbeat, Service, renews
from muster.wire.command import Envelope
from muster.wire.error import Refused
from muster.wire.stream import service_stream
from muster.wire.telemetry.heartbeats import Heartbeats
from workers.machine.group import Group, Unheard


def _renewed() -> Renewed:
    found = renews(Heartbeat(instance="any"))
    assert found is not None, "a heartbeat renews"
    return found


_RENEWED: Final = _renewed()


def hear(
    message: Heartbeats,
    streams: Mapping[str, Service],
    group: Group,
    decide: Callable[[Envelope, Group], None],
) -> list[Unheard]:
    """Hear the instances of the message, and return those that are refused. Raises GroupFull: it is to be heard again then.

    What is renewed counts once the group is committed, as with commands: a writer that was succeeded renews nothing.
    """
    stream = service_stream(message.service)
    refused: list[Unheard] = []
    for instance, incarnation, *_ in message.beats:
        service = streams.get(stream)
        found = None if service is None else service.instances.get(instance)
        if found is None or found.incarnation != incarnation or not is_well(found):
            # The version keeps the ids of its events apart from those of other beats.
            id_ = f"{stream}/{instance}/beat@{0 if service is None else service.version}"
            command = Heartbeat(instance=instance, incarnation=incarnation)
            try:
                decide(Envelope(id_, stream, command, actor=message.agent), group)
            except Refused as refusal:
                refused.append((instance, refusal))
                continue
        group.renewed.append(((stream, instance), _RENEWED))
    return refused
