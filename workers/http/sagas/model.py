"""The shapes of what is answered about sagas; see `workers.http.model`."""

from typing import Final, Literal

from domain.saga import SkipStep
from domain.stage import Phase, Standing
from muster.wire.sagas import Saga, SagaStep
from muster.wire.stream import Name
from workers.http.model import list_of
from workers.http.openapi.shape import shape


class SkipBody(SkipStep):
    """Which step to leave out; the one under way without it."""

    step: Name | None = None  # type: ignore[assignment]


StepShape: Final = shape(
    SagaStep,
    "StepShape",
    "A step that a migration has come to; `undoes`: the step that it takes back.",
    seconds=float,
    outcome=Literal["running", "done", "failed", "skipped", "given up"],
)
SagaItem: Final = shape(
    Saga,
    "SagaItem",
    without=("steps",),
    first=("id", "saga", "root", "definition", "version", "facts"),
    phase=Phase,
    standing=Standing,
    seconds=float,
    actor=str,
)
SagaList: Final = list_of(SagaItem, "Sagas, newest first.")
SagaWhole: Final = shape(Saga, "SagaWhole", "A saga with its steps.", base=SagaItem, parts={SagaStep: StepShape})
