"""Calls of a service, spread over its instances by this client: `muster.Balancer`.

    async with muster.Balancer("users", "http://127.0.0.1:8740", zone="eu-1a") as users:
        with users.attempt(priority="high") as attempt:
            answer = await session.get(f"http://{attempt.instance.endpoint}/users/1")
            attempt.answered(failed=answer.status >= 500)
        user = await users.send(muster.Request("users", b"…", priority="critical"), call, repeatable=True)

It follows the watch of the service, so a pick costs no request and never waits. While no controller answers, the last list
stays, and so does what is known of each instance. Every few seconds it tells the controllers what it saw of the instances that
it called. It is for one event loop, and not for several threads.
"""

import asyncio
import logging
import math
import os
import random
import time
from collections.abc import Collection, Sequence
from contextlib import aclosing
from dataclasses import replace
from socket import gethostname
from typing import Final, Self, TypedDict, TypeVar, Unpack

from muster.balance.attempt import Attempt
from muster.balance.fleet import Candidate, Fleet
from muster.balance.limit import SHARES, Priority
from muster.balance.load import cost
from muster.balance.picker import UNKNOWN_SECONDS, CallOutcome, Picker
from muster.balance.reports.reporter import Report, Reporter
from muster.balance.request import Request, refuse_others
from muster.balance.sending import AttemptTimes, Call, send
from muster.balance.statistics import BalancerStatistics, InstanceStatistics, prometheus
from muster.client.client import Client
from muster.client.watch import Snapshot, TrafficSet
from muster.durations import seconds_from
from muster.wire import DEFAULT_URL
from muster.wire.error import InvalidCommand, MusterError, NoAvailableInstances, ResourceExhausted, Unreachable
from muster.wire.registry.traffic import DEFAULTS, Policy, TrafficSettings, settings_of
from muster.wire.telemetry.heartbeats import name_from

WATCH_AGAIN_SECONDS: Final = 1.0
T = TypeVar("T")
_LOG: Final = logging.getLogger(__name__)


class TrafficFields(TypedDict, total=False):
    """What an operator can set for all clients of a service; what a Balancer is given itself wins. None: not given."""

    policy: Policy | None
    slow_start_seconds: float | None
    eject_after: int | None
    eject_seconds: float | None
    limit: bool | None
    in_flight_max: int | None
    retry_share: float | None
    report_seconds: float | None


class BalancerFields(TrafficFields, total=False):
    """What else a Balancer can be given. `report_to` sends what it saw elsewhere than to the controllers: to Kafka, say."""

    report_to: Report | None


