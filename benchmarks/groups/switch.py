"""An operator lets another member lead: for how long nobody does."""

from collections.abc import Iterator
from statistics import median
from typing import Final

from benchmarks.bench import Bench
from benchmarks.floors import parts
from benchmarks.groups.fleet import MEMBERS, GroupFleet, group_fleet
from benchmarks.table import Row, at_most

GROUP: Final = "switched"
_SWITCHES: Final = 20
_HOOKS: Final = 3.0
_MORE_MS: Final = 20.0


def run(bench: Bench) -> Iterator[Row]:
    """From when the old primary's command stops serving until the new one's begins."""
    for engine in bench.engines:
        runs = []
        for _ in range(bench.runs):
            with bench.fresh(engine) as controller, group_fleet(bench, controller) as there:
                there.create(GROUP)
                runs.append([_switched(there) for _ in range(bench.size(_SWITCHES))])
        # Two hooks and the start of a command, each by itself: a shell that says a line.
        own = 3 * parts.hook_ms("echo > /dev/null")
        title = f"planned switch: no primary, {bench.size(_SWITCHES)} switches"
        told = (own, f"the hooks and the command's start alone; wanted: {_HOOKS:g}× that + {_MORE_MS:g} ms")
        p50, longest = [median(one) for one in runs], [max(one) for one in runs]
        yield Row("group_switch", title, engine, "p50", "ms", p50, at_most(_HOOKS * own + _MORE_MS), *told)
        yield Row("group_switch", title, engine, "longest", "ms", longest, None, *told)


def _switched(there: GroupFleet) -> float:
    primary, lines = there.settled(GROUP, seconds=0.0), there.lines[GROUP]
    [other] = set(MEMBERS) - {primary.member}
    there.there.ask("POST", f"/v1/groups/{GROUP}/failover", {"to": other})
    stopped, began = lines.next("stops"), lines.next("serves", primary.epoch + 1)
    if (stopped.member, began.member) != (primary.member, other):
        raise RuntimeError(f"{other} was to follow {primary}: {stopped}, then {began}")
    lines.back(began)
    return (began.at - stopped.at) * 1e3
