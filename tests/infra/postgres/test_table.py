"""A table's rows on their way through COPY: whatever text they hold comes back as it was."""

from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.postgres.table import ReadTable
from muster.wire.value import value
from projections.projection import Key, Projection
from tests.servers import SharedPostgres, run

pytestmark = pytest.mark.postgres


@value
class Part:
    """One of several parts of a row."""

    text: str
    nullable: int | None
    at: datetime | None


@value
class EverythingRow:
    """A row with a column of each kind."""

    text: str
    nullable: str | None
    number: int | None
    share: float
    flag: bool
    at: datetime
    texts: tuple[str, ...]
    numbers: tuple[int, ...]
    texts_by_name: dict[str, str]
    parts: tuple[Part, ...]


EVERYTHING: Projection[EverythingRow] = Projection(
    name="everything",
    revision=1,
    row=EverythingRow,
    key=("service", "instance"),
    events=frozenset(),
    key_of=lambda _: ("orders", "a"),
    fold=lambda row, _: row,
    keeps_whole_row=True,
)
BY_COLUMNS = replace(EVERYTHING, keeps_whole_row=False)
SOME_COLUMNS = replace(BY_COLUMNS, columns=("number", "text"))
# No NUL and no surrogates: PostgreSQL holds neither.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00")) | st.sampled_from(
    ["\\N", "null", "\\.", '"', "\t\r\n"]
)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 in UTC by `timezones`
ROWS = st.builds(
    EverythingRow,
    TEXTS,
    st.none() | TEXTS,
    st.none() | NUMBERS,
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    INSTANTS,
    st.lists(TEXTS).map(tuple),
    st.lists(NUMBERS).map(tuple),
    st.dictionaries(TEXTS, TEXTS),
    st.lists(st.builds(Part, TEXTS, st.none() | NUMBERS, st.none() | INSTANTS), max_size=3).map(tuple),
)


@pytest.mark.parametrize(
    "projection", [EVERYTHING, BY_COLUMNS, SOME_COLUMNS], ids=["whole row", "columns only", "columns and rest"]
)
@settings(max_examples=50, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=6))
def test_what_is_copied_comes_back_as_it_was(
    postgres: SharedPostgres, projection: Projection[EverythingRow], rows: list[EverythingRow]
) -> None:
    table = ReadTable(projection, "public")
    keyed: list[tuple[Key, EverythingRow]] = [(("orders", f"i{number}"), row) for number, row in enumerate(rows)]
    assert run(_copied(postgres.dsn, table, keyed)) == keyed


async def _copied(
    dsn: str, table: ReadTable[EverythingRow], rows: list[tuple[Key, EverythingRow]]
) -> list[tuple[Key, EverythingRow]]:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(table.create_incoming.replace(f"LIKE {table.full_name}", _columns(table)))
        async with connection.transaction():
            await connection.copy_to_table(
                table.incoming, source=table.chunks(rows, 7), columns=table.columns, format="text", encoding="utf-8"
            )
            found = await connection.fetch(f"SELECT * FROM {table.incoming} ORDER BY instance")
    finally:
        await connection.close()
    assert {record["partition"] for record in found} == {7}
    return [table.row(record) for record in found]


def _columns(table: ReadTable[EverythingRow]) -> str:
    return table.create.partition("(")[2].rpartition(")")[0]
