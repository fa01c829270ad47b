"""All limits of the product in one table, from the code: `docs/limits.md`.

A limit is a constant of a module whose name ends in `_max`, or a field of `infra.limits.ClientLimits`. Names and values are read
there; what lies beyond each stands here.
"""
# ruff: noqa: E501  A limit, a line.

import ast
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Final

from infra.limits import ClientLimits

ROOT: Final = Path(__file__).parent.parent
FOLDERS: Final = ("muster", "domain", "sagas", "projections", "infra", "workers")
UNITS: Final = ("bytes", "chars", "seconds", "ms")

CLIENTS: Final = {
    "connections_max": "of one controller, less where the system allows fewer open files: the newest are answered 503 and closed",
    "head_bytes_max": "of a request's head, or of its trailers: 431, and the connection is closed",
    "head_fields_max": "headers of a request, or trailers: 431, and the connection is closed",
    "head_seconds_max": "from a connection's first byte to the end of the head, also without any byte: 408, closed",
    "body_silent_seconds_max": "without a byte of a body that is due: 408, closed; nothing was carried out",
    "queued_requests_max": "requests that wait on one connection behind another: the last answer that is due says `Connection: close`",
    "unread_seconds_max": "in which a client has read nothing of what there is for it: the connection is cut off",
}
"""What lies beyond the limits of clients, which `muster up --limit` sets."""

