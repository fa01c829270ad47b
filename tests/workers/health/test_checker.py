"""Health checks against real little servers, with the registry's own decisions as the log."""

import asyncio
import os
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import trustme
from aiohttp import web

from domain.registry.instance import Instance, InstanceRegistered
from domain.registry.service import INITIAL, DeregisterInstance, ObserveCheck, RegisterInstance, decide
from muster.wire.registry.check import HttpCheck, TcpCheck, TtlCheck
from muster.wire.registry.spec import Spec
from tests.sample import evolved
from workers.health.checker import Checker

STREAM = "service/orders"


class Registry:
    """One service decided and folded by the domain; `follows`: what the checker observes reaches the log at once."""

    def __init__(self, **limits: Any) -> None:
        self.limits = {"seed": 1, **limits}
        self.state = INITIAL
        self.observed: list[ObserveCheck] = []
        self.follows = True
        self.checker = Checker(self._observe, **self.limits)

    def _observe(self, stream: str, command: ObserveCheck) -> None:
        assert stream == STREAM
        self.observed.append(command)
        if self.follows:
            self.tell(command)

    def tell(self, command: Any) -> None:
        for event in decide(command, self.state):
            self.state = evolved(self.state, event)
        self.sync(command.instance)

    def sync(self, name: str) -> None:
        self.checker.sync(STREAM, name, self.state.instances.get(name))

    def register(self, *checks: HttpCheck | TcpCheck | TtlCheck, name: str = "o-1") -> None:
        self.tell(RegisterInstance(instance=name, spec=Spec(address="127.0.0.1", port=1, checks=checks)))

    def register_of_old(self, *checks: HttpCheck | TcpCheck, name: str = "o-1") -> None:
        """As the log has it from before there were today's limits."""
        spec = Spec(address="127.0.0.1", port=1, checks=checks)
        incarnation = self.state.version
        event = InstanceRegistered(instance=name, incarnation=incarnation, spec=spec, health="unknown")
        self.state = evolved(self.state, event)
        self.sync(name)

    def register_healthy(self, number: int, check: HttpCheck) -> None:
        """Instances that the log knows as healthy, and a checker that is new."""
        for name in (f"o-{n}" for n in range(number)):
            self.register(check, name=name)
            incarnation = self.instance(name).incarnation
            self.tell(ObserveCheck(instance=name, incarnation=incarnation, check=check.name, status="healthy"))
        self.restart()

    def deregister(self, name: str = "o-1") -> None:
        self.tell(DeregisterInstance(instance=name))

    def restart(self) -> None:
        """A new process: all that is left is the log."""
        self.checker = Checker(self._observe, **self.limits)
        self.observed.clear()
        for name in self.state.instances:
            self.sync(name)

    def instance(self, name: str = "o-1") -> Instance:
        return self.state.instances[name]

    def text(self, check: str, name: str = "o-1") -> str | None:
        output = self.checker.output(STREAM, name, check)
        return output.text if output else None

    def statuses(self) -> list[str]:
        return [command.status for command in self.observed]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        loop = asyncio.create_task(self.checker.run())
        try:
            yield
        finally:
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)
            assert self.checker.stats.in_flight == 0

    async def runs(self, number: int) -> None:
        """Wait for that many more runs."""
        done = self.checker.stats.done
        await until(lambda: self.checker.stats.done >= done + number)


class Target:
    """An http server that answers as it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.status, self.body, self.location = 200, "all is well", ""
        self.asked: list[web.Request] = []
        self.callers: set[Any] = set()
        self.waiting = self.waiting_most = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        self.callers.add(request.transport and request.transport.get_extra_info("peername"))
        self.waiting += 1
        self.waiting_most = max(self.waiting, self.waiting_most)
        try:
            await self.answers.wait()
        finally:
            self.waiting -= 1
        headers = {"Location": self.location} if self.location else {}
        return web.Response(status=self.status, text=self.body, headers=headers)

    async def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.answer)
        self.runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", port, ssl_context=tls)
        await site.start()
        self.port, self.scheme = self.runner.addresses[0][1], "https" if tls else "http"

    async def stop(self) -> None:
        self.answers.set()
        await self.runner.cleanup()

    def check(self, **changes: Any) -> HttpCheck:
        return HttpCheck(**{"name": "http", "url": f"{self.scheme}://127.0.0.1:{self.port}/healthz", **FAST, **changes})


FAST: dict[str, Any] = {"interval_seconds": 0.1, "unhealthy_after": 1}


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    target = Target()
    await target.start()
    yield target
    await target.stop()


@pytest.fixture
async def secure() -> AsyncIterator[tuple[Target, ssl.SSLContext]]:
    """A target behind TLS, and the context of a client that trusts it."""
    authority = trustme.CA()
    tls, trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.configure_trust(trust)
    target = Target()
    await target.start(tls=tls)
    yield target, trust
    await target.stop()


@asynccontextmanager
async def speaking(answer: bytes, *, listens: bool = True) -> AsyncIterator[int]:
    """A server that hears a request (if it listens), says `answer` and hangs up; its port."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if listens:
            await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 — what is waited for happens in real servers, which set no event
            await asyncio.sleep(0.005)


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


