"""`python -m tests.simulation [moves] [SEED]`: one history again, or new ones until interrupted or broken.

With `moves` they are histories of moves of shards (`tests.simulation.chaos`), else of services.
"""

import sys
from itertools import count
from random import SystemRandom

from tests.simulation import Simulation
from tests.simulation.chaos import Chaos


def main() -> int:
    """Run; 1 if an invariant broke, with the seed that breaks it again."""
    moves = sys.argv[1:2] == ["moves"]
    given = sys.argv[2:] if moves else sys.argv[1:]
    for seed in [int(given[0])] if given else (SystemRandom().randrange(2**32) for _ in count()):
        simulation: Simulation | Chaos = Chaos(seed) if moves else Simulation(seed)
        try:
            told = simulation.run()
        except Exception:
            print(f"broken: make sim SEED='{'moves ' if moves else ''}{seed}'", file=sys.stderr)
            raise
        print(f"seed {seed}: history {told}, {dict(sorted(simulation.counts.items()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
