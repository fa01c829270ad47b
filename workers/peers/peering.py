"""What a controller that shares its log with others is given at its start: who it is to them, and their common key."""

from dataclasses import dataclass

from infra.kafka.topic import CONTROLLERS, topic_name
from workers.peers.cluster_key import ClusterKey
from workers.peers.credentials import Credentials
from workers.peers.forwarding import Peers
from workers.peers.members import Member, Members
from workers.peers.roll_call import RollCall
from workers.peers.strangers import Strangers


@dataclass(frozen=True, slots=True)
class Peering:
    """The others, as far as this controller has heard of them, and how it proves to them who it is. Enter `peers` first."""

    members: Members
    roll: RollCall
    strangers: Strangers
    credentials: Credentials
    peers: Peers


def peering(secret: bytes, prefix: str, self_: Member) -> Peering:
    """The peering of `self_`, with nobody heard yet. `secret` is the cluster's key, `prefix` that of its topics."""
    key = ClusterKey(secret)
    # Signs are bound to their topic: one key file may serve several clusters on one Kafka.
    roll = RollCall(key, topic_name(CONTROLLERS, prefix), self_)
    credentials = Credentials(key, roll)
    return Peering(Members(self_), roll, Strangers(roll), credentials, Peers(credentials))
