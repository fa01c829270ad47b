"""Checks on the command line, as the JSON objects that they become."""

from pathlib import Path
from typing import Any

import click
import pytest

from muster.cli.registry.check_option import CheckType

HTTPS = "https://10.0.0.7:8443/health"


def read(text: str) -> dict[str, Any]:
    return CheckType().convert(text, None, None)


def test_what_a_check_says_of_tls_is_said_behind_its_url(tmp_path: Path):
    pem = tmp_path / "ca.pem"
    pem.write_text("-----BEGIN CERTIFICATE-----")
    assert read(f"http={HTTPS},interval=5,server_name=app.internal,ca={pem}") == {
        "kind": "https",
        "name": "http",
        "url": HTTPS,
        "interval_seconds": 5,
        "server_name": "app.internal",
        "ca_pem": "-----BEGIN CERTIFICATE-----",
    }
    assert read(f"https={HTTPS},skip_verify=true") == {"kind": "https", "url": HTTPS, "skip_verify": True}
    assert read(f"http={HTTPS}") == {"kind": "http", "url": HTTPS}


def test_certificates_that_cannot_be_read_are_told_at_once(tmp_path: Path):
    with pytest.raises(click.BadParameter, match="No such file"):
        read(f"http={HTTPS},ca=/does/not/exist")
    (tmp_path / "key.der").write_bytes(b"\xff\x00")
    with pytest.raises(click.BadParameter, match="not PEM"):
        read(f"http={HTTPS},ca={tmp_path / 'key.der'}")
