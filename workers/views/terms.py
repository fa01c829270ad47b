"""The terms of a partition, by which it is known whose history a token is of."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

from infra.log.port import Term
from muster.wire.token import TokenPlace


@dataclass(slots=True)
class Terms:
    """All valid terms of a partition up to where its view has come, oldest first."""

    known: list[Term] = field(default_factory=list)

    def extend(self, began: Iterable[Term]) -> None:
        """These terms have begun since."""
        self.known.extend(began)

    def at(self, position: int) -> Term | None:
        """The term that reigned at the position; None: it stands before the first one."""
        # Mostly it is the newest one, of which every answer tells.
        if self.known and position >= self.known[-1].position:
            return self.known[-1]
        index = bisect_right(self.known, position, key=lambda term: term.position) - 1
        return self.known[index] if index >= 0 else None

    def place(self, position: int) -> TokenPlace:
        """A position that the view has reached, as a token has it."""
        term = self.at(position)
        return TokenPlace(position, "" if term is None else term.mark)

    def contradict(self, place: TokenPlace, reached: int) -> bool:
        """Whether the place is certainly of another log, as far as can be known from a view that has come to `reached`."""
        if not place.term:
            return False
        if place.position > reached:
            # The place may be of a term that is still to be read. But a term that another one has followed has ended.
            return any(term.mark == place.term for term in self.known[:-1])
        term = self.at(place.position)
        return term is None or term.mark != place.term
