"""A controller as a process, for the tests of a module."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.muster.controller import ControllerProcess, free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    process = ControllerProcess(tmp_path_factory.mktemp("cli") / "data", free_port())
    asyncio.run(process.start())
    yield process
    process.kill()
