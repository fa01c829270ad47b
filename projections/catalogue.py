"""All read models, as a literal tuple."""

from typing import Final

from projections.data_nodes import DATA_NODES
from projections.groups import GROUPS
from projections.history import HISTORY
from projections.instances import INSTANCES
from projections.migrations import MIGRATIONS
from projections.projection import AnyProjection
from projections.services import SERVICES
from projections.shards import SHARDS

PROJECTIONS: Final[tuple[AnyProjection, ...]] = (
    SERVICES,
    INSTANCES,
    HISTORY,
    DATA_NODES,
    SHARDS,
    MIGRATIONS,
    GROUPS,
)
