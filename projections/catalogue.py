"""All read models, as a literal tuple."""

from typing import Final

from projections.data_nodes import DATA_NODES
from projections.groups import GROUPS
from projections.migrations import MIGRATIONS
from projections.projection import AnyProjection
from projections.registry.history import HISTORY
from projections.registry.instances import INSTANCES
from projections.registry.services import SERVICES
from projections.registry.traffic import TRAFFIC
from projections.shards import SHARDS

PROJECTIONS: Final[tuple[AnyProjection, ...]] = (
    SERVICES,
    INSTANCES,
    HISTORY,
    DATA_NODES,
    SHARDS,
    MIGRATIONS,
    GROUPS,
    TRAFFIC,
)
