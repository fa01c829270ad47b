"""What a check must keep to when it is registered, and that what the log has already is taken as it is."""

from dataclasses import replace

import pytest

from domain.registry.instance import InstanceWeightChanged
from domain.registry.service import RegisterInstance
from muster.wire.error import InvalidInstance
from muster.wire.registry.check import HttpCheck, TcpCheck, TtlCheck
from tests.given import given
from tests.sample import registered, spec

A = "a"
HTTP = HttpCheck(url="http://10.0.0.7:8080/health")
TCP = TcpCheck(host="10.0.0.7", port=8080)
LONG = {f"X-{number}": "v" for number in range(33)}


def url(text):
    return replace(HTTP, url=text)


def headers(**named):
    return replace(HTTP, headers={name.replace("_", "-"): value for name, value in named.items()})


REFUSED = [
    (replace(HTTP, timeout_seconds=61.0, interval_seconds=120.0), "timeout_seconds"),
    (replace(HTTP, timeout_seconds=3600.0), "timeout_seconds"),
    (replace(TCP, timeout_seconds=10.1), "timeout_seconds"),
    (replace(TCP, timeout_seconds=2.1, interval_seconds=0.1), "timeout_seconds"),
    (replace(HTTP, headers=LONG), "headers"),
    (headers(X_Large="v" * 4096), "headers"),
    (headers(X_Bad="a\r\nInjected: yes"), "headers"),
    (headers(X_Bad="a\0b"), "headers"),
    (headers(X_Bad="a\x7fb"), "headers"),
    (replace(HTTP, headers={"X Bad": "v"}), "headers"),
    (replace(HTTP, headers={"": "v"}), "headers"),
    (replace(HTTP, headers={"X-Käse": "v"}), "headers"),
    (replace(HTTP, headers={"Accept": "a", "accept": "b"}), "headers"),
    (headers(Host="two words"), "headers"),
    (headers(Host=""), "headers"),
    (headers(Content_Length="5"), "headers"),
    (headers(Transfer_Encoding="chunked"), "headers"),
    (url("http://10.0.0.7:0/"), "url"),
    (url("http://a..b/"), "url"),
    (url("http://.a/"), "url"),
    (url("http://1.2.3.256/"), "url"),
    (url("http://1.2.3.4.5/"), "url"),
    (url("http://[:::]/"), "url"),
    (url("http://[1.2.3.4]/"), "url"),
    (url("http://[::1]x/"), "url"),
    (url("http://x[::1]/"), "url"),
    (url("http://[::1]]/"), "url"),
    (url("http://[v1.x]/"), "url"),
    (url("http://[]/"), "url"),
    (url(f"http://{'a' * 64}.example/"), "url"),
    (url(f"http://{'a.' * 127}example/"), "url"),
    (replace(TCP, host="10.0.0.7:80"), "host"),
    (replace(TCP, host="[::1]"), "host"),
    (replace(TCP, host="http://10.0.0.7"), "host"),
    (replace(TCP, host="two words"), "host"),
    (replace(TCP, host="10.0.0.256"), "host"),
    (replace(TCP, host="..."), "host"),
    (replace(HTTP, expected_status=103), "expected_status"),
    (replace(HTTP, method="HEAD", body_match="ready"), "body_match"),
    (replace(HTTP, expected_status=204, body_match="ready"), "body_match"),
]
TAKEN = [
    replace(HTTP, timeout_seconds=60.0, interval_seconds=120.0),
    replace(HTTP, timeout_seconds=10.0),
    replace(HTTP, interval_seconds=0.1),
    replace(HTTP, headers={f"X-{number}": "v" for number in range(32)}),
    headers(X_Large="v" * 4089),
    headers(X_Text="käse\tund mehr", Host="[fd00::7]:8080", Content_Length="0"),
    headers(Connection="Upgrade", Upgrade="websocket"),
    replace(HTTP, expected_status=101),
    url("http://127.1:8080/"),
    url("https://a-b.c_d.example.:8443/x?y=[1]"),
    url("http://[fd00::7]:8080/"),
    url("http://[fd00::7]:/"),
    url("http://me:x@[fd00::7]/[y]"),
    url("http://[::ffff:10.0.0.7]/"),
    replace(TCP, host="fe80::7%eth0"),
    replace(TCP, host="käse.example"),
    TtlCheck(ttl_seconds=86_400.0),
]


@pytest.mark.parametrize(("check", "field"), REFUSED)
def test_what_is_over_a_limit_or_can_never_be_healthy_is_refused_with_its_field(check, field):
    fine = TtlCheck(ttl_seconds=5.0)
    given().when(RegisterInstance(instance=A, spec=spec(checks=(fine, check)))).refused(
        InvalidInstance, field=f"checks.1.{field}"
    )


@pytest.mark.parametrize("check", TAKEN)
def test_what_may_be_healthy_is_taken(check):
    given().when(RegisterInstance(instance=A, spec=spec(checks=(check,)))).then(registered(checks=(check,)))


@pytest.mark.parametrize(("check", "_"), REFUSED)
def test_what_the_log_has_already_is_taken_as_it_is(check, _):
    state = given(registered(checks=(check,)))
    state.when(RegisterInstance(instance=A, spec=spec(checks=(check,)))).nothing()
    state.when(RegisterInstance(instance=A, spec=spec(checks=(check,), weight=7))).then(
        InstanceWeightChanged(instance=A, weight=7)
    )


@pytest.mark.parametrize("check", [case[0] for case in REFUSED[:4]])
def test_an_instance_with_a_check_of_old_cannot_register_another_like_it(check):
    checks = (check, replace(check, name="other"))
    given(registered(checks=(check,))).when(RegisterInstance(instance=A, spec=spec(checks=checks))).refused(
        InvalidInstance, field="checks.1.timeout_seconds"
    )