async def test_a_check_flips_when_its_target_fails_and_when_it_recovers(target: Target):
    registry = Registry()
    registry.register(target.check())
    async with registry.running():
        await until(lambda: registry.statuses() == ["healthy"])
        assert registry.instance().health == "healthy"
        target.status = 503
        await until(lambda: registry.statuses() == ["healthy", "unhealthy"])
        assert registry.instance().cause == "HTTP 503, expected 2xx"
        target.status = 200
        await until(lambda: registry.statuses() == ["healthy", "unhealthy", "healthy"])
        assert registry.instance().cause == "HTTP 200"
        await registry.runs(3)
    assert len(registry.observed) == 3


async def test_a_killed_server_is_refused_and_one_that_comes_back_is_found(target: Target):
    registry = Registry()
    registry.register(target.check())
    async with registry.running():
        await until(lambda: registry.instance().health == "healthy")
        await target.stop()
        await until(lambda: registry.instance().health == "unhealthy")
        assert registry.instance().cause == "connection refused"
        await target.start(target.port)
        await until(lambda: registry.instance().health == "healthy")


async def test_a_single_failure_below_the_threshold_is_no_news(target: Target):
    registry = Registry()
    registry.register(target.check(unhealthy_after=3, healthy_after=2))
    async with registry.running():
        await until(lambda: registry.statuses() == ["healthy"])
        target.status = 500
        await until(lambda: registry.text("http") == "HTTP 500, expected 2xx")
        target.status = 200
        await until(lambda: registry.text("http") == "HTTP 200")
    assert registry.statuses() == ["healthy"]


async def test_the_thresholds_count_results_in_a_row(target: Target):
    registry = Registry()
    registry.register(target.check(unhealthy_after=3, healthy_after=2))
    async with registry.running():
        await until(lambda: registry.statuses() == ["healthy"])
        target.status, asked = 500, len(target.asked)
        await until(lambda: registry.statuses() == ["healthy", "unhealthy"])
        assert len(target.asked) - asked == 3
        target.status, asked = 200, len(target.asked)
        await until(lambda: registry.statuses() == ["healthy", "unhealthy", "healthy"])
        assert len(target.asked) - asked == 2


async def test_no_answer_within_the_timeout_is_a_failure(target: Target):
    registry = Registry()
    target.answers.clear()
    registry.register(target.check(timeout_seconds=0.2))
    async with registry.running():
        await until(lambda: registry.observed)
        assert (registry.instance().health, registry.instance().cause) == ("unhealthy", "no answer within 0.2 s")


async def test_a_timeout_from_before_there_was_a_limit_is_run_within_it(target: Target):
    registry = Registry()
    target.answers.clear()
    registry.register_of_old(target.check(timeout_seconds=3600))
    async with registry.running():
        await until(lambda: registry.observed)
        assert registry.instance().cause == "no answer within 2 s"


async def test_a_body_is_matched_and_told_when_it_does_not_match(target: Target):
    registry = Registry()
    target.body = "x" * 40_000 + "bereit für alles"
    registry.register(target.check(body_match="für"))
    async with registry.running():
        await until(lambda: registry.statuses() == ["healthy"])
        target.body = "not yet"
        await until(lambda: registry.statuses() == ["healthy", "unhealthy"])
    assert registry.instance().cause == "HTTP 200, but the body does not contain 'für'"


async def test_only_the_first_64_kib_of_a_body_are_read(target: Target):
    registry = Registry()
    target.body = "x" * 66_000 + "ready"
    registry.register(target.check(body_match="ready"))
    async with registry.running():
        await until(lambda: registry.statuses() == ["unhealthy"])


async def test_the_expected_status_is_the_only_good_one(target: Target):
    registry = Registry()
    target.status = 418
    registry.register(target.check(expected_status=418))
    async with registry.running():
        await until(lambda: registry.statuses() == ["healthy"])
        target.status = 200
        await until(lambda: registry.statuses() == ["healthy", "unhealthy"])
    assert registry.instance().cause == "HTTP 200, expected 418"


