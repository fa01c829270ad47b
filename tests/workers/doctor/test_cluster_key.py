"""The doctor looks at the cluster's key, and at whether the controllers that live have the same."""

import secrets
from pathlib import Path

import pytest
from click.testing import CliRunner

from infra.cluster_key import KEY_FILE, own_key
from infra.settings import Settings
from muster.cli import main
from tests.processes.process_on_kafka import cluster_key
from tests.servers import SharedKafka
from workers.controller.process import running
from workers.doctor.cluster_key import examine_key


def test_a_file_that_is_no_key_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("short")
    file.chmod(0o600)
    ill = CliRunner().invoke(main, ["doctor", "--cluster-key", str(file)])
    assert ill.exit_code == 1
    assert "holds no key" in " ".join(ill.stdout.split())
    own_key(tmp_path)
    sound = CliRunner().invoke(main, ["doctor", "--cluster-key", str(tmp_path / KEY_FILE)])
    assert (sound.exit_code, "32 bytes" in " ".join(sound.stdout.split())) == (0, True)


@pytest.mark.kafka
async def test_controllers_with_another_key_are_a_fault(kafka: SharedKafka, tmp_path: Path) -> None:
    prefix, key = f"doctor-{secrets.token_hex(4)}", cluster_key(tmp_path)

    async def verdicts(file: Path) -> list[tuple[str, str]]:
        return [(one.verdict, one.found) for one in await examine_key(file, kafka.bootstrap, prefix)][1:]

    assert await verdicts(key) == [("ok", "none is alive")]
    settings = Settings(data=tmp_path, http="127.0.0.1:0", kafka=kafka.bootstrap, prefix=prefix, controller="anna")
    async with running(settings):
        assert await verdicts(key) == [("ok", "1 alive, with this key")]
        [(verdict, found)] = await verdicts(cluster_key(tmp_path / "other"))
        assert verdict == "fault"
        assert "signs of life of anna/" in found
