"""`python -m tests.simulation [KIND] [SEED]`: one history again, or new ones until interrupted or broken.

Without a kind they are histories of services on Kafka. `embedded`: of services in SQLite; `commands`: of commands that anybody
publishes (`tests.simulation.commands`); `flips`: of checks that fail together (`tests.simulation.flips`); `moves`: of moves of
shards (`tests.simulation.chaos`); `groups`: of failovers (`tests.simulation.groups`).
"""

import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count
from random import SystemRandom
from typing import Final, Protocol

from tests.simulation import Simulation
from tests.simulation.chaos import Chaos
from tests.simulation.commands import Commands
from tests.simulation.flips import Flips
from tests.simulation.groups.world import Groups


class History(Protocol):
    """What a seed gives."""

    @property
    def counts(self) -> Counter[str]:
        """What has happened."""

    def run(self) -> str:
        """Play; a hash of the history. Raises AssertionError where an invariant breaks."""


KINDS: Final[dict[str, Callable[[int], History]]] = {
    "": Simulation,
    "embedded": partial(Simulation, embedded=True),
    "commands": Commands,
    "flips": Flips,
    "moves": Chaos,
    "groups": Groups,
}


def main() -> int:
    """Run; 1 if an invariant broke, with the seed that breaks it again."""
    kind = sys.argv[1] if sys.argv[1:] and sys.argv[1] in KINDS else ""
    given = sys.argv[2:] if kind else sys.argv[1:]
    for seed in [int(given[0])] if given else (SystemRandom().randrange(2**32) for _ in count()):
        simulation = KINDS[kind](seed)
        try:
            told = simulation.run()
        except Exception:
            print(f"broken: make sim SEED='{f'{kind} {seed}'.strip()}'", file=sys.stderr)
            raise
        print(f"seed {seed}: history {told}, {dict(sorted(simulation.counts.items()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
