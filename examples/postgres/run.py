"""Kill the primary again and again, while rows are written, and look whether any that was acknowledged is missing.

python -m examples.postgres.run [--kills 3] [--keep]
"""

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from examples.postgres.cluster import PostgresGroup, postgres_group


async def fail_over(group: PostgresGroup) -> tuple[str, float]:
    """Kill the primary while it takes rows; wait until another one has acknowledged a row and all are in sync again.

    Returns who was killed, and the seconds from there to the first row.
    """
    epoch = (await group.whole()).epoch
    await group.first_after(epoch - 1)
    killed, at = await group.kill_primary()
    first = await group.first_after(epoch)
    await group.whole()
    return killed, first.at - at


async def main(folder: Path, kills: int) -> int:
    """Returns how many acknowledged rows are missing anywhere."""
    async with postgres_group(folder) as group:
        taken = []
        for number in range(1, kills + 1):
            killed, seconds = await fail_over(group)
            taken.append(seconds)
            row = await group.row()
            print(
                f"{number}: killed {killed}; {row.primary} took the first row after {seconds:.2f} s; {killed} follows",
                flush=True,
            )
        missing = await group.missing()
        print(f"{len(group.acknowledged)} rows were acknowledged; missing: {missing}")
        print(f"time to the first row: p50 {statistics.median(taken):.2f} s, longest {max(taken):.2f} s")
        return sum(missing.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--keep", action="store_true", help="leave the folder there, with its logs")
    chosen = parser.parse_args()
    temporary = Path(tempfile.mkdtemp(prefix="muster-postgres-"))
    try:
        sys.exit(1 if asyncio.run(main(temporary, chosen.kills)) else 0)
    finally:
        if chosen.keep:
            print(f"the logs are in {temporary}")
        else:
            shutil.rmtree(temporary, ignore_errors=True)
