"""Descriptors: for their origin, self-signed, in their time, and continuous from one to the next."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from federation_world import Clock, make_node

from federation.continuity import Pin, parse_pin, verify_descriptor
from federation.errors import DescriptorRefused
from federation.identity import SigningKey
from linkeddata.descriptor import Holdings, NodeDescriptor, NodeKey, PolicySummary
from linkeddata.envelope import JOB_SPEC, NODE_DESCRIPTOR, seal

NOW = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
ORIGIN = "https://images.example.org"
OLD, NEW, RECOVERY, EVIL = (SigningKey.from_seed(letter * 32) for letter in (b"o", b"n", b"r", b"e"))


def key(signer: SigningKey, purpose="sign") -> NodeKey:
    return NodeKey(kid=signer.kid, public_key=signer.public_key_b64, purpose=purpose)


def descriptor(**changes) -> NodeDescriptor:
    values = {
        "origin": ORIGIN, "name": "N", "seq": 5, "issued": NOW, "expires": NOW + timedelta(days=7),
        "keys": (key(OLD), key(RECOVERY, "recovery")), "pipelines": (),
        "policy": PolicySummary(preset="closed", rules=("refuse: everything else",)),
        "holdings": Holdings(specimens=0, media=0, digest="sha256:0", kingdoms={}, updated=NOW),
    }  # fmt: skip
    return NodeDescriptor(**{**values, **changes})


def check(
    found: NodeDescriptor, *signers: SigningKey, pin: Pin | None = None, origin=ORIGIN, insecure=False, **changes
):
    envelope = seal(found.to_json(), payload_type=changes.pop("kind", NODE_DESCRIPTOR), signers=signers or (OLD,))
    return verify_descriptor(envelope, origin=origin, pin=pin, now=NOW, insecure_loopback=insecure, **changes)


PIN = check(descriptor()).pin


def test_the_first_descriptor_of_an_origin_is_pinned() -> None:
    known = check(descriptor())
    assert known.continuity == "first"
    assert known.pin == PIN
    assert parse_pin(PIN.to_json()) == PIN
    assert check(descriptor(), pin=PIN).continuity == "same"
    assert check(descriptor(seq=6, name="renamed"), pin=PIN).continuity == "updated"


def test_keys_change_by_the_old_key_or_by_the_recovery_key() -> None:
    both = descriptor(seq=6, keys=(key(NEW), key(RECOVERY, "recovery")))
    assert check(both, OLD, NEW, pin=PIN).continuity == "updated"
    known = check(both, RECOVERY, NEW, pin=PIN)
    assert known.continuity == "recovered"
    # From then on the stolen old key is worth nothing.
    with pytest.raises(DescriptorRefused, match="key changed"):
        check(descriptor(seq=7), OLD, pin=known.pin)


REFUSED = {
    "for another origin": lambda: check(descriptor(origin="https://kew.example.org")),
    "of another kind": lambda: check(descriptor(), kind=JOB_SPEC),
    "signed by a stranger": lambda: check(descriptor(), EVIL),
    "signed by its recovery key only": lambda: check(descriptor(), RECOVERY),
    "a key id that is another key's": lambda: check(
        descriptor(keys=(NodeKey(kid=OLD.kid, public_key=EVIL.public_key_b64, purpose="sign"),))
    ),
    "expired": lambda: check(descriptor(issued=NOW - timedelta(days=8), expires=NOW)),
    "issued in the future": lambda: check(
        descriptor(issued=NOW + timedelta(minutes=6), expires=NOW + timedelta(days=1))
    ),
    "sequence went back": lambda: check(descriptor(seq=4), pin=PIN),
    "same sequence, other content": lambda: check(descriptor(name="two-faced"), pin=PIN),
    "a new key that nobody signed": lambda: check(descriptor(seq=6, keys=(key(EVIL),)), EVIL, pin=PIN),
    "a stolen key takes the recovery key along": lambda: check(
        descriptor(seq=6, keys=(key(OLD), key(EVIL, "recovery"))), OLD, pin=PIN
    ),
    "a stolen key drops the recovery key": lambda: check(descriptor(seq=6, keys=(key(OLD),)), OLD, pin=PIN),
    "http": lambda: check(descriptor(origin="http://images.example.org"), origin="http://images.example.org"),
    "http, although loopback is allowed": lambda: check(
        descriptor(origin="http://images.example.org", insecure_loopback=True), origin="http://images.example.org",
        insecure=True,
    ),
    "loopback where it is not allowed": lambda: check(
        descriptor(origin="http://127.0.0.1:80", insecure_loopback=True), origin="http://127.0.0.1:80"
    ),
    "loopback that does not say so": lambda: check(
        descriptor(origin="http://127.0.0.1:80"), origin="http://127.0.0.1:80", insecure=True
    ),
    "escape sequences": lambda: check(descriptor(name="\u001b[31mred")),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_believed(name: str) -> None:
    with pytest.raises(DescriptorRefused):
        REFUSED[name]()


def test_an_expired_one_may_be_shown_but_not_used() -> None:
    old = descriptor(issued=NOW - timedelta(days=8), expires=NOW - timedelta(days=1))
    assert check(old, may_be_expired=True).descriptor.name == "N"


async def test_a_node_makes_a_new_descriptor_when_something_changed_or_time_passed(tmp_path: Path) -> None:
    clock = Clock()
    node = make_node(tmp_path / "n", clock=clock)
    arguments = {"origin": node.origin, "insecure_loopback": True}

    async def current(pin: Pin | None):
        return verify_descriptor(await node.descriptor.current(), pin=pin, now=clock(), **arguments)

    first = await current(None)
    clock.forward(3600)
    assert (await current(first.pin)).continuity == "same"
    node.add_sheet("s1")
    second = await current(first.pin)
    assert second.continuity == "updated"
    assert second.descriptor.holdings.specimens == 1
    node.offers.pop()
    third = await current(second.pin)
    assert len(third.descriptor.pipelines) == 1
    clock.forward(4 * 24 * 3600)
    fourth = await current(third.pin)
    assert (fourth.continuity, fourth.descriptor.issued) == ("updated", clock())
    # After a restore of an old backup the sequence still goes forward.
    with node.database.transaction() as conn:
        conn.execute("UPDATE meta SET value = '1' WHERE key = 'descriptor_seq'")
        conn.execute("DELETE FROM meta WHERE key = 'descriptor'")
    clock.forward(60)
    assert (await current(fourth.pin)).continuity == "updated"
    node.database.close()


async def test_private_specimens_are_in_no_public_number(tmp_path: Path) -> None:
    from linkeddata.access import AccessClass

    node = make_node(tmp_path / "n", clock=Clock())
    node.add_sheet("s1", access=AccessClass.PRIVATE)
    known = verify_descriptor(
        await node.descriptor.current(), origin=node.origin, pin=None, now=node.clock(), insecure_loopback=True
    )
    assert (known.descriptor.holdings.specimens, known.descriptor.holdings.media) == (0, 0)
    assert replace(known.descriptor.holdings, digest="").kingdoms == {}
    node.database.close()
