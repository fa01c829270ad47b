"""All read models, as a literal tuple."""

from typing import Any, Final

from projections.history import HISTORY
from projections.instances import INSTANCES
from projections.projection import Projection
from projections.services import SERVICES

PROJECTIONS: Final[tuple[Projection[Any], ...]] = (SERVICES, INSTANCES, HISTORY)
