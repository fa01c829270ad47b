"""Signs of life that change nothing are answered, and not decided: what they renew is all that comes of them.

Their ids are not remembered, so one that comes twice renews twice. The memory of ids is for commands that do something, and
thousands of renewals a second would use it up within a minute.
"""

from domain.catalogue import Answer
from muster.wire.command import Envelope
from workers.machine.aggregate import AnyDecider, States
from workers.machine.answer import unchanged
from workers.machine.group import Group


def heard(envelope: Envelope, decider: AnyDecider, streams: States, partition: int, group: Group) -> Answer:
    """The answer to a sign of life of which `decider` has said that it changes nothing; it renews once the group is committed."""
    stream, command, parts = envelope.stream, envelope.command, decider.parts
    item, renewed = parts.item(command), parts.renews(command)
    assert renewed is not None, f"{command.type} is a sign of life and renews nothing"
    group.renewed.append(((stream, item), renewed))
    return unchanged(envelope, partition, group.head, decider, parts.part(streams[stream], item))
