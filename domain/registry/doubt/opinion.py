"""The second opinion of a service's clients, while its checks fail together: what they have seen decides for each suspect.

A word of clients is a claim, so much is asked of it. It counts by hosts, since all that runs on one host shares the way to the
instances. Enough are three hosts, and at least half of those on which something calls the instance; where fewer than three call
it, all of them, and two at least. One host alone is never enough, whatever it says and under however many names.

    enough see it fail, and more than see it answer    its checks are believed at once
    enough see it answer                               it is served for as long as it would have been, and the text says so

So the most that false words can do is what the checks say anyway, some seconds early: nobody is taken out whose checks do not
fail, and nobody is kept for longer.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Final

from pydantic import Field

from domain.registry.doubt.event import InstanceChecksBelieved, InstanceSeenAnswering
from domain.registry.instance import Instance, ServiceEvent
from domain.registry.versions import Service
from muster.wire.command import Command
from muster.wire.telemetry.loads import ClientsWord

words_command_max: Final = 100
"""So many suspects one command of words is about; the others are in the next."""

CLIENTS_ENOUGH: Final = 3
CLIENTS_MIN: Final = 2


class WeighClients(Command):
    """What clients have seen of suspects, as the writer's controller has heard it: decide by that who is believed to be ill."""

    type = "muster.instance.weigh_clients.v1"
    # It is about several; the partition asks each command for one.
    instance: ClassVar[str] = ""
    words: Annotated[tuple[ClientsWord, ...], Field(max_length=words_command_max)]


def weighed(command: WeighClients, state: Service) -> list[ServiceEvent]:
    """What the words make happen, of the instances that are still there and still suspect."""
    return list(_events(command, state))


def _events(command: WeighClients, state: Service) -> Iterator[ServiceEvent]:
    # Each once: an instance that is believed by one word is no suspect any more when the next comes.
    for word in {word.instance: word for word in command.words}.values():
        instance = state.instances.get(word.instance)
        if instance is not None and instance.incarnation == word.incarnation and (found := verdict(word, instance)):
            yield found


def verdict(word: ClientsWord, instance: Instance) -> InstanceChecksBelieved | InstanceSeenAnswering | None:
    """What the word comes to for the instance; None: to nothing, or to nothing new."""
    if instance.suspect is None:
        return None
    enough = _enough(word.clients)
    if word.failing >= enough and word.failing > word.answering:
        return InstanceChecksBelieved(
            instance=instance.id, because="observed", clients=word.clients, failing=word.failing
        )
    # Said once: how many they are changes with every report, and the first word has told what matters.
    if word.answering >= enough and not instance.suspect.answering:
        return InstanceSeenAnswering(instance=instance.id, clients=word.clients, answering=word.answering)
    return None


def _enough(clients: int) -> int:
    """How many of so many hosts have to see the same."""
    return max(CLIENTS_MIN, min(CLIENTS_ENOUGH, clients), -(-clients // 2))