async def test_a_redirect_is_a_status_of_its_own_and_is_not_followed(target: Target):
    registry = Registry()
    target.status, target.location = 302, "/elsewhere"
    registry.register(target.check())
    async with registry.running():
        await until(lambda: registry.observed)
    assert registry.instance().cause == "HTTP 302, expected 2xx"
    assert {request.path for request in target.asked} == {"/healthz"}


async def test_method_and_headers_are_sent_and_nothing_is_sent_that_was_not_asked_for(target: Target):
    registry = Registry()
    registry.register(target.check(method="POST", headers={"Host": "orders.internal", "X-Probe": "1"}))
    async with registry.running():
        await until(lambda: registry.observed)
    request = target.asked[0]
    assert (request.method, request.headers["Host"], request.headers["X-Probe"]) == ("POST", "orders.internal", "1")
    assert (request.headers["Accept-Encoding"], request.headers.get("Cookie")) == ("identity", None)


async def test_plain_http_connects_anew_for_each_run(target: Target):
    registry = Registry()
    registry.register(target.check())
    async with registry.running():
        await until(lambda: len(target.asked) == 3)
    assert len(target.callers) == 3


async def test_https_keeps_its_connection_and_renews_it_now_and_then(secure: tuple[Target, ssl.SSLContext]):
    target, tls = secure
    registry = Registry(tls=tls)
    registry.register(target.check())
    async with registry.running():
        await until(lambda: len(target.asked) == 11)
    assert registry.statuses() == ["healthy"]
    assert [request.headers.get("Connection") == "close" for request in target.asked] == [False] * 9 + [True, False]
    assert len(target.callers) == 2


async def test_https_checks_beyond_the_limit_of_kept_connections_connect_anew(secure: tuple[Target, ssl.SSLContext]):
    target, tls = secure
    registry = Registry(tls=tls, connections_kept_max=0)
    registry.register(target.check())
    async with registry.running():
        await until(lambda: len(target.asked) == 3)
    assert len(target.callers) == 3


async def test_https_is_matched_and_judged_like_http(secure: tuple[Target, ssl.SSLContext]):
    target, tls = secure
    registry = Registry(tls=tls)
    registry.register(target.check(body_match="is well", method="POST", headers={"X-Probe": "1"}))
    async with registry.running():
        await until(lambda: registry.statuses() == ["healthy"])
        target.body = "not yet"
        await until(lambda: registry.statuses() == ["healthy", "unhealthy"])
        assert registry.instance().cause == "HTTP 200, but the body does not contain 'is well'"
        target.status, target.location = 302, "/elsewhere"
        await until(lambda: registry.text("http") == "HTTP 302, expected 2xx")
    assert {(request.method, request.path, request.headers["X-Probe"]) for request in target.asked} == {
        ("POST", "/healthz", "1")
    }


async def test_a_certificate_that_nobody_vouches_for_is_refused(secure: tuple[Target, ssl.SSLContext]):
    target, _ = secure
    registry = Registry()
    registry.register(target.check())
    async with registry.running():
        await until(lambda: registry.observed)
    assert registry.instance().health == "unhealthy"
    assert "certificate verify failed" in (registry.instance().cause or "")


async def test_a_tcp_check_is_healthy_while_connections_are_accepted():
    registry = Registry()
    async with registry.running():
        async with speaking(b"", listens=False) as port:
            registry.register(TcpCheck(name="tcp", host="127.0.0.1", port=port, **FAST))
            await until(lambda: registry.statuses() == ["healthy"])
            assert registry.instance().cause == "connected"
        await until(lambda: registry.statuses() == ["healthy", "unhealthy"])
    assert registry.instance().cause == "connection refused"


async def test_a_host_without_address_is_told_in_words():
    registry = Registry()
    registry.register(
        HttpCheck(name="http", url="http://nowhere.invalid/", timeout_seconds=20, interval_seconds=20),
        TcpCheck(name="tcp", host="nowhere.invalid", port=80, timeout_seconds=20, interval_seconds=20),
    )
    async with registry.running():
        await until(lambda: len(registry.observed) == 2, seconds=30)
    for command in registry.observed:
        assert command.cause is not None
        assert command.cause.startswith("cannot resolve nowhere.invalid: ")


async def test_a_tls_failure_is_told_in_words(target: Target):
    registry = Registry()
    registry.register(target.check(url=f"https://127.0.0.1:{target.port}/"))
    async with registry.running():
        await until(lambda: registry.observed)
    assert registry.observed[0].cause is not None
    assert registry.observed[0].cause.startswith("TLS failure: ")


