"""`python -m tests.simulation [SEED]`: one history again, or new ones until interrupted or broken."""

import sys
from itertools import count
from random import SystemRandom

from tests.simulation import Simulation


def main() -> int:
    """Run; 1 if an invariant broke, with the seed that breaks it again."""
    given = sys.argv[1:]
    for seed in [int(given[0])] if given else (SystemRandom().randrange(2**32) for _ in count()):
        simulation = Simulation(seed)
        try:
            told = simulation.run()
        except Exception:
            print(f"broken: make sim SEED={seed}", file=sys.stderr)
            raise
        print(f"seed {seed}: history {told}, {dict(sorted(simulation.counts.items()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
