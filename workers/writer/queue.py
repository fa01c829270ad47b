"""The queue of a writer: what waits to be decided, bounded in size and in time."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from domain.catalogue import Answer
from muster.wire.error import MusterError, NotReady, Timeout
from workers.writer.request import QueuedCommands

queue_commands_max: Final = 20_000


class CommandQueue:
    """Requests in the order in which they came. One stays in the queue until it is answered: a failed append loses none.

    `commands` counts all commands that wait, `urgent` the requests that are not patient. Belongs to one event loop, and never
    waits itself: so it needs no lock.
    """

    def __init__(self, partition: int, reply_timeout_seconds: float) -> None:
        self._partition = partition
        self._reply_timeout_seconds = reply_timeout_seconds
        self._requests: deque[QueuedCommands] = deque()
        self._deadlines: deque[tuple[float, QueuedCommands]] = deque()
        self.commands = self.urgent = 0

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[QueuedCommands]:
        return iter(self._requests)

    def add(self, request: QueuedCommands, now: float) -> None:
        """Put the request at the end. Raises NotReady when there is no room for all of it."""
        if self.commands + request.size > queue_commands_max:
            raise NotReady(
                f"partition {self._partition} has {queue_commands_max} commands waiting; slow down and retry"
            )
        self._requests.append(request)
        self.commands += request.size
        self.urgent += not request.patient
        if request.offsets is None:  # Nobody waits for a published command: its outcome may come at any time.
            self._deadlines.append((now + self._reply_timeout_seconds, request))

    def remove_first(self) -> None:
        """Remove the first request, which is answered."""
        request = self._requests.popleft()
        self.commands -= request.size
        self.urgent -= not request.patient

    def time_out(self, now: float) -> None:
        """Answer the callers that have waited too long. Their commands stay in the queue and are decided all the same."""
        while self._deadlines and (self._deadlines[0][1].future.done() or self._deadlines[0][0] <= now):
            late = self._deadlines.popleft()[1]
            late.fail(Timeout("no answer in time: the outcome is unknown. Retry with the same id."))

    def refuse(self, recall: Callable[[str], tuple[Answer, str] | None], error: MusterError) -> None:
        """Answer all that waits: by what the log says, as `recall` finds it by a command's id, else with the error.

        What was sent to the log and is not in it may still be on its way: its outcome is unknown.
        """
        unknown = "the reign ended before the log acknowledged it: the outcome is unknown. Retry with the same id."
        while self._requests:
            request = self._requests.popleft()
            for envelope in request.envelopes[len(request.replies) : request.tried]:
                known = recall(envelope.id)
                request.replies.append(Timeout(unknown) if known is None else known[0])
            request.fail(error)
        self.commands = self.urgent = 0
