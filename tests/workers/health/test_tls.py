"""https checks of their own kind: for whom the certificate is, whom to trust, and that it can be left out."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from muster.wire.registry.check import HttpsCheck
from tests.workers.health.test_checker import Registry, Target, until
from workers.health.connect import context_of, fault_of_authority

AUTHORITY, STRANGER = trustme.CA(), trustme.CA()
PEM, STRANGERS_PEM = (ca.cert_pem.bytes().decode() for ca in (AUTHORITY, STRANGER))


@pytest.fixture
async def internal() -> AsyncIterator[Target]:
    """A target at an IP address, whose certificate names another."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("app.internal").configure_cert(tls)
    target = Target()
    await target.start(tls=tls)
    yield target
    await target.stop()


@pytest.mark.parametrize(
    ("settings", "status", "cause"),
    [
        ({"server_name": "app.internal", "ca_pem": PEM}, "healthy", "HTTP 200"),
        ({"skip_verify": True}, "healthy", "HTTP 200"),
        ({"skip_verify": True, "server_name": "other.internal"}, "healthy", "HTTP 200"),
        ({"ca_pem": PEM}, "unhealthy", "not valid for '127.0.0.1'"),
        ({"ca_pem": PEM, "server_name": "other.internal"}, "unhealthy", "not valid for 'other.internal'"),
        ({"server_name": "app.internal"}, "unhealthy", "certificate verify failed"),
        ({"server_name": "app.internal", "ca_pem": STRANGERS_PEM}, "unhealthy", "certificate verify failed"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
async def test_a_certificate_is_judged_as_the_check_says(
    internal: Target, settings: dict[str, str], status: str, cause: str
):
    registry = Registry()
    url = f"https://127.0.0.1:{internal.port}/"
    registry.register(HttpsCheck(url=url, interval_seconds=0.1, unhealthy_after=1, **settings))
    async with registry.running():
        await until(lambda: registry.observed)
    assert registry.observed[0].status == status
    assert cause in (registry.observed[0].cause or "")
    assert (registry.observed[0].cause or "").isprintable()


def test_what_holds_no_certificates_is_found_out_at_once():
    assert fault_of_authority(PEM) is None
    assert fault_of_authority(PEM + STRANGERS_PEM) is None
    for text in ("nonsense", PEM[:200], PEM.replace("M", "!")):
        assert (fault_of_authority(text) or "").startswith("no certificates in PEM: ")


def test_with_certificates_of_its_own_a_check_trusts_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    system, own = tmp_path / "system.pem", trustme.CA().cert_pem.bytes().decode()
    system.write_text(STRANGERS_PEM)
    monkeypatch.setenv("SSL_CERT_FILE", str(system))
    context = context_of(HttpsCheck(url="https://127.0.0.1:1/", ca_pem=own), None)
    [trusted] = context.get_ca_certs(binary_form=True)
    assert ssl.DER_cert_to_PEM_cert(trusted).split() == own.split()