OTHERS: Final = {
    "domain/groups/commands.py members_max": "members of a failover group: `InvalidCommand`, or `TooLarge` when one is added",
    "domain/registry/admission.py header_bytes_max": "of the headers of a check: the registration is refused",
    "domain/registry/admission.py headers_max": "headers of a check: the registration is refused",
    "domain/registry/doubt/opinion.py words_command_max": "suspects that one command of clients' words is about: the others are in the next",
    "domain/registry/health.py disputed_max": "instances that one fall takes back into discovery: each further fall takes back more",
    "domain/registry/service.py believed_max": "instances that one `BelieveChecks` names: `InvalidCommand`",
    "domain/registry/silence.py entries_max": "silent instances, and heard ones, that one command of telemetry names: `InvalidCommand`",
    "muster/wire/registry/traffic.py calls_in_flight_max": "that a client may be allowed to have under way: `InvalidCommand`",
    "muster/wire/registry/traffic.py failures_max": "in a row before a client leaves an instance out: `InvalidCommand`",
    "muster/wire/registry/traffic.py seconds_max": "of a slow start, or of an ejection: `InvalidCommand`",
    "domain/registry/versions.py falls_kept_seconds_max": "in which checks fail together at most; with a longer interval they are counted over this",
    "domain/registry/versions.py names_kept_max": "names of a service that are gone and still known with their marks: the oldest are forgotten",
    "infra/cluster_key.py text_bytes_max": "of the file with the cluster's key: the controller does not start",
    "infra/deadline.py stop_seconds_max": "from SIGTERM to the end of a process: what has not ended by then is left, and the code is 0",
    "infra/flood.py kinds_max": "classes of lines of a log that are counted: the one heard of least recently begins anew",
    "domain/telemetry/finding.py findings_command_max": "findings that one command of telemetry carries: the others are in the next",
    "domain/telemetry/observed.py kept_seconds_max": "for which the words of a client are kept: they are forgotten",
    "domain/telemetry/observed.py observers_host_max": "clients of one host that are heard about a service: others of that host are not",
    "domain/telemetry/observed.py observers_service_max": "clients that are heard about a service: those that are there go on being heard, others are not",
    "domain/telemetry/observed.py words_max": "words of clients about an instance, in one process: others are not taken",
    "domain/telemetry/seen_calls.py seen_max": "instances of a service of which it is told what clients saw: those that fail most, and the slowest, come first",
    "domain/telemetry/partition.py suspected_max": "suspects of whom the row of a service tells what clients say: those that fail come first",
    "domain/telemetry/partition_time.py hole_seconds_max": "between two records of a partition of heartbeats: a longer pause moves every deadline",
    "infra/telemetry/past.py records_max": "records of heartbeats that are read again at once: the others next",
    "infra/telemetry/publisher.py stop_seconds_max": "for what a telemetry worker has under way when it stops: it is left, and told again by the next",
    "workers/telemetry/batches.py batch_records_max": "records of heartbeats that a telemetry worker takes in without a pause: the others next",
    "workers/telemetry/desk.py publish_seconds_max": "for Kafka to acknowledge what a telemetry worker says: it is told again after 10 s",
    "workers/telemetry/process.py stop_seconds_max": "for a telemetry worker to leave its group: it ends without",
    "infra/local/server.py pause_seconds_max": "between two attempts to start a local server again",
    "infra/log/snapshot.py chunk_bytes_max": "of one record of a snapshot: it goes on in the next",
    "infra/option.py prefix_chars_max": "characters of `--prefix`: the command line is refused",
    "infra/option.py schema_chars_max": "characters of a schema of PostgreSQL, so also of `--prefix` with `--postgres`: the command line is refused",
    "infra/shards/commits.py group_bytes_max": "written to a shard's disk at once: the next go with the next fsync",
    "infra/shards/commits.py group_writes_max": "writes that share an fsync: the next share the next one",
    "infra/shards/commits.py queue_bytes_max": "of writes that wait at a data node: `DataUnavailable`",
    "infra/shards/commits.py queue_writes_max": "writes that wait at a data node: `DataUnavailable`",
    "infra/shards/copy.py trim_records_max": "changes that are trimmed from a shard's log at once: the others later",
    "infra/shards/environment.py readers_max": "readers of a data node's store at a time: the read fails",
    "infra/shards/record.py write_id_bytes_max": "of a write id: `InvalidCommand`",
    "infra/shards/snapshot.py part_bytes_max": "of a part of a scan or a copy: it goes on in the next",
    "infra/shards/snapshot.py part_records_max": "pairs of a part of a scan or a copy: it goes on in the next",
    "infra/shards/store.py ids_max": "write ids that a shard remembers: the oldest are forgotten",
    "infra/shards/store.py log_bytes_max": "of changes that a shard keeps for copies: the oldest are trimmed",
    "infra/shards/store.py log_records_max": "changes that a shard keeps for copies: the oldest are trimmed",
    "infra/shards/store.py wipe_records_max": "pairs that are deleted at once of a shard that goes: the others follow",
    "infra/sqlite/folder.py partitions_max": "of the log in a data folder: the start is refused",
    "workers/audit/verify_snapshots.py differences_max": "of a snapshot from the log that `muster verify` tells: the others are left out",
    "muster/agent/reports.py error_chars_max": "of the error in a data node's report: the rest is left out",
    "muster/agent/reports.py reports_max": "reports of a data node in one request: the others follow",
    "muster/balance/fleet.py gone_kept_max": "instances that are gone and of which a balancer still knows something: the oldest are forgotten",
    "muster/balance/policy.py cycle_entries_max": "turns of a cycle by weight, or the instances if they are more: proportions are rounded",
    "muster/cli/groups/group.py wait_seconds_max": "that `muster group failover --wait` waits: `FailoverTimeout`; the failover goes on",
    "muster/client/controllers/waiting.py quiet_seconds_max": "that a controller is waited for without a word",
    "muster/client/past.py followed_events_max": "events that the client asks for at once while it follows: the others next",
    "muster/group/process/hook.py output_bytes_max": "of the end of what a hook puts out: the rest is left out",
    "muster/group/progress.py why_chars_max": "of why a member has failed or stopped: its end is kept",
    "muster/group/renewals.py gather_seconds_max": "that a renewal waits for others of its process to go with",
    "muster/group/renewals.py request_renewals_max": "renewals of members of one process in one request: the others in the next",
    "muster/group/reports.py leave_seconds_max": "that a runner which ends waits until its last words are heard",
    "muster/wire/controllers.py controllers_max": "addresses of controllers that a client is given: `InvalidCommand`",
    "muster/wire/telemetry/heartbeats.py items_max": "instances in one message of heartbeats: `InvalidCommand`, and in the topic it is passed over",
    "muster/wire/telemetry/observations.py count_max": "each number of what a client saw: `InvalidCommand`, and in the topic the message is passed over",
    "muster/wire/telemetry/observations.py host_chars_max": "characters of the host of an observer in the topic: the message is passed over",
    "muster/wire/telemetry/observations.py observed_max": "instances in one message of what a client saw: `InvalidCommand`, and in the topic it is passed over",
    "muster/wire/telemetry/observations.py report_seconds_max": "between two reports of a balancer, and in one message: `InvalidCommand`",
    "muster/wire/telemetry/heartbeats.py number_max": "each number that an instance says of its load: `InvalidCommand`, and in the topic the message is passed over",
    "muster/wire/shards/key.py key_bytes_max": "of a key: `InvalidShardKey`",
    "muster/wire/shards/key.py shards_max": "shards of a keyspace: `InvalidCommand`",
    "projections/registry/history.py transitions_max": "transitions that the row of an instance shows: older ones stay in its events",
    "sagas/drain.py again_seconds_max": "between two attempts of a draining to begin a move",
    "sagas/drain.py error_chars_max": "of the error that a draining keeps of a move: the rest is left out",
    "sagas/drain.py node_drain_moves_max": "moves that the draining of a node has under way: the others wait",
    "sagas/waited_slot.py shown_moves_max": "moves that are named as those that another one waits for",
    "workers/controller/conditions.py told_at_once_max": "conditions of a kind that have a line of the log each when they begin together: the others are counted",
    "workers/controller/http_server.py connections_waiting_max": "connections that wait to be accepted: the system refuses them",
    "workers/controller/http_server.py drain_seconds_max": "for answers under way when a controller stops: they are cut off",
    "workers/controller/process.py answer_seconds_max": "for what waits at the writers when a controller stops: it has no answer, and is asked again under its id",
    "workers/controller/process.py publish_seconds_max": "for outcomes when a controller stops: those of what changed nothing are lost",
    "workers/controller/process.py snapshot_seconds_max": "for the last snapshot when a controller stops: it is left out, and the next start reads more of the log",
    "workers/gateway.py catch_up_seconds_max": "for the view to reach what a command is judged by: it is judged by the view as it is",
    "workers/health/streak.py falls_max": "falls of a check from healthy within a minute: at the next one, and as long as it goes on, its recoveries are held",
    "workers/health/streak.py hold_seconds_max": "for which the recovery of a check that flaps is held: it is told then, if it still stands",
    "workers/http/audit/asked.py events_max": "events of one answer: ask for the next page",
    "workers/http/audit/scan.py fetch_records_max": "records that are read at once for a page of events",
    "workers/http/audit/events.py page_bytes_max": "of the events of one page, or of one instance's history, as the log has them: it ends with the event that reaches that",
    "workers/http/audit/events.py pages_at_once_max": "pages of events or histories that are made at a time: who comes later waits",
    "workers/http/audit/events.py scanned_records_max": "records that are looked at for one page: it ends early and says where",
    "workers/http/commands.py batch_bytes_max": "of the body of `/v1/commands`: `TooLarge`",
    "workers/host/beats.py send_seconds_max": "for Kafka to take the heartbeats of a host: they are sent anew with the next turn",
    "workers/host/config.py instances_max": "instances in the files of one host: they are not taken",
    "workers/host/host.py message_beats_max": "heartbeats of a host in one message: the others in the next",
    "workers/host/host.py request_beats_max": "heartbeats of a host in one request: the others in the next",
    "workers/host/process.py leave_seconds_max": "for the last words of a host: its instances stay until their leases are over",
    "workers/http/registry/observations.py observed_request_max": "instances of one request of what clients saw: `TooLarge`",
    "workers/http/registry/heartbeats.py beats_max": "instances of one request of heartbeats: `TooLarge`",
    "workers/http/commands.py batch_commands_max": "commands of one request: `TooLarge`",
    "workers/http/connection/connection.py dropped_bytes_max": "of a body that still comes though its request was answered: closed",
    "workers/http/controller/peers.py command_bytes_max": "of a command that one controller passes to another: `TooLarge`",
    "workers/http/exchange.py body_bytes_max": "of a body: `TooLarge`",
    "workers/http/registry/encoded.py cache_bytes_max": "of instances as JSON that are kept: the service asked for least recently is dropped",
    "workers/http/registry/watch.py resume_changes_max": "changes that a watcher may have missed: it gets a `reset` instead",
    "workers/http/registry/watch.py ring_changes_max": "changes that are kept for watchers who resume: they get a `reset` instead",
    "workers/http/shards/keyspaces.py slice_items_max": "shards of a keyspace that are encoded before others have their turn",
    "workers/http/shards/tasks.py id_chars_max": "of the id of a task in a report: `InvalidCommand`",
    "workers/http/shards/tasks.py reports_max": "reports in one request: `TooLarge`",
    "workers/http/shards/watch.py ended_migrations_max": "migrations that have ended in the first picture of a watch: the newest",
    "workers/http/shards/watch.py refreshed_waiting_max": "migrations that wait and are told anew at once: the others a second later",
    "workers/http/watch/frames.py slice_items_max": "rows of a watch's first picture that are sent before others have their turn",
    "workers/http/watch/subscribers.py queue_bytes_max": "of news that wait for a watcher: it is cut off, and resumes",
    "workers/http/watch/subscribers.py queue_frames_max": "frames of news that wait for a watcher: it is cut off, and resumes",
    "workers/http/exchange.py slice_bytes_max": "of an answer that are written at once: the next once the client has read most of them",
    "workers/http/watch/subscribers.py snapshots_sent_max": "pieces of watches' first pictures that are made in one turn of the loop: the others in the next",
    "workers/http/watch/subscribers.py subscribers_max": "watchers of a controller: `NotReady`",
    "workers/machine/command_ids.py generation_ids_max": "command ids in each of the two generations that a partition remembers",
    "workers/machine/partition.py begin_items_max": "shards of a keyspace that are begun in one batch: the others follow",
    "workers/machine/partition.py ended_sagas_max": "sagas of a partition that are remembered once they have ended: the oldest are forgotten",
    "workers/machine/partition.py expiries_group_max": "leases and checks that run out in one batch: the others in the next",
    "workers/machine/partition.py recent_answers_max": "answers of a partition that are published again by who takes it over",
    "workers/node/incoming.py ahead_bytes_max": "that are fetched of a copy before they are stored: the source waits",
    "workers/node/incoming.py pause_seconds_max": "between two attempts to reach the source of a copy",
    "workers/node/lmdb_driver.py verify_tries_max": "comparisons of a copy with its source: the step fails",
    "workers/node/listener.py beside_value_bytes_max": "of a message to a data node, beside the largest value that a keyspace with a shard there allows, or 1 MiB: it is refused before it is read",
    "workers/node/listener.py pending_requests_max": "calls that wait at a data node: they are refused",
    "workers/node/listener.py stop_seconds_max": "for calls under way when a data node stops, or begins to take larger messages: they are cut off",
    "workers/node/outgoing.py part_bytes_max": "of a message of a copy: it goes on in the next",
    "workers/node/service.py operations_max": "operations in a message of a batch: `TooLarge`",
    "workers/node/threads.py threads_max": "threads that read a data node's disk: the next reads wait",
    "workers/peers/credentials.py signs_back_max": "signs of life since the one that a peer's request names: it is a recorded one, 403",
    "workers/peers/forwarding.py confirm_seconds_max": "for the own view to reach what a peer has answered: `Timeout`, the outcome is unknown",
    "workers/peers/forwarding.py forward_bytes_max": "of a list of commands in one request to a peer: the others in the next",
    "workers/peers/presence.py turn_signs_max": "signs of life that are judged before others have their turn",
    "workers/peers/roll_call.py name_chars_max": "of the name of a controller with another key: the rest is left out",
    "workers/peers/roll_call.py names_max": "controllers of which the newest sign is remembered: the oldest are forgotten",
    "workers/peers/roll_call.py sign_bytes_max": "of a sign of life: it is nobody's",
    "workers/peers/roll_call.py signs_behind_max": "own signs of life by which those of a peer may be behind: they count for nothing",
    "workers/peers/strangers.py looks_still_max": "looks at a log that does not grow, for who has another key: its writer is gone",
    "workers/projector/fold.py left_keys_max": "keys of rows that are gone and still known to be: PostgreSQL is asked",
    "workers/sagas/driver.py sagas_turn_max": "sagas that a turn of the driver looks at: the others in the next",
    "workers/views/known.py named_max": "names that a refusal lists of those that there are",
    "workers/views/shards.py ended_migrations_max": "migrations that are shown once they have ended: older ones stay in the log",
    "workers/views/snapshotter.py built_max": "rows of a snapshot that are built before others have their turn",
    "workers/views/snapshotter.py rows_chunk_max": "rows in one record of a snapshot: the others in the next",
    "workers/views/snapshotter.py small_rows_chunk_max": "small rows in one record of a snapshot: the others in the next",
    "workers/writer/commands_topic.py claimed_bytes_max": "of a published command that is looked into for its id: the outcome has its place for an id",
    "workers/writer/commands_topic.py commands_batch_bytes_max": "of a compressed batch of published commands once it is inflated: all of it is refused unread, `TooLarge`",
    "workers/writer/commands_topic.py key_bytes_max": "of the key of a published command: its outcome has the id as its key",
    "workers/writer/commands_topic.py read_ms_max": "for more commands from Kafka, once there are some",
    "workers/writer/commands_topic.py records_per_read_max": "commands that are taken from Kafka at once: the others next",
    "workers/writer/commands_topic.py unanswered_reads_max": "such reads that wait for their answers: no more is read",
    "workers/writer/log_follower.py shown_records_max": "records of the log that the views are shown at once: the others next",
    "workers/writer/published.py command_bytes_max": "of a command: `TooLarge`",
    "muster/wire/problem.py fault_chars_max": "of why a field is refused: the rest is left out",
    "muster/wire/problem.py field_chars_max": "of the name of a field in a refusal: the rest is left out",
    "workers/writer/published.py reason_chars_max": "of a reason: `InvalidCommand`",
    "sagas/placement.py nodes_told_max": "nodes that a drain names with their loads: the others are counted",
    "muster/wire/telemetry/shard_loads.py node_shards_max": "shards of which a data node tells the loads: nothing is known of the others, and moves go by the number of shards",
    "muster/wire/telemetry/shard_loads.py told_bytes_max": "that a data node says a shard to hold: `InvalidCommand`, and in the topic the row is passed over",
    "workers/peers/told_loads.py publish_seconds_max": "for Kafka to acknowledge the loads of data nodes: they are dropped, and newer ones follow",
    "workers/views/shard_loads.py nodes_max": "data nodes whose loads are kept: those of others are not taken",
    "workers/views/shard_loads.py shards_max": "shards whose loads are kept: those of others are not taken",
    "workers/views/heard_loads.py heard_seconds_max": "since an instance has told its load: it is no load of now",
    "workers/views/heard_loads.py instances_max": "instances whose loads over HTTP are kept: those of others are not taken",
    "workers/writer/beat_queue.py group_beats_max": "heartbeats that one group hears: the others in the next",
    "workers/writer/beat_queue.py queue_beats_max": "heartbeats that wait at a partition: `NotReady`",
    "workers/writer/queue.py queue_commands_max": "commands that wait at a partition: `NotReady`",
    "workers/writer/writer.py gather_seconds_max": "since a proof of the reign, that a few signs of life wait for others to share the next one",
    "workers/writer/writer.py gather_signs_max": "signs of life that wait for others: as many wait no more",
    "workers/writer/writer.py gather_turns_max": "turns in which a batch waits for more commands",
    "workers/writer/writer.py group_commands_max": "commands of one batch: the others in the next",
    "workers/writer/writer.py pause_seconds_max": "between two attempts to reign",
}
"""What lies beyond all other limits, by file and name."""


