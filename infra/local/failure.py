"""What goes wrong with a local server."""

from muster.wire.error import MusterError


class LocalServerFailed(MusterError):
    """A local server could not start or has died; the detail ends with the newest lines of its log."""


class LocalServerUnavailable(LocalServerFailed):
    """What a local server is made of cannot be had here: a package, a jar or a Java runtime."""