async def test_a_check_that_cannot_be_sent_fails_and_does_not_stop_the_others(target: Target):
    registry = Registry()
    registry.register_of_old(target.check(headers={"X-Bad": "a\r\nb"}), target.check(name="good"))
    async with registry.running():
        await until(lambda: len(registry.observed) == 2)
    causes = {command.check: command.cause for command in registry.observed}
    assert causes["good"] == "HTTP 200"
    assert causes["http"] is not None
    assert causes["http"].startswith("the check cannot be sent: ")


async def test_a_changed_check_starts_anew_and_the_result_of_the_old_one_is_dropped(target: Target):
    registry = Registry()
    target.answers.clear()
    registry.register(target.check())
    async with registry.running():
        await until(lambda: target.waiting == 1)
        registry.register(target.check(url=f"http://127.0.0.1:{closed_port()}/"))
        target.answers.set()
        await until(lambda: registry.observed)
        await registry.runs(2)
    assert [(command.status, command.cause) for command in registry.observed] == [("unhealthy", "connection refused")]


async def test_a_change_that_leaves_the_check_alone_leaves_its_schedule_alone(target: Target):
    registry = Registry()
    registry.register(target.check())
    async with registry.running():
        await until(lambda: registry.observed)
        output = registry.checker.output(STREAM, "o-1", "http")
        registry.register(target.check(), TtlCheck(ttl_seconds=60), target.check(name="second"))
        assert registry.checker.output(STREAM, "o-1", "http") == output
        assert registry.checker.stats.scheduled == 2


async def test_other_settings_keep_the_status_the_streak_and_the_output(target: Target):
    registry = Registry()
    registry.register(target.check(unhealthy_after=3, interval_seconds=0.3))
    async with registry.running():
        await until(lambda: registry.statuses() == ["healthy"])
        target.status, asked = 500, len(target.asked)
        await until(lambda: registry.text("http") == "HTTP 500, expected 2xx")
        registry.register(target.check(unhealthy_after=3, timeout_seconds=1.5))
        assert registry.instance().health == "healthy"
        assert registry.text("http") == "HTTP 500, expected 2xx"
        await until(lambda: registry.statuses() == ["healthy", "unhealthy"])
    # The failure before the change counts: two more make three.
    assert len(target.asked) - asked == 3


async def test_settings_that_change_again_and_again_do_not_put_a_run_off(target: Target):
    registry = Registry()
    registry.register(target.check())
    async with registry.running():
        await until(lambda: registry.statuses() == ["healthy"])
        asked = len(target.asked)
        for number in range(100):
            registry.register(target.check(interval_seconds=3600 + number))
        await until(lambda: len(target.asked) > asked, seconds=2)


async def test_a_removed_instance_is_asked_no_more_and_a_late_result_is_dropped(target: Target):
    registry = Registry()
    target.answers.clear()
    registry.register(target.check())
    async with registry.running():
        await until(lambda: target.waiting == 1)
        registry.deregister()
        target.answers.set()
        await until(lambda: registry.checker.stats.in_flight == 0)
        assert registry.checker.stats.scheduled == 0
        registry.register(target.check(), name="o-2")
        await registry.runs(3)
    assert {command.instance for command in registry.observed} == {"o-2"}
    assert registry.text("http") is None


async def test_a_new_incarnation_hears_nothing_of_the_old_ones_runs(target: Target):
    registry = Registry()
    target.answers.clear()
    registry.register(target.check())
    async with registry.running():
        await until(lambda: target.waiting == 1)
        registry.deregister()
        registry.register(target.check())
        target.answers.set()
        await until(lambda: registry.observed)
    assert registry.observed[0].incarnation == registry.instance().incarnation > 0


async def test_nothing_flips_after_a_restart(target: Target):
    registry = Registry()
    registry.register(target.check(unhealthy_after=3), target.check(name="down", expected_status=500, healthy_after=2))
    async with registry.running():
        await until(lambda: len(registry.observed) == 2)
    before = registry.state
    registry.restart()
    async with registry.running():
        await registry.runs(6)
    assert (registry.observed, registry.state) == ([], before)


async def test_after_a_restart_the_thresholds_hold_as_before(target: Target):
    registry = Registry()
    registry.register(target.check(unhealthy_after=3))
    async with registry.running():
        await until(lambda: registry.observed)
    target.status = 500
    target.asked.clear()
    registry.restart()
    async with registry.running():
        await until(lambda: registry.observed)
    assert len(target.asked) == 3


