"""Gives schemathesis sessions and peers, and checks that what passes between the two is whole.

scripts/contract loads this. By themselves random requests would name keys that nobody has, and meet nobody. So most
requests get the key of a living session here, and many of those that take a place get a peer, which sends or receives
at the same time. A seeded generator decides, so that a run can be repeated.
"""

import random
import threading

import requests
import schemathesis

CHOICE = random.Random(17)
PATIENCE_SECONDS = 10
PAYLOAD = bytes(range(256)) * 40
# By key: the token of each session that was issued.
tokens = {}
# By the case's id: the peer of a transfer, and which cases bring a good token.
peers = {}
trusted = set()


class Peer(threading.Thread):
    """The other side of a transfer: receives where `body` is None, else sends it."""

    def __init__(self, url, token, body):
        super().__init__(daemon=True)
        self.url, self.body, self.answer = url, body, None
        self.fields = {"Authorization": f"Bearer {token}"} if token else {}
        self.start()

    def run(self):
        method = "GET" if self.body is None else "POST"
        try:
            self.answer = requests.request(
                method, self.url, data=self.body, headers=self.fields, timeout=PATIENCE_SECONDS
            )
        except requests.RequestException:
            # The other side left, or was refused midway: then this answer is cut.
            self.answer = None


def operation_of(case):
    return case.operation.definition.raw.get("operationId", "")


def is_positive(case):
    mode = case.meta and case.meta.generation.mode
    return mode is None or mode.is_positive


def is_stateful(case):
    """Whether the key comes from an earlier answer."""
    return bool(case.meta) and case.meta.phase.name == "stateful"


def set_field(case, name, value):
    case.headers = {**(case.headers or {}), name: value}


def issue(base, mount, fields):
    """Asks for a session, and returns its document; None: there are as many as this address may have."""
    ask = requests.put if mount else requests.post
    fields = {"Accept": "application/json", **fields}
    answer = ask(f"{base}{mount or '/'}", headers=fields, timeout=PATIENCE_SECONDS)
    if answer.status_code == 429:
        return None
    document = answer.json()
    tokens[document["key"]] = document["token"]
    return document


def settle_fields(case):
    """Makes fields that depend on the body agree with it, which a schema cannot say."""
    fields = case.headers
    if not fields:
        return
    is_form = case.media_type == "multipart/form-data"
    length = len(case.body) if isinstance(case.body, bytes) else 0
    if "Content-Range" in fields:
        if is_form or case.method != "PUT" or not length:
            del fields["Content-Range"]
        else:
            fields["Content-Range"] = f"bytes 0-{length - 1}/{length}"
            fields.pop("Upload-Offset", None)
    if is_form or case.path.startswith("/session"):
        fields.pop("Upload-Offset", None)
        fields.pop("Content-Range", None)


def drop_doubled(case):
    """Where a field and a query say the same thing, the relay reads the field alone."""
    fields, query = case.headers or {}, case.query or {}
    for field, name in (("X-Timeout", "timeout"), ("X-Type", "secure")):
        if field in fields and name in query:
            del query[name]
    if fields.get("X-Type") == "secure" or query.get("secure") == "true":
        query.pop("nameplate", None)


def choose_key(case, mount):
    """Gives the case the key or the nameplate of a living session, and returns the key; None: the case keeps what nobody has."""
    name = "key" if "key" in case.path_parameters else "nameplate"
    if is_stateful(case):
        key = case.path_parameters[name]
        return key if key in tokens else None
    if CHOICE.random() < 0.2:
        return None
    fields = {"X-Type": "secure"} if operation_of(case) == "authorizeGuest" else {}
    document = issue(case.operation.base_url, f"{mount}?nameplate" if name == "nameplate" else mount, fields)
    if document is None:
        return None
    case.path_parameters[name] = document[name]
    return document["key"]


@schemathesis.hook
def before_call(context, case, kwargs):
    operation = operation_of(case)
    drop_doubled(case)
    if operation in ("issue", "issueMessages"):
        # Links need the key out of a document; the URL as text is an answer, too.
        if is_stateful(case) or operation == "issueMessages" or CHOICE.random() < 0.5:
            set_field(case, "Accept", "application/json")
        return
    if not is_positive(case) or not {"key", "nameplate"} & set(case.path_parameters or {}):
        return
    settle_fields(case)
    mount = "/session" if case.path.startswith("/session") else ""
    key = choose_key(case, mount)
    if key is None:
        return
    if operation == "deleteMessagesByNameplate":
        # Only the guest that has come may do that, and schemathesis does not know whether it has.
        return
    if operation.startswith(("delete", "authorize")):
        # By its name's path a session is deleted as well, which the checks do not expect.
        is_unexpected = is_stateful(case) and operation == "deleteNamed"
        if not is_unexpected and CHOICE.random() < 0.7:
            set_field(case, "Authorization", f"Bearer {tokens[key]}")
            trusted.add(case.id)
    elif is_stateful(case) and not mount:
        # A complete transfer would end the session, and other steps may use it.
        return
    elif operation.startswith(("send", "receive")) and CHOICE.random() < 0.6:
        # Below the mount schemathesis is a guest, so its peer is the host.
        token = tokens[key] if mount else None
        body = None if operation.startswith("send") else PAYLOAD
        peers[case.id] = Peer(f"{case.operation.base_url}{mount}/{key}", token, body)


@schemathesis.hook
def after_call(context, case, response):
    if operation_of(case) in ("issue", "issueMessages") and response.status_code == 201:
        if response.headers.get("content-type", [""])[0] == "application/json":
            document = response.json()
            tokens[document["key"]] = document["token"]


@schemathesis.check
def passes_whole(context, response, case):
    """What one side sent is what the other received, and as much as the report says."""
    peer = peers.pop(case.id, None)
    if peer is None:
        return
    peer.join(PATIENCE_SECONDS)
    if response.status_code != 200 or peer.answer is None or peer.answer.status_code != 200:
        return
    if peer.body is not None:
        assert response.content == peer.body, "the receiver has other bytes than were sent"
        assert peer.answer.headers["X-Bytes-Delivered"] == str(len(peer.body))
        return
    delivered = int(response.headers["x-bytes-delivered"][0])
    assert delivered == len(peer.answer.content), "the report differs from what was received"
    sent = response.request.body or b""
    if case.media_type != "multipart/form-data" and isinstance(sent, bytes):
        assert peer.answer.content == sent, "the receiver has other bytes than were sent"


@schemathesis.check
def needs_the_token(context, response, case):
    """No session is deleted, and no guest named, without the session's token."""
    by_nameplate = operation_of(case) == "deleteMessagesByNameplate"
    if operation_of(case).startswith(("delete", "authorize")) and case.id not in trusted and not by_nameplate:
        assert response.status_code >= 400, "done without a token"
