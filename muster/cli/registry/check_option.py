"""Health checks on the command line: `http=URL[,interval=5,…]`, `tcp=HOST:PORT[,…]`, `ttl=SECONDS`."""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import click

_NAMES: Final = {
    "interval": "interval_seconds",
    "timeout": "timeout_seconds",
    "status": "expected_status",
    "match": "body_match",
    "method": "method",
    "name": "name",
    "server_name": "server_name",
    "ca": "ca_pem",
    "skip_verify": "skip_verify",
    "healthy_after": "healthy_after",
    "unhealthy_after": "unhealthy_after",
}
_NUMBERS: Final = frozenset(("interval", "timeout", "status", "healthy_after", "unhealthy_after"))
_OF_TLS: Final = frozenset(("server_name", "ca_pem", "skip_verify"))


class CheckType(click.ParamType):
    """A check as a JSON object of the API; its values are judged where the registration is."""

    name = "CHECK"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """`http=http://10.0.0.7:80/health,interval=5` as `{"kind": "http", "url": …, "interval_seconds": 5}`."""
        kind, equals, rest = str(value).partition("=")
        target, settings = _divided(rest)
        if misspelt := _misspelt(target):
            self.fail(f"there is no setting {misspelt[0]!r}; did you mean {misspelt[1]!r}?", param, ctx)
        if not equals or not target or kind not in ("http", "https", "tcp", "ttl"):
            self.fail(f"{value!r} is no check; write http=URL, tcp=HOST:PORT or ttl=SECONDS", param, ctx)
        if "ca_pem" in settings:
            settings["ca_pem"] = self._read(str(settings["ca_pem"]), param, ctx)
        # What is said of TLS has a kind of its own, which nobody should have to know.
        if kind == "http" and not _OF_TLS.isdisjoint(settings):
            return {"kind": "https", "name": "http", "url": target, **settings}
        if kind in ("http", "https"):
            return {"kind": kind, "url": target, **settings}
        if kind == "ttl":
            return {"kind": kind, "ttl_seconds": _number(target), **settings}
        # The last colon stands before the port: an IPv6 address has colons of its own, and then stands in brackets.
        host, colon, port = target.rpartition(":")
        if not colon or not port.isdecimal():
            self.fail(f"{target!r} is not HOST:PORT", param, ctx)
        return {"kind": kind, "host": host.strip("[]"), "port": int(port), **settings}

    def _read(self, file: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The certificates in the file, which is here and not where the controller is."""
        try:
            return Path(file).read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            self.fail(f"ca={file}: {getattr(error, 'strerror', None) or 'not PEM'}", param, ctx)


def _misspelt(target: str) -> tuple[str, str] | None:
    """What stands behind a comma in the target like a setting, and is nearly one: a check that asks for it is ill for ever."""
    for part in target.split(",")[1:]:
        name, equals, _ = part.partition("=")
        # A URL may have commas and equals signs of its own: only what is nearly a known name is a mistake.
        if equals and (known := get_close_matches(name, _NAMES, n=1, cutoff=0.75)):
            return name, known[0]
    return None


def _value(name: str, text: str) -> str | float | bool:
    if name == "skip_verify" and text in ("true", "false"):
        return text == "true"
    return _number(text) if name in _NUMBERS else text


def _number(text: str) -> str | float:
    # The registration takes no digits as text. What is no number stays what it is, and is refused there with its field.
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return text
    return float(text) if "." in text else int(text)


def _divided(text: str) -> tuple[str, dict[str, str | float | bool]]:
    """The target, which may itself hold commas, and the settings after it."""
    target = ""
    settings: dict[str, str | float | bool] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        # A comma begins a setting only where a known name and an equals sign follow it: URLs may have commas.
        if target and equals and name in _NAMES:
            settings[_NAMES[name]] = _value(name, value)
        else:
            target = f"{target},{part}" if target else part
    return target, settings