async def test_the_limit_on_runs_in_flight_holds_and_all_get_their_turn(target: Target):
    registry = Registry(in_flight_max=8)
    target.answers.clear()
    for number in range(20):
        registry.register(target.check(), name=f"o-{number}")
    async with registry.running():
        # One service alone, which has not answered yet, gets half of three quarters.
        await until(lambda: target.waiting == 3 and registry.checker.stats.waiting > 0)
        assert registry.checker.stats.in_flight == 3
        target.answers.set()
        await until(lambda: len({command.instance for command in registry.observed}) == 20)
    assert target.waiting_most == 3


async def test_news_are_repeated_until_the_log_has_followed(target: Target):
    registry = Registry()
    registry.follows = False
    registry.register(target.check())
    async with registry.running():
        await until(lambda: registry.statuses() == ["healthy"] * 3)
        registry.follows = True
        await until(lambda: registry.instance().health == "healthy")
        told = len(registry.observed)
        await registry.runs(3)
    assert len(registry.observed) == told


async def test_news_that_the_newest_result_contradicts_are_held_back(target: Target):
    registry = Registry()
    registry.register(target.check(healthy_after=100))
    async with registry.running():
        await until(lambda: registry.observed)
        registry.follows = False
        target.status = 500
        await until(lambda: len(registry.observed) == 2)
        target.status = 200
        await until(lambda: registry.text("http") == "HTTP 200")
        told = len(registry.observed)
        await registry.runs(3)
    assert len(registry.observed) == told
    assert {command.cause for command in registry.observed[1:]} == {"HTTP 500, expected 2xx"}


async def test_the_newest_output_is_kept_for_the_operator(target: Target):
    registry = Registry()
    registry.register(target.check())
    assert registry.checker.output(STREAM, "o-1", "http") is None
    async with registry.running():
        await until(lambda: registry.observed)
    output = registry.checker.output(STREAM, "o-1", "http")
    assert output is not None
    assert (output.text, output.success) == ("HTTP 200", True)
    assert abs((datetime.now(UTC) - output.at).total_seconds()) < 5
    assert 0 < output.duration_seconds < 2


async def test_a_new_instance_has_its_first_result_within_about_a_second(target: Target):
    registry = Registry()
    async with registry.running():
        for number in range(20):
            registry.register(target.check(interval_seconds=3600), name=f"o-{number}")
        await until(lambda: len(registry.observed) == 20, seconds=3)


async def test_after_a_recovery_the_first_runs_are_spread_over_the_interval(target: Target):
    registry = Registry()
    registry.register_healthy(100, target.check(interval_seconds=3600))
    started = time.monotonic()
    async with registry.running():
        await until(lambda: time.monotonic() - started > 0.5)
    assert len(target.asked) <= 2


async def test_a_stop_of_the_process_is_followed_by_no_burst(target: Target):
    registry = Registry()
    registry.register_healthy(400, target.check(interval_seconds=5))
    async with registry.running():
        await until(lambda: len(target.asked) >= 5)
        time.sleep(2.5)  # noqa: ASYNC251 — stands for SIGSTOP: about 200 runs fall due meanwhile
        asked, resumed = len(target.asked), time.monotonic()
        await until(lambda: time.monotonic() - resumed > 0.3)
    assert len(target.asked) - asked < 100


async def test_a_timeout_that_the_controller_slept_through_is_no_evidence(target: Target):
    registry = Registry()
    target.answers.clear()
    registry.register(target.check(timeout_seconds=0.3))
    async with registry.running():
        await until(lambda: target.waiting == 1)
        time.sleep(1)  # noqa: ASYNC251 — stands for SIGSTOP
        await until(lambda: registry.checker.stats.unjudged == 1)
        assert registry.observed == []
        target.answers.set()
        await until(lambda: registry.statuses() == ["healthy"])


async def test_a_controller_out_of_files_judges_nobody(target: Target):
    registry = Registry()
    registry.register(target.check(), TcpCheck(name="tcp", host="127.0.0.1", port=target.port, **FAST))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with registry.running():
        await until(lambda: len(registry.observed) == 2 and registry.checker.stats.in_flight == 0)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            await until(lambda: registry.checker.stats.unjudged >= 4)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        cause = registry.checker.stats.unjudged_cause
    assert cause == "not judged: the controller has a shortage: Too many open files"
    assert registry.statuses() == ["healthy", "healthy"]


async def test_a_fall_has_the_instant_of_the_clock_that_stamps_events() -> None:
    # By another clock it would not be counted together with those that are in the log.
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    registry = Registry(clock=lambda: noon)
    registry.register(TcpCheck(host="127.0.0.1", port=9, interval_seconds=0.1))
    async with registry.running():
        await until(lambda: registry.observed)
    assert registry.observed[0].at == noon
