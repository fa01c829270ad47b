"""Numbers on the command line that mean an amount: of seconds, of bytes per second, of capacity."""

import math

import click


class Amount(click.ParamType):
    """A number from `least` on, or with `above` more than that, up to `most`; never NaN, and not infinite.

    Of click's own ranges NaN is in each, and what is compared with it never comes: a command would wait for ever.
    """

    name = "number"

    def __init__(self, least: float, most: float = math.inf, *, above: bool = False) -> None:
        self._least, self._most, self._above = least, most, above

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click."""
        found = float(click.FLOAT.convert(value, param, ctx))
        is_enough = found > self._least if self._above else found >= self._least
        if not (is_enough and found <= self._most and math.isfinite(found)):
            bounds = f"{'above' if self._above else 'of at least'} {self._least:g}"
            at_most = "" if self._most == math.inf else f" and at most {self._most:g}"
            self.fail(f"{value} is no number {bounds}{at_most}", param, ctx)
        return found
