"""`make demo`: the main job end to end, on real processes. Exit code 0 only if every claim was checked and held.

python -m examples.demo [--kafka local --postgres local] [--folder DIR]
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Final

from examples.demo.claims import Claims
from examples.demo.cluster import Cluster
from examples.demo.screen import Screen
from examples.demo.story import Servers, play
from infra.local.failure import LocalServerFailed
from infra.local.kafka import LocalKafka
from infra.local.postgres import LocalPostgres
from infra.option import LOCAL

STORY_SECONDS_MAX: Final = 240.0


async def demonstrate(chosen: argparse.Namespace) -> int:
    """Play the story; the exit code."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, cancel_of_this_task())
    with folder_of(chosen.folder) as folder, Screen() as screen:
        claims = Claims(screen.claim)
        async with servers_of(chosen, Path(folder), screen) as servers:
            cluster = Cluster(Path(folder), servers.kafka, servers.postgres)
            began = time.monotonic()
            try:
                async with asyncio.timeout(STORY_SECONDS_MAX):
                    await play(cluster, servers, screen, claims)
            except Exception as error:  # noqa: BLE001 whatever went wrong is a claim that did not hold; the logs say why
                claims.claim("the story was played to its end", False, f"{type(error).__name__}: {error}")
                traceback.print_exc()
            finally:
                await cluster.close()
        screen.summary(claims, time.monotonic() - began)
        if claims.exit_code:
            print(f"\nThe last lines of the logs:\n{cluster.tails()}", file=sys.stderr)
        return claims.exit_code


def folder_of(chosen: Path | None) -> AbstractContextManager[Path | str]:
    """The folder of all processes: the chosen one, which stays, or one that is removed afterwards."""
    if chosen is None:
        return tempfile.TemporaryDirectory(prefix="muster-demo-", ignore_cleanup_errors=True)
    chosen.mkdir(parents=True)
    return nullcontext(chosen)


@asynccontextmanager
async def servers_of(chosen: argparse.Namespace, folder: Path, screen: Screen) -> AsyncIterator[Servers]:
    """The servers that are wanted; local ones run while the block does. This is set-up, not story."""
    kafka, postgres = chosen.kafka, chosen.postgres
    async with AsyncExitStack() as stack:
        if kafka == LOCAL:
            screen.heading("Set-up: Apache Kafka starts, from packages")
            kafka = (await stack.enter_async_context(LocalKafka(folder / "kafka"))).bootstrap
        if postgres == LOCAL:
            screen.heading("Set-up: PostgreSQL starts, from packages")
            postgres = (await stack.enter_async_context(LocalPostgres(folder / "postgres"))).dsn
        yield Servers(kafka, postgres)


def cancel_of_this_task() -> Callable[[], bool]:
    """What cancels the task that asks, so that its `finally` blocks run."""
    task = asyncio.current_task()
    assert task is not None, "outside of a task"
    return task.cancel


def main() -> int:
    """0: all claims held; 1: not; 2: what it needs cannot be had; 128 + signal: stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    # Only servers of its own: what it finds in others' is not what it claims to have put there.
    parser.add_argument("--kafka", choices=[LOCAL], help="keep the log on a real Kafka, started from packages")
    parser.add_argument("--postgres", choices=[LOCAL], help="also fill tables in a real PostgreSQL, likewise")
    parser.add_argument(
        "--folder", type=Path, help="play in this folder, which must not be there yet, and leave it there"
    )
    try:
        return asyncio.run(demonstrate(parser.parse_args()))
    except LocalServerFailed as error:
        print(error, file=sys.stderr)
        return 2
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
