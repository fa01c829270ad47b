"""Commands that change something: register, deregister, drain, undrain, maintenance, heartbeat."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from muster.cli.outcome import fail, show
from muster.cli.registry.check_option import CheckType
from muster.cli.registry.line import show_written
from muster.cli.remote import Remote, reason_option, remote, tell
from muster.wire.error import MusterError
from muster.wire.registry.answers import Written
from muster.wire.registry.spec import spec_from

if TYPE_CHECKING:
    from muster.client.client import Client


@click.command()
@click.argument("service")
@click.argument("instance")
@click.option("--address", help="Where it answers: a host name or an IP address.")
@click.option("--port", type=int, help="1 to 65535.")
@click.option("--tag", "tags", multiple=True, help="May be given several times.")
@click.option("--meta", "metadata", multiple=True, metavar="KEY=VALUE", help="May be given several times.")
@click.option("--zone")
@click.option("--weight", type=int)
@click.option("--check", "checks", multiple=True, type=CheckType(), help="http=URL, tcp=HOST:PORT or ttl=SECONDS.")
@click.option("--lease", "lease_seconds", type=float, metavar="SECONDS", help="Gone without a heartbeat for so long.")
@click.option("--deregister-after", "deregister_after_seconds", type=float, metavar="SECONDS", help="Of illness.")
@click.option(
    "--heartbeats",
    type=click.Choice(["direct", "topic"]),
    help="topic: `muster telemetry` keeps the lease, 10 s at least.",
)
@click.option("--file", "file", type=click.Path(dir_okay=False, allow_dash=True), help="A JSON spec; - for stdin.")
@click.option("--holder", help="Who holds it: an id of your own. What another one has registered is taken over.")
@click.option("--expected-version", type=int, help="Only if the instance is at this version.")
@reason_option
@remote
def register(
    remote: Remote,
    service: str,
    instance: str,
    metadata: tuple[str, ...],
    file: str | None,
    holder: str | None,
    expected_version: int | None,
    reason: str | None,
    **fields: Any,
) -> None:
    """Register INSTANCE of SERVICE, or change its registration. Options override what the file says.

    A check takes settings behind commas: http=http://10.0.0.7:8080/health,interval=5,timeout=1,unhealthy_after=3
    """
    # Options that were not given are None or empty, and must not take the place of what the file says.
    spec = _spec_of_file(file) | {name: value for name, value in fields.items() if value not in (None, ())}
    if metadata:
        # The file's metadata are replaced as a whole, as its tags and checks are.
        spec["metadata"] = dict(_pair(text) for text in metadata)
    try:
        # Judged here already, so that a mistake is found without a controller.
        wanted = spec_from(spec)
    except MusterError as error:
        fail(error, json=remote.json)
    _write(
        remote,
        service,
        instance,
        lambda client: client.register_spec(
            service, instance, wanted, reason=reason, expected_version=expected_version, holder=holder
        ),
    )


@click.command()
@click.argument("service")
@click.argument("instance")
@click.option("--incarnation", type=int, help="Only this one.")
@click.option("--holder", help="Only if this one has registered it.")
@click.option("--expected-version", type=int, help="Only if the instance is at this version.")
@reason_option
@remote
def deregister(
    remote: Remote,
    service: str,
    instance: str,
    incarnation: int | None,
    holder: str | None,
    expected_version: int | None,
    reason: str | None,
) -> None:
    """Remove INSTANCE of SERVICE."""
    _write(
        remote,
        service,
        instance,
        lambda client: client.deregister(
            service,
            instance,
            incarnation=incarnation,
            holder=holder,
            expected_version=expected_version,
            reason=reason,
        ),
    )


@click.command()
@click.argument("service")
@click.argument("instance")
@reason_option
@remote
def drain(remote: Remote, service: str, instance: str, reason: str | None) -> None:
    """Take INSTANCE of SERVICE out of discovery because it is about to leave."""
    _write(remote, service, instance, lambda client: client.drain(service, instance, reason))


@click.command()
@click.argument("service")
@click.argument("instance")
@reason_option
@remote
def undrain(remote: Remote, service: str, instance: str, reason: str | None) -> None:
    """Bring INSTANCE of SERVICE back into discovery: it stays after all."""
    _write(remote, service, instance, lambda client: client.undrain(service, instance, reason))


@click.command()
@click.argument("service")
@click.argument("instance")
@click.option("--off", is_flag=True, help="The maintenance is over.")
@reason_option
@remote
def maintenance(remote: Remote, service: str, instance: str, off: bool, reason: str | None) -> None:
    """Take INSTANCE of SERVICE out of discovery for maintenance, or bring it back (--off)."""

    def write(client: "Client") -> Awaitable[Written]:
        change = client.clear_maintenance if off else client.set_maintenance
        return change(service, instance, reason)

    _write(remote, service, instance, write)


@click.command()
@click.argument("service")
@click.argument("instance")
@click.option("--incarnation", type=int, help="Only for this one.")
@click.option("--holder", help="Only if this one has registered it.")
@remote
def heartbeat(remote: Remote, service: str, instance: str, incarnation: int | None, holder: str | None) -> None:
    """Renew the lease and the ttl checks of INSTANCE of SERVICE."""
    _write(
        remote,
        service,
        instance,
        lambda client: client.heartbeat(service, instance, incarnation=incarnation, holder=holder),
    )


@click.command()
@click.argument("service")
@click.argument("instances", nargs=-1)
@reason_option
@remote
def believe(remote: Remote, service: str, instances: tuple[str, ...], reason: str | None) -> None:
    """Believe the checks of SERVICE that have failed together: its suspects, or INSTANCES of them, go out of discovery now."""
    what = f"believe the checks of {', '.join(instances) or service}"
    tell(remote, what, lambda client: client.believe_checks(service, *instances, reason=reason))


def _write(remote: Remote, service: str, instance: str, work: "Callable[[Client], Awaitable[Written]]") -> None:
    written = remote.call(work)
    if remote.json:
        show(written)
    else:
        show_written(written, f"{service}/{instance}")


def _spec_of_file(file: str | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        # Bytes, since JSON is UTF-8 whatever the terminal's encoding is.
        spec = orjson.loads(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise click.BadParameter(f"{file} cannot be read as JSON: {error}", param_hint="--file") from None
    if not isinstance(spec, dict):
        raise click.BadParameter(f"{file} holds no JSON object", param_hint="--file")
    return spec


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--meta")
    return key, value