def text() -> str:
    """The document. Raises SystemExit for a sentence about a limit that is none any more, and for a limit without one."""
    found = list(_constants())
    if gone := set(OTHERS) - {place for place, _ in found}:
        raise SystemExit(f"docs/limits.py: there are no such limits: {sorted(gone)}")
    if silent := {place for place, _ in found} - set(OTHERS):
        raise SystemExit(f"docs/limits.py: say what lies beyond {sorted(silent)}")
    clients = [_row(field.name, field.default, CLIENTS[field.name]) for field in fields(ClientLimits)]
    others = [_row(place.split()[1], value, f"{OTHERS[place]} | `{place.split()[0]}`") for place, value in found]
    return "\n".join((_HEAD, *clients, _MIDDLE, *others, ""))


_HEAD: Final = """\
<!-- Generated by `make generate`; do not edit. -->
# Limits

Everything has a limit. [operations.md](operations.md#limits) has those that one plans with; here are all of them.

## Of clients over HTTP

`muster up --limit NAME=VALUE` sets another value, as often as wanted; `MUSTER_LIMITS` holds several, with spaces between them. What goes over
one is counted in `muster_http_refused_total` by its name, and logged at most once in 10 s. Deadlines are noticed up to a second late.

| limit | value | unit | what it bounds, and what happens beyond it |
|---|---|---|---|"""

_MIDDLE: Final = """
## In the code

These are no settings; a few are the defaults of a client's arguments.

| limit | value | unit | what it bounds, and what happens beyond it | where |
|---|---|---|---|---|"""


def _constants() -> Iterator[tuple[str, object]]:
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            module = None
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    name = node.target.id
                    if name.endswith("_max") and not name.startswith("_"):
                        path = file.relative_to(ROOT)
                        module = module or import_module(".".join(path.with_suffix("").parts))
                        yield f"{path.as_posix()} {name}", getattr(module, name)


def _row(name: str, value: object, beyond: str) -> str:
    unit = next((unit for unit in UNITS if f"_{unit}_" in name), name.replace("_kept", "").rsplit("_", 2)[-2])
    shown = f"{value:,}" if isinstance(value, int) else str(value)
    return f"| `{name}` | {shown} | {unit} | {beyond} |"
