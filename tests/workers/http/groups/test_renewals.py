"""Renewals of several members in one request, as members of one process send them."""

from typing import Any

from tests.workers.http.conftest import Api
from tests.workers.http.groups.test_groups import created, led, runs, says


def renewal(id_: str, member: str, incarnation: int, group: str = "db", **more: Any) -> dict[str, Any]:
    data = {"member": member, "incarnation": incarnation, **more}
    return {"id": id_, "type": "muster.group.renew.v1", "stream": f"group/{group}", "data": data}


async def test_each_of_a_list_has_its_own_answer(api: Api) -> None:
    await created(api)
    db1, db2 = await runs(api, "db1"), await runs(api, "db2")
    row = await led(api, 1)
    assert row["primary"] == "db2"
    await says(api, "db2", "serving", incarnation=db2, epoch=1)
    told = await api.ask(
        "POST",
        "/v1/commands",
        {
            "commands": [
                renewal("1", "db1", db1),
                renewal("2", "db1", db1, epoch=1),
                renewal("3", "db2", db2, epoch=1),
                renewal("4", "db2", db2, epoch=2),
                renewal("5", "db2", db2 + 1, epoch=1),
                renewal("6", "db9", 1),
                renewal("7", "db1", db1, group="none"),
                renewal("8", "db1", db1, lease=5),
                renewal("9", "db2", db2),
            ]
        },
    )
    assert told.status == 200, told.body
    found = [(one["id"], one["error"]["name"] if one["error"] else one["status"]) for one in told.body["items"]]
    assert found == [
        ("1", "unchanged"),
        ("2", "StaleEpoch"),
        ("3", "unchanged"),
        ("4", "StaleEpoch"),
        ("5", "StaleIncarnation"),
        ("6", "MemberNotFound"),
        ("7", "GroupNotFound"),
        ("8", "InvalidCommand"),
        ("9", "unchanged"),
    ]
    # Who is refused for its epoch is told the one that there is.
    assert (told.body["items"][3]["error"]["epoch"], told.body["items"][3]["error"]["owner"]) == (1, "db2")


async def test_a_list_that_is_too_long_is_refused_as_a_whole(api: Api) -> None:
    await created(api)
    db1 = await runs(api, "db1")
    told = await api.ask(
        "POST", "/v1/commands", {"commands": [renewal(str(number), "db1", db1) for number in range(1_001)]}
    )
    assert told.problem == (413, "TooLarge")
    assert told.body["commands_max"] == 1_000


async def test_nothing_is_remembered_of_one_that_changes_nothing_and_all_of_one_that_is_refused(api: Api) -> None:
    await created(api)
    db1, db2 = await runs(api, "db1"), await runs(api, "db2")
    await led(api, 1)
    await says(api, "db2", "serving", incarnation=db2, epoch=1)
    commands = [renewal("same", "db2", db2, epoch=1), renewal("late", "db2", db2, epoch=7)]
    twice = [(await api.ask("POST", "/v1/commands", {"commands": commands})).body["items"] for _ in range(2)]
    assert [[one["status"] for one in each] for each in twice] == [["unchanged", "refused"]] * 2
    assert [["duplicate" in one for one in each] for each in twice] == [[False, False], [False, True]]
    # And of one that comes alone.
    for _ in range(2):
        path, key = "/v1/groups/db/members/db1/renew", {"Idempotency-Key": "alone"}
        told = await api.ask("POST", path, {"incarnation": db1}, **key)
        assert (told.status, told.body["status"], told.body["incarnation"]) == (200, "unchanged", db1)
        assert "Muster-Duplicate" not in told.headers
