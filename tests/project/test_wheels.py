"""The two distributions, as their users install them: the client alone beside foreign packages, and the server.

The environments hold what a distribution declares and nothing else, and the repository is not on their path.
"""

import asyncio
import json
import re
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import muster
from tests.muster.controller import controller, free_port
from tests.project.wheels import OURS, ROOT, Environment, Wheels, build, distribution_of, environment, interpreter

PYTHONS = ("3.11", "3.12", "3.13")

USES = """
import asyncio, importlib, sys
import muster

async def main(url):
    async with muster.Client(url, actor="wheel") as client:
        async with client.registered("orders", "a", "10.0.0.7", 8080, lease_seconds=30):
            [found] = await client.discover("orders")
            print("found", found.endpoint)
            async for change in client.watch("orders"):
                print("watched", [instance.instance for instance in change.instances])
                break
        try:
            await client.discover("orders")
        except muster.ServiceNotFound as error:
            print("refused", error.name)

assert muster.__file__.startswith(sys.prefix), "the installed one"
asyncio.run(main(sys.argv[1]))
for name in ("domain", "infra", "projections", "sagas", "workers"):
    print(importlib.import_module(name).OWNER)
"""

READS_AHEAD = """
import subprocess
from infra.log.ahead import PROGRAM

child = subprocess.Popen(PROGRAM, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
told, errors = child.communicate(timeout=30)
assert told and not errors, errors.decode()
"""


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    return build(tmp_path_factory.mktemp("wheels"))


@pytest.mark.process
@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", PYTHONS)
async def test_a_service_uses_the_client_beside_packages_of_our_names(
    wheels: Wheels, version: str, tmp_path: Path
) -> None:
    service = await asyncio.to_thread(environment, tmp_path, interpreter(version), wheels.client)
    here = {"PYTHONPATH": str(service.work)}
    async with controller(tmp_path / "data") as url:
        used = await asyncio.to_thread(service.run, service.python, "-c", USES, url, **here)
        listed = await asyncio.to_thread(service.run, service.muster, "services", "--url", url, **here)
    assert used.splitlines() == [
        "found 10.0.0.7:8080",
        "watched ['a']",
        "refused ServiceNotFound",
        *["the service"] * len(OURS),
    ]
    assert listed.split()[:2] == ["SERVICE", "INSTANCES"]
    assert "install musterd" in service.run(service.muster, "up", status=1)
    assert "install musterd" in service.run(service.muster, "node", "run", "--id", "n1", status=1)
    assert f"version {muster.__version__}" in service.run(service.python, "-m", "muster", "--version")


@pytest.mark.process
@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", PYTHONS)
def test_a_server_runs_in_a_folder_with_packages_of_our_names(wheels: Wheels, version: str, tmp_path: Path) -> None:
    server = environment(tmp_path, interpreter(version), wheels.client, wheels.server, extras="kafka,keyspace")
    probe = tmp_path / "reads_ahead.py"
    probe.write_text(READS_AHEAD)
    address = f"127.0.0.1:{free_port()}"
    url = f"http://{address}"
    with (
        _running(server, "up", "--data", str(tmp_path / "data"), "--http", address),
        _running(server, "node", "run", "--id", "n1", "--url", url, "--data", str(tmp_path / "n1")),
    ):
        _until(server, "nodes", "--json", "--url", url, shows='"n1"')
        server.run(server.muster, "register", "orders", "a", "--address", "10.0.0.7", "--port", "80", "--url", url)
        page = json.loads(server.run(server.muster, "discover", "orders", "--json", "--url", url))
        assert [row["instance"] for row in page["items"]] == ["a"]
        server.run(server.muster, "keyspace", "create", "users", "--shards", "2", "--url", url)
        server.run(server.muster, "put", "users", "alice", "first", "--url", url)
        assert server.run(server.muster, "get", "users", "alice", "--url", url).strip() == "first"
    server.run(server.muster, "verify", "--data", str(tmp_path / "data"))
    server.run(server.python, str(probe))


def test_both_wheels_bring_their_licence_and_say_what_they_are(wheels: Wheels) -> None:
    for wheel, readme in ((wheels.client, ROOT / "muster/README.md"), (wheels.server, ROOT / "README.md")):
        about = distribution_of(wheel)
        [licence] = [file for file in about.files or () if file.name == "LICENSE"]
        assert about.read_text(str(Path(*licence.parts[1:]))) == (ROOT / "LICENSE").read_text()
        description = about.metadata.get_payload() or about.metadata["Description"]
        assert description.strip() == readme.read_text().strip()
        assert about.metadata["License-Expression"] == "Apache-2.0"


def test_each_package_is_in_one_wheel(wheels: Wheels) -> None:
    def packages(about: Distribution) -> set[str]:
        return {file.parts[0] for file in about.files or () if not file.parts[0].endswith(".dist-info")}

    assert packages(distribution_of(wheels.client)) == {"muster"}
    assert packages(distribution_of(wheels.server)) == set(OURS)


def test_the_two_versions_and_lists_of_dependencies_agree(wheels: Wheels) -> None:
    client, server = distribution_of(wheels.client), distribution_of(wheels.server)
    assert client.version == server.version == muster.__version__
    for name in ("Requires-Python", "Classifier", "Author"):
        assert client.metadata.get_all(name) == server.metadata.get_all(name)
    needs = [Requirement(text) for text in server.requires or ()]
    [wanted] = [need for need in needs if need.name == client.name]
    assert Version(client.version) in wanted.specifier
    # Of what the client offers the server needs these.
    assert wanted.extras == {"kafka", "keyspace"} < set(client.metadata.get_all("Provides-Extra"))
    both = {Requirement(text).name for text in client.requires or ()} & {need.name for need in needs}
    assert both == set(), "what the client declares comes with it"


def test_the_lock_holds_each_declared_dependency_and_nothing_of_ours() -> None:
    locked = {
        name: Version(version)
        for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", (ROOT / "requirements.lock").read_text(), re.M)
    }
    assert not {name for name in locked if name.startswith("muster")}
    for file in ("pyproject.toml", "muster/pyproject.toml"):
        project = tomllib.loads((ROOT / file).read_text())
        extras = project["project"]["optional-dependencies"]
        declared = [*project["project"]["dependencies"], *(text for texts in extras.values() for text in texts)]
        declared += project.get("dependency-groups", {}).get("dev", [])
        for need in map(Requirement, declared):
            if need.name != "muster-client":
                assert locked[need.name.lower()] in need.specifier, need


@contextmanager
def _running(server: Environment, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
    process = server.start(server.muster, *words)
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0, [log.read_text() for log in server.work.glob("*.log")]


def _until(server: Environment, *words: str, shows: str) -> None:
    """Run a command until it shows the text."""
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run([server.muster, *words], cwd=server.work, capture_output=True, text=True, check=False)
        if shows in done.stdout:
            return
        assert time.monotonic() < deadline, done.stdout + done.stderr
