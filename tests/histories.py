"""Strategies for any sequence of commands to a service: few names and values, so that histories get entangled."""

from datetime import UTC, datetime

from hypothesis import strategies as st

from domain.registry import service as s
from domain.registry.silence import BeatHeard, ReportSilence, Silence
from muster.wire.registry.check import HttpCheck, TcpCheck, TtlCheck
from muster.wire.registry.spec import Spec

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
names = st.sampled_from(["a", "b", "c"])
holders = st.sampled_from([None, None, "h1", "h2"])
incarnations = st.none() | st.integers(0, 6)
statuses = st.sampled_from(["healthy", "unhealthy", "unknown"])
causes = st.none() | st.text(st.characters(codec="utf-8"), max_size=20)
checks = st.lists(
    st.sampled_from(
        [
            HttpCheck(url="http://host/", name="http"),
            HttpCheck(url="http://host/other", name="http-2"),
            TcpCheck(host="host", port=80, name="tcp"),
            TtlCheck(ttl_seconds=5.0, name="ttl"),
            TtlCheck(ttl_seconds=9.0, name="ttl-2"),
        ]
    ),
    unique_by=lambda check: check.name,
    max_size=3,
).map(tuple)
specs = st.builds(
    Spec,
    address=st.sampled_from(["10.0.0.1", "10.0.0.2"]),
    port=st.sampled_from([80, 81]),
    metadata=st.dictionaries(st.sampled_from(["k", "l"]), st.text(max_size=5), max_size=2),
    tags=st.sampled_from([(), ("blue",), ("blue", "red")]),
    zone=st.sampled_from(["", "z"]),
    weight=st.integers(0, 2),
    checks=checks,
    lease_seconds=st.sampled_from([None, 5.0]),
    deregister_after_seconds=st.sampled_from([None, 5.0]),
) | st.builds(
    Spec,
    address=st.just("10.0.0.1"),
    port=st.just(80),
    checks=st.sampled_from([(), (TtlCheck(ttl_seconds=10.0),)]),
    lease_seconds=st.sampled_from([None, 10.0]),
    heartbeats=st.just("topic"),
)
check_names = st.sampled_from(["http", "http-2", "tcp", "ttl", "ttl-2", "reported"])
commands = st.one_of(
    st.builds(s.RegisterInstance, instance=names, spec=specs, holder=holders, incarnation=incarnations),
    st.builds(s.DeregisterInstance, instance=names, incarnation=incarnations, holder=holders),
    st.builds(
        s.ReportHealth, instance=names, status=statuses, cause=causes, check=check_names, incarnation=incarnations
    ),
    st.builds(s.Heartbeat, instance=names, incarnation=incarnations, holder=holders),
    st.builds(s.SetMaintenance, instance=names),
    st.builds(s.ClearMaintenance, instance=names),
    st.builds(s.DrainInstance, instance=names),
    st.builds(s.UndrainInstance, instance=names),
    st.builds(
        s.ObserveCheck,
        instance=names,
        incarnation=st.integers(0, 6),
        check=check_names,
        status=statuses,
        cause=causes,
    ),
    st.builds(
        ReportSilence,
        silent=st.lists(
            st.builds(
                Silence,
                instance=names,
                incarnation=st.integers(0, 6),
                since=st.just(NOON),
                check=st.sampled_from([None, "ttl", "http"]),
            ),
            max_size=3,
        ).map(tuple),
        present=st.lists(
            st.builds(BeatHeard, instance=names, incarnation=st.integers(0, 6), at=st.just(NOON)), max_size=2
        ).map(tuple),
    ),
    st.builds(s.ExpireLease, instance=names, incarnation=st.integers(0, 6)),
    st.builds(s.ExpireTtl, instance=names, incarnation=st.integers(0, 6), check=check_names),
    st.builds(s.ExpireUnhealthy, instance=names, incarnation=st.integers(0, 6)),
)
public_commands = commands.filter(lambda command: not isinstance(command, s.DECIDER.own))
