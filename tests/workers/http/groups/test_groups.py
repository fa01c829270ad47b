"""Failover groups over HTTP, from their creation to a failover, as operators and runners of members ask for it."""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.workers.http.conftest import Api


async def runs(api: Api, member: str) -> int:
    """Let a runner join as the member and say that it is ready; its incarnation."""
    joined = await api.ask("POST", f"/v1/groups/db/members/{member}/join", {"process": f"p-{member}"})
    assert joined.status == 200, joined.body
    incarnation: int = joined.body["incarnation"]
    await says(api, member, "report", incarnation=incarnation, outcome="ready")
    return incarnation


async def says(api: Api, member: str, verb: str, **body: Any) -> Any:
    """What a runner says, which is taken."""
    told = await api.ask("POST", f"/v1/groups/db/members/{member}/{verb}", body)
    assert told.status == 200, told.body
    return told.body


async def until(api: Api, so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The group, once it is so."""
    async with asyncio.timeout(30):
        while True:
            row: dict[str, Any] = (await api.get("/v1/groups/db")).body
            if so(row):
                return row
            await asyncio.sleep(0.01)


async def led(api: Api, epoch: int) -> dict[str, Any]:
    """The group, once somebody leads with this epoch."""
    return await until(api, lambda row: row["epoch"] == epoch and row["primary"] is not None)


async def created(api: Api, **settings: Any) -> None:
    members = [{"member": "db1"}, {"member": "db2", "priority": 10}]
    # Leases that no pause of a busy machine outlasts: what runs out is tried elsewhere, without a clock.
    patient = {"lease_seconds": 600.0, "heartbeat_seconds": 100.0}
    told = await api.ask("PUT", "/v1/groups/db", {"members": members, **patient, **settings})
    assert told.body["status"] == "accepted"


async def test_the_end_of_a_primary_that_was_seen_is_answered_with_the_next_one(api: Api) -> None:
    await created(api)
    db1, db2 = await runs(api, "db1"), await runs(api, "db2")
    assert (await led(api, 1))["primary"] == "db2"
    await says(api, "db2", "serving", incarnation=db2, epoch=1)

    await says(api, "db2", "ended", incarnation=db2, epoch=1, how="seen", detail="exit code 137")

    row = await led(api, 2)
    assert (row["primary"], row["serving"], row["degraded"]) == ("db1", False, "db1 leads, and does not serve yet")
    late = await api.ask("POST", "/v1/groups/db/members/db2/renew", {"incarnation": db2, "epoch": 1})
    assert (late.problem, late.body["epoch"], late.body["owner"]) == ((409, "StaleEpoch"), 2, "db1")
    assert (await says(api, "db1", "renew", incarnation=db1, epoch=2))["status"] == "unchanged"


async def test_a_switch_waits_for_the_primary_to_stop(api: Api) -> None:
    await created(api)
    db1, db2 = await runs(api, "db1"), await runs(api, "db2")
    await led(api, 1)
    await says(api, "db2", "serving", incarnation=db2, epoch=1)

    asked = await api.ask("POST", "/v1/groups/db/failover", {"to": "db1", "reason": "a new kernel"})
    assert asked.body["status"] == "accepted"
    fenced = (await api.get("/v1/groups/db")).body
    assert (fenced["primary"], fenced["fenced"], fenced["failover"]) == ("db2", True, "group/db/failover/2")
    saga = (await api.get("/v1/sagas/group/db/failover/2")).body
    assert saga["waits_for"] == "db2 to stop, or for its lease of 600 s to run out"
    again = await api.ask("POST", "/v1/groups/db/failover", {"to": "db1"})
    assert again.problem == (409, "VerbNotAllowed")

    await says(api, "db2", "ended", incarnation=db2, epoch=1, how="said")
    assert (await led(api, 2))["primary"] == "db1"
    await says(api, "db1", "serving", incarnation=db1, epoch=2)
    assert (await api.get("/v1/sagas/group/db/failover/2")).body["phase"] == "completed"


async def test_who_has_nobody_to_take_over_is_told_why(api: Api) -> None:
    await created(api)
    db2 = await runs(api, "db2")
    asked = await api.ask("POST", "/v1/groups/db/failover", {"to": "db1"})
    assert asked.problem == (503, "NoHealthyStandby")
    assert "db1: inactive: its runner has not joined" in asked.body["members"]
    unknown = await api.ask("POST", "/v1/groups/db/failover", {"to": "db9"})
    assert unknown.problem == (404, "MemberNotFound")
    assert (await api.ask("POST", "/v1/groups/none/failover", {})).problem == (404, "GroupNotFound")
    other = await api.ask("POST", "/v1/groups/db/members/db2/renew", {"incarnation": db2 + 1})
    assert other.problem == (409, "StaleIncarnation")


async def test_a_deleted_group_goes_on_with_its_epochs_when_it_comes_again(api: Api) -> None:
    await created(api)
    await runs(api, "db2")
    await runs(api, "db1")
    await led(api, 1)
    refused = await api.ask("DELETE", "/v1/groups/db")
    assert refused.problem == (409, "VerbNotAllowed")
    db2 = next(member for member in (await api.get("/v1/groups/db")).body["members"] if member["member"] == "db2")
    await says(api, "db2", "serving", incarnation=db2["incarnation"], epoch=1)
    await until(api, lambda row: row["failover"] is None)
    # A group made anew would know nothing of its lease, and elect another one beside it.
    assert (await api.ask("DELETE", "/v1/groups/db?force=true")).problem == (409, "VerbNotAllowed")
    assert (await api.ask("PUT", "/v1/groups/db/pause")).body["status"] == "accepted"
    await says(api, "db2", "ended", incarnation=db2["incarnation"], epoch=1, how="said")
    assert (await api.ask("DELETE", "/v1/groups/db?force=true")).body["status"] == "accepted"
    assert (await api.get("/v1/groups/db")).problem == (404, "GroupNotFound")

    await created(api)
    assert (await api.get("/v1/groups/db")).body["epoch"] == 1
    await runs(api, "db1")
    await runs(api, "db2")
    assert (await led(api, 2))["primary"] == "db2"


async def test_a_member_in_maintenance_is_passed_over(api: Api) -> None:
    await created(api, service="postgres")
    for instance in ("db1", "db2"):
        await api.ask("PUT", f"/v1/services/postgres/instances/{instance}", {"address": "10.0.0.7", "port": 5432})
    await api.ask("PUT", "/v1/services/postgres/instances/db2/maintenance", {"reason": "a disk"})
    await until(api, lambda row: any(member["suspect"] for member in row["members"]))
    await runs(api, "db2")
    asked = await api.ask("POST", "/v1/groups/db/failover", {})
    assert "db2: suspected: its instance is in maintenance" in asked.body["members"]


async def test_who_has_read_a_group_writes_behind_what_was_read(api: Api) -> None:
    await created(api)
    seen = {"If_Match": (await api.get("/v1/groups/db")).headers["ETag"]}
    for priority, status in ((20, 200), (30, 412)):
        told = await api.ask("PUT", "/v1/groups/db/members/db1", {"priority": priority}, **seen)
        assert told.status == status


async def test_once_the_service_is_taken_back_its_checks_count_no_more(api: Api) -> None:
    await created(api, service="postgres", max_lag=10)
    await api.ask("PUT", "/v1/services/postgres/instances/db2", {"address": "10.0.0.7", "port": 5432})
    await api.ask("PUT", "/v1/services/postgres/instances/db2/maintenance", {"reason": "a disk"})
    await until(api, lambda row: any(member["suspect"] for member in row["members"]))
    told = await api.ask("PUT", "/v1/groups/db/settings", {"default": ["service", "max_lag"]})
    assert told.body["status"] == "accepted"
    row = await until(api, lambda row: not any(member["suspect"] for member in row["members"]))
    assert (row["service"], row["max_lag"]) == (None, None)


async def test_a_second_process_of_the_primarys_member_is_not_given_to_clients(api: Api) -> None:
    await created(api)
    first = await says(api, "db2", "join", process="p-db2", address="10.0.0.2:5432")
    await says(api, "db2", "report", incarnation=first["incarnation"], outcome="ready")
    await runs(api, "db1")
    assert (await led(api, 1))["address"] == "10.0.0.2:5432"
    await says(api, "db2", "join", process="another", address="10.0.0.9:5432")
    row = (await api.get("/v1/groups/db")).body
    assert (row["primary"], row["epoch"], row["address"]) == ("db2", 1, "10.0.0.2:5432")


async def test_a_watch_of_one_group_hears_of_no_other(api: Api) -> None:
    await created(api)
    await api.put("/v1/groups/other", {"members": [{"member": "a"}]})
    async with api.watch("/groups?group=db") as stream:
        event, _, first = await stream.next()
        assert (event, [row["group"] for row in first["items"]]) == ("snapshot", ["db"])
        await api.put("/v1/groups/other/members/b", {})
        await api.put("/v1/groups/db/members/db3", {"priority": 5})
        event, _, change = await stream.next()
        assert (event, [row["group"] for row in change["items"]]) == ("delta", ["db"])
    async with api.watch("/groups?group=none") as stream:
        assert (await stream.next())[2]["items"] == []
        await api.put("/v1/groups/none", {})
        assert [row["group"] for row in (await stream.next())[2]["items"]] == ["none"]
        await api.delete("/v1/groups/none")
        assert (await stream.next())[2]["gone"] == ["none"]
