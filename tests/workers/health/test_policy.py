"""What a controller's settings refuse of a registration."""

import pytest

from domain.registry.service import RegisterInstance
from muster.wire.command import to_service
from muster.wire.error import InvalidInstance
from muster.wire.registry.check import HttpCheck
from tests.sample import spec
from workers.health.policy import CheckPolicy
from workers.health.targets import Targets
from workers.views.views import Views

BY_TOPIC = to_service("orders", RegisterInstance(instance="a", spec=spec(lease_seconds=10.0, heartbeats="topic")))
DIRECT = to_service("orders", RegisterInstance(instance="a", spec=spec(lease_seconds=10.0)))


@pytest.mark.parametrize(
    ("topic", "command", "refused"), [(False, BY_TOPIC, True), (True, BY_TOPIC, False), (False, DIRECT, False)]
)
def test_heartbeats_by_the_topic_need_one(topic, command, refused):
    found = CheckPolicy(0.1, Targets("any"), topic).refusal(command, Views([0]))
    assert isinstance(found, InvalidInstance) == refused
    assert found is None or found.context["field"] == "heartbeats"


def test_a_url_that_whatever_asks_cannot_read_is_refused_with_its_field():
    command = to_service("orders", RegisterInstance(instance="a", spec=spec(checks=[HttpCheck(url="http://xn--/")])))
    found = CheckPolicy(0.1, Targets("any"), topic=False).refusal(command, Views([0]))
    assert isinstance(found, InvalidInstance)
    assert found.context["field"] == "checks.0.url"
