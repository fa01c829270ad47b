"""The shapes of what is answered about controllers; see `workers.http.model`."""

from typing import Final

from muster.wire.controllers import LiveController, LiveControllers
from workers.http.openapi.shape import shape

ControllerItem: Final = shape(LiveController, "ControllerItem")
ControllerList: Final = shape(LiveControllers, "ControllerList", parts={LiveController: ControllerItem})