class Balancer:
    """Spreads calls over the instances of a service; use it as `async with Balancer("users", url) as users`.

    `url` is of one controller or of several, as for `muster.Client`; or it is a client that is open, and stays so.
    `zone`: instances there are taken unless a far one is clearly cheaper. `subset`: this client calls only so many of them.
    `attempts_max` and `timeout_seconds` are those of `send`, for all attempts and for each; the latter bounds the opening too.
    `failure_seconds`: a failure counts as a latency of at least so much. The other settings, which an operator can set for all
    clients, are those of `TrafficFields`.
    """

    def __init__(
        self,
        service: str,
        url: str | Sequence[str] | Client = DEFAULT_URL,
        *,
        zone: str = "",
        subset: int | None = None,
        attempts_max: int = 2,
        timeout_seconds: float = 10.0,
        failure_seconds: float = 1.0,
        **given: Unpack[BalancerFields],
    ) -> None:
        _check(service, subset, attempts_max, timeout_seconds, failure_seconds)
        self.service = service
        self.attempts_max = attempts_max
        self.timeout_seconds = timeout_seconds
        self._is_ours = not isinstance(url, Client)
        self._client = url if isinstance(url, Client) else Client(url, timeout_seconds=timeout_seconds)
        report_to = given.pop("report_to", None)
        self._given = {name: value for name, value in given.items() if value is not None}
        name = os.urandom(8).hex()
        fleet = Fleet(name, zone, subset)
        self._picker = Picker(service, fleet, settings_of(self._given), failure_seconds)
        dice = random.Random()
        self._chance = dice.random
        # Each client begins at another place, or all would call the same instance at the same time.
        self._turn = dice.randrange(1 << 16)
        self._clock = time.monotonic
        self.times = AttemptTimes(timeout_seconds, self._clock)
        self._heard_at = -math.inf
        # Over HTTP the controller sees where it comes from; whoever reads it elsewhere has to be told.
        host, send = (gethostname(), report_to) if report_to else ("", self._client.observations)
        self._reporter = Reporter(fleet, service, name, host, self.settings.report_seconds, send)
        self._tasks: list[asyncio.Task[None]] = []
        # None: it is not open.
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise RuntimeError(
                f"the balancer of {self.service} is open already: who leaves one block closes it for both"
            )
        self._loop = asyncio.get_running_loop()
        # Calls that have outlived the block before may have left a timer, in a loop that is over.
        self.times = AttemptTimes(self.timeout_seconds, self._clock)
        try:
            # A client that was given has its own owner, who opens and closes it.
            if self._is_ours:
                await self._client.__aenter__()
            await self._open()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        # Nobody would hear any more who has left, so no further call begins.
        self._loop = None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks.clear()
        self.times.close()
        if self._is_ours:
            await self._client.__aexit__()

    def attempt(self, priority: Priority = "normal", avoid: Collection[str] = (), *, timed: bool = True) -> Attempt:
        """A call to one of the instances, as a block: `with users.attempt() as attempt`. It is under way from now on.

        `avoid` names instances that are not to be taken. `timed=False`: its length says nothing about the instance, as with
        streams. Raises NoAvailableInstances, and ResourceExhausted when there are too many calls for this priority.
        """
        # Of another loop, or closed: nothing here is locked, and nobody would ever be told that an instance is gone.
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                f"the balancer of {self.service} is not open here: use `async with Balancer(…)` in this event loop"
            )
        if priority not in SHARES:
            raise InvalidCommand(f"priority: must be one of {', '.join(SHARES)}", field="priority")
        now = self._clock()
        self._turn += 1
        candidate = self._picker.pick(priority, avoid, self._turn, self._chance(), now)
        return Attempt(self._picker, candidate, self._clock, now, timed)

    def pick(self, request: Request | None = None, avoid: Collection[str] = ()) -> Attempt:
        """As `attempt`, at the request's priority; end it by `record_request`, or as a block."""
        if request is None:
            return self.attempt("normal", avoid)
        refuse_others(self.service, request.service)
        return self.attempt(request.priority, avoid)

    def record_request(self, attempt: Attempt, outcome: CallOutcome) -> None:
        """What became of the call; it is over then."""
        attempt.record(outcome)
        attempt.end()

    def may_retry(self) -> bool:
        """Whether the budget allows to repeat a call; one retry is taken from it then."""
        return self._picker.budget.take()

    def again(self, priority: Priority, tried: Collection[str], *, sent: bool = True) -> Attempt | None:
        """One more attempt of a call, at none of the instances that were tried. If the last one was `sent` it costs budget.

        None: the budget is used up, or there is nobody else to ask. Then nothing is taken.
        """
        budget = self._picker.budget
        # Closed meanwhile: the caller hears why the attempt before has failed.
        if self._loop is None:
            return None
        if sent and not budget.allows():
            return None
        try:
            following = self.attempt(priority, tried)
        except (NoAvailableInstances, ResourceExhausted):
            return None
        if sent:
            budget.take()
        else:
            budget.went_elsewhere()
        return following

    async def send(self, request: Request, call: Call[T], *, repeatable: bool = False) -> T:
        """What `await call(attempt, request)` returns; when it fails, at another instance once more.

        Only what is `repeatable`, or has surely not been sent (`muster.NotSent`, a refused connection), is repeated, at most
        `attempts_max` times in all and never at the same instance. Raises what the last attempt raised.
        """
        return await send(self, request, call, repeatable=repeatable)

    @property
    def settings(self) -> TrafficSettings:
        """What it goes by now: what it was given, else what an operator has set, else the defaults."""
        return self._picker.settings

    @property
    def age_seconds(self) -> float:
        """For how long nothing was heard of the list of instances: up to 15 s while all is well, and nothing changes."""
        return self._clock() - self._heard_at

    @property
    def endpoints(self) -> frozenset[str]:
        """`address:port` of all instances, also of those that cannot take a call."""
        return frozenset(each.instance.endpoint for each in self._picker.fleet)

    @property
    def statistics(self) -> BalancerStatistics:
        """What it has done so far, and knows now."""
        picker, now = self._picker, self._clock()
        picker.fleet.choice(now)
        return BalancerStatistics(
            service=self.service,
            policy=picker.settings.policy,
            age_seconds=self.age_seconds,
            picks=picker.picks,
            failures=picker.failures,
            in_flight=picker.limit.in_flight,
            limit=None if picker.limit.calls == math.inf else picker.limit.calls,
            shed=dict(picker.shed),
            retries=picker.budget.taken,
            retries_refused=picker.budget.refused,
            instances=tuple(self._seen(each, now) for each in picker.fleet),
        )

    def metrics(self) -> str:
        """The statistics as text for Prometheus."""
        return prometheus(self.statistics)

    def _seen(self, each: Candidate, now: float) -> InstanceStatistics:
        picker, load = self._picker, each.load
        unknown = picker.mean_seconds or UNKNOWN_SECONDS
        return InstanceStatistics(
            instance=each.instance.instance,
            incarnation=each.instance.incarnation,
            endpoint=each.instance.endpoint,
            zone=each.instance.zone,
            able=picker.fleet.is_able(each),
            picks=each.picks,
            failures=each.failures,
            in_flight=load.in_flight,
            cost_seconds=cost(load, now, unknown, picker.settings.slow_start_seconds) if load.weight else math.inf,
            out_seconds=max(0.0, each.out_until - now),
        )

    def _hear(self) -> None:
        self._heard_at = self._clock()

    def _go_by(self, told: TrafficSettings) -> None:
        self._picker.set(replace(told, **self._given))  # type: ignore[arg-type]
        self._reporter.set(self.settings.report_seconds)

    async def _open(self) -> None:
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        watching = asyncio.create_task(self._watch(begun), name=f"balancer {self.service}")
        self._tasks.append(watching)
        await asyncio.wait((begun, watching), timeout=self.timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        if begun.done():
            self._tasks.append(asyncio.create_task(self._reporter.run(), name=f"reports of {self.service}"))
            return
        if watching.done():
            # It has ended before its first event: this raises its error.
            await watching
        raise Unreachable(
            f"{self._client.url} did not tell the instances of {self.service} in {self.timeout_seconds:g} s"
        )

    async def _watch(self, begun: "asyncio.Future[None]") -> None:
        while True:
            try:
                await self._follow(begun)
            except Exception as error:  # whatever it is: an old list that nobody renews is worse than one more try
                if not begun.done():
                    raise
                # Calls go on with the list that is known.
                detail = error.detail if isinstance(error, MusterError) else repr(error)
                _LOG.warning("the instances of %s cannot be watched: %s", self.service, detail)
                await asyncio.sleep(WATCH_AGAIN_SECONDS)

    async def _follow(self, begun: "asyncio.Future[None]") -> None:
        async with aclosing(self._client.watch(self.service, traffic=True, heard=self._hear)) as changes:
            async for change in changes:
                if isinstance(change, TrafficSet):
                    self._go_by(change.traffic.in_force)
                    continue
                if isinstance(change, Snapshot):
                    # What is set comes behind it, and nothing where nothing is set: not what an earlier watch has told.
                    self._go_by(DEFAULTS)
                self._picker.fleet.take(change, self._clock())
                if not begun.done():
                    begun.set_result(None)


def _check(
    service: object, subset: object, attempts_max: object, timeout_seconds: object, failure_seconds: object
) -> None:
    """Raises InvalidCommand for what no balancer can be made with. What operators can set too has its bounds with them."""
    # Of no service, or of an empty name, it would watch all of them, and call anyone's instances.
    name_from(service, "service")
    for name, value in (("subset", subset), ("attempts_max", attempts_max)):
        if not (name == "subset" and value is None) and (type(value) is not int or value < 1):
            raise InvalidCommand(f"{name}: must be a whole number, 1 or more", field=name)
    seconds_from(timeout_seconds, "timeout_seconds")
    seconds_from(failure_seconds, "failure_seconds", least=0)
