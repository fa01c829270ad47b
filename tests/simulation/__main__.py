"""`python -m tests.simulation [moves|groups] [SEED]`: one history again, or new ones until interrupted or broken.

With `moves` they are histories of moves of shards (`tests.simulation.chaos`), with `groups` of failovers
(`tests.simulation.groups`), else of services.
"""

import sys
from itertools import count
from random import SystemRandom
from typing import Final

from tests.simulation import Simulation
from tests.simulation.chaos import Chaos
from tests.simulation.groups.world import Groups

KINDS: Final[dict[str, type[Simulation | Chaos | Groups]]] = {"": Simulation, "moves": Chaos, "groups": Groups}


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
