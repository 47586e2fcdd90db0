"""The contract of tiers against a real S3 server process, and what only a bucket can get wrong."""

import itertools
import random
from collections.abc import Iterator

import pytest
from contracts.tier_contract import FaultyTier, Place, TierContract, data_of, stored, whole
from contracts.tier_places import NEEDS_S3_SERVER, S3_SERVER, BucketHooks, bucket_tier, make_bucket, s3_server

from cas.errors import TierFailed
from cas.ids import ContentId
from cas.tier import key_of
from cas.tier_s3 import Bucket, S3Tier

pytestmark = [pytest.mark.peer, pytest.mark.skipif(not S3_SERVER.exists(), reason=NEEDS_S3_SERVER)]
NAMES = itertools.count()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with s3_server() as found:
        yield found


@pytest.fixture
def bucket(port: int) -> str:
    name = f"bucket-{next(NAMES)}"
    make_bucket(port, name)
    return name


class TestBucket(TierContract):
    examples = 8
    steps = 12

    @pytest.fixture
    def place(self, port: int, bucket: str) -> Place:
        return Place(bucket_tier(port, bucket), BucketHooks(port, bucket, ""))


class TestPrefix(TierContract):
    """Below a prefix, in a bucket that others use, too."""

    examples = 3
    steps = 10

    @pytest.fixture
    def place(self, port: int, bucket: str) -> Place:
        BucketHooks(port, bucket, "").stray("others/file", b"not ours")
        return Place(bucket_tier(port, bucket, prefix="node/images"), BucketHooks(port, bucket, "node/images/"))


def test_a_large_file_goes_up_in_parts_and_comes_back_whole(port: int, bucket: str) -> None:
    tier = bucket_tier(port, bucket)
    data = data_of(1, (17 << 20) + 3)
    cid = stored(tier, data)
    assert whole(tier, cid, len(data)) == data
    assert b"".join(tier.read(cid, offset=(8 << 20) - 2, length=5)) == data[(8 << 20) - 2 : (8 << 20) + 3]


def test_what_lies_below_the_prefix_is_the_key_alone(port: int, bucket: str) -> None:
    cid = stored(bucket_tier(port, bucket, prefix="node/images"), b"hello")
    everything = [key for key, _ in bucket_tier(port, bucket).list()]
    assert everything == [f"node/images/{key_of(cid)}"]


def test_a_bucket_that_is_not_there_is_a_problem_and_never_an_empty_one(port: int) -> None:
    tier = bucket_tier(port, "not-made")
    cid = ContentId.of(b"x")
    for call in (
        lambda: tier.stat(cid),
        lambda: list(tier.read(cid)),
        lambda: tier.delete(cid),
        lambda: list(tier.list()),
        lambda: stored(tier, b"x"),
        lambda: stored(tier, data_of(1, 9 << 20)),
    ):
        with pytest.raises(TierFailed, match="no such bucket"):
            call()


def test_a_service_that_is_not_there_is_a_problem_in_one_line() -> None:
    with s3_server() as port:
        make_bucket(port, "was-there")
        tier = bucket_tier(port, "was-there", retries=0)
        cid = stored(tier, b"x")
    for call in (
        lambda: tier.stat(cid),
        lambda: list(tier.list()),
        lambda: stored(tier, b"y"),
        lambda: tier.delete(cid),
    ):
        with pytest.raises(TierFailed) as raised:
            call()
        assert "\n" not in str(raised.value)
        assert "was-there" in str(raised.value)


def test_secrets_are_in_no_message(port: int) -> None:
    bucket = Bucket(
        name="not-made",
        endpoint=f"http://127.0.0.1:{port}",
        region="x",
        access_key_id="id",
        secret_access_key="hush-hush",
    )
    with pytest.raises(TierFailed) as raised:
        S3Tier(bucket, retries=0).stat(ContentId.of(b"x"))
    assert "hush" not in f"{raised.value!r} {bucket!r}"


def test_a_service_that_keeps_other_bytes_is_found_out_at_once(port: int, bucket: str) -> None:
    """The read-back: another writer changes the object between the upload and the reading."""
    hooks = BucketHooks(port, bucket, "")

    class Rotting(S3Tier):
        def _must_read_back(self, cid: ContentId, size: int) -> None:
            hooks.flip(cid)
            super()._must_read_back(cid, size)

    tier = Rotting(bucket_tier(port, bucket)._bucket)
    with pytest.raises(TierFailed, match="does not give back"):
        stored(tier, b"some bytes")
    assert list(tier.list()) == []


def test_no_variable_for_other_programs_sends_the_images_elsewhere(
    port: int, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What we give is used, whatever AWS_* variables stand around for other programs."""
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_BUCKET", "another")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    assert stored(bucket_tier(port, bucket), b"x")


def test_under_many_faults_a_second_try_ends_well(port: int, bucket: str) -> None:
    faulty = FaultyTier(bucket_tier(port, bucket), random.Random(5), rate=0.3)
    data = data_of(2, 200_000)
    for _ in range(60):
        try:
            cid = stored(faulty, data)
            break
        except TierFailed:
            continue
    assert whole(bucket_tier(port, bucket), cid, len(data)) == data
