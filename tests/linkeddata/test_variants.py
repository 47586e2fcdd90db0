"""Which files are variants of one exposure: what is stated, what names tell, and above all what is never put together."""

import itertools
import random

import pytest

from linkeddata.dwca_media import media_key, merge_media, pair_masters, read_medium
from linkeddata.source import SourceMedia
from linkeddata.variants import Group, Seen, called, confirm, group_media, is_same_shape, processed, roles


def media(*locators: str, **fields: str) -> list[SourceMedia]:
    return [SourceMedia(key=media_key(item), locator=item, fields=fields) for item in locators]


def row(address: str, **terms: str) -> SourceMedia:
    names = {"identifier": "dcterms:identifier", "variant": "ac:variantLiteral", "points": "ac:hasServiceAccessPoint",
             "exposure": "vasculum:exposure", "title": "dcterms:title", "licence": "dcterms:license",
             "part": "ac:subjectPart", "managed": "ac:providerManagedID"}  # fmt: skip
    found = read_medium({"ac:accessURI": address, **{names[name]: text for name, text in terms.items()}})
    assert found is not None
    return found


def found(*locators: str) -> list[tuple[str, ...]]:
    return [item.keys for item in group_media(media(*locators), "found")]


def seen(width: int, height: int, form: str = "image/jpeg", **more: object) -> Seen:
    return Seen(width=width, height=height, format=form, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "names",
    [
        ("X-1.tif", "X-1.jpg"),
        ("X-1.TIF", "X-1.jpeg"),
        ("tiff/X-1.tif", "jpg/X-1.jpg"),
        ("2020/masters/X-1.tif", "2020/web/X-1.jpg"),
        ("X-1.jpg", "thumbs/X-1.jpg"),
        ("X-1.jpg", "1024px/X-1.jpg", "400x600/X-1.jpg"),
        ("originals\\X-1.tif", "X-1.jpg"),
        ("https://x.org/img/large/X%201.jpg", "http://x.org/img/small/X 1.jpg"),
        ("https://X.org/a/X-1.png", "https://x.org/a/X-1.webp"),
    ],
)
def test_the_same_name_with_another_ending_or_size_folder_may_be_one(names: tuple[str, ...]) -> None:
    for order in itertools.permutations(names):
        assert found(*order) == [tuple(sorted(map(media_key, names)))]
    assert group_media(media(*names), "stated") == group_media(media(*names), "none") == []


@pytest.mark.parametrize(
    "names",
    [
        ("X-1_a.tif", "X-1_b.jpg"),
        ("X-1-recto.tif", "X-1-verso.jpg"),
        ("recto/X-1.tif", "verso/X-1.jpg"),
        ("X-1.tif", "X-10.jpg"),
        ("X-1.tif", "x-1.jpg"),
        ("X-1.jpg", "X-1.jpeg"),
        ("X-1.jpg", "X-1.JPG"),
        ("X-1.tif", "X-1.jpg", "X-1.jpeg"),
        ("0001/1.tif", "0002/1.jpg"),
        ("old/X-1.jpg", "X-1.jpg"),
        ("archive/X-1.jpg", "X-1.jpg"),
        ("https://x.org/X-1.tif", "https://y.org/X-1.jpg"),
        ("https://x.org/i?id=1.tif", "https://x.org/i?id=2.jpg"),
        ("https://x.org/front/large.jpg", "https://x.org/back/large.jpg"),
        ("https://x.org/1/full/max/0/default.jpg", "https://x.org/2/full/max/0/default.jpg"),
        ("https://x.org/img/1", "https://x.org/img/2"),
        ("X-1.jpg", "X-1.mp4"),
        (".tif", ".jpg"),
        ("http://[", "http://[/X.jpg"),
    ],
)
def test_other_names_are_other_exposures(names: tuple[str, ...]) -> None:
    assert found(*names) == []


def test_several_images_of_a_specimen_are_paired_each_with_its_own() -> None:
    names = [f"{folder}/X-1_{side}.{ending}" for side in "abc" for folder, ending in (("tif", "tif"), ("jpg", "jpg"))]
    for seed in range(5):
        mixed = random.Random(seed).sample(names, len(names))
        assert found(*mixed) == [(f"jpg/X-1_{side}.jpg", f"tif/X-1_{side}.tif") for side in "abc"]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"title": "Front"}, {"title": "Back"}),
        ({"identifier": "urn:1"}, {"identifier": "urn:2"}),
        ({"part": "label"}, {"part": "flower"}),
        ({"licence": "CC0"}, {"licence": "all rights reserved"}),
        ({"licence": "CC BY 4.0"}, {}),
    ],
)
def test_what_says_otherwise_keeps_files_of_one_name_apart(one: dict[str, str], two: dict[str, str]) -> None:
    rows = [row("https://x.org/X.tif", **one), row("https://x.org/X.jpg", **two)]
    assert group_media(rows, "found") == []
    assert group_media([row("https://x.org/X.tif", **one), row("https://x.org/X.jpg", **one)], "found")


def test_rows_of_audiovisual_core_with_one_identifier_and_different_variants_are_stated_to_be_one() -> None:
    rows = [row("https://x.org/9f/a", identifier="urn:m:1", variant="Best Quality"),
            row("https://x.org/9f/b", identifier="urn:m:1", variant="ac:GoodQuality"),
            row("https://x.org/9f/c", identifier="urn:m:1", variant="http://rs.tdwg.org/acvariant/values/Thumbnail"),
            row("https://x.org/9f/d", identifier="urn:m:2", variant="Best Quality")]  # fmt: skip
    for order in itertools.permutations(rows):
        assert group_media(list(order), "stated") == [Group(("x.org/9f/a", "x.org/9f/b", "x.org/9f/c"), is_stated=True)]
    assert [called(item) for item in rows] == ["Best Quality", "Good Quality", "Thumbnail", "Best Quality"]


def test_an_identifier_alone_states_nothing() -> None:
    """Some write the number of the specimen there, with all of its images."""
    same = {"identifier": "X-1"}
    assert group_media([row("https://x.org/1.jpg", **same), row("https://x.org/2.jpg", **same)], "found") == []
    twice = {"identifier": "X-1", "variant": "Best Quality"}
    assert group_media([row("https://x.org/1.jpg", **twice), row("https://x.org/2.jpg", **twice)], "found") == []


def test_an_access_point_and_a_column_of_its_own_state_it_too() -> None:
    rows = [row("https://x.org/1", points="http://x.org/2 | https://x.org/3, https://x.org/nowhere"),
            row("https://x.org/2"), row("https://x.org/3"), row("https://x.org/4", exposure="e"),
            row("https://x.org/5", exposure="e"), row("https://x.org/6", managed="m", variant="Best Quality"),
            row("https://x.org/7", managed="m", variant="Thumbnail")]  # fmt: skip
    assert [item.keys for item in group_media(rows, "stated")] == [
        ("x.org/1", "x.org/2", "x.org/3"), ("x.org/4", "x.org/5"), ("x.org/6", "x.org/7"),
    ]  # fmt: skip
    assert group_media(rows, "none") == []


def test_masters_in_a_column_of_a_table_belong_to_the_files_in_their_order() -> None:
    paired = pair_masters("m/9.tif | m/8.tif", media("b.jpg", "a.jpg"))
    assert [item.keys for item in group_media(merge_media(paired), "stated")] == [
        ("a.jpg", "m/8.tif"), ("b.jpg", "m/9.tif"),
    ]  # fmt: skip
    odd = merge_media(pair_masters("m/9.tif", media("b.jpg", "a.jpg")))
    assert [item.key for item in odd] == ["b.jpg", "a.jpg", "m/9.tif"]
    assert group_media(odd, "found") == []


# ---------------------------------------------------------------------- pixels
FOUND, STATED = Group(("a", "b"), is_stated=False), Group(("a", "b"), is_stated=True)


@pytest.mark.parametrize(
    ("one", "two", "is_one"),
    [
        (seen(4000, 6000, "image/tiff"), seen(4000, 6000), True),
        (seen(4000, 6000), seen(1000, 1500), True),
        (seen(4001, 6003, "image/tiff"), seen(683, 1024), True),
        (seen(4000, 6000, "image/tiff"), seen(6000, 4000), False),
        (seen(4000, 6000, "image/tiff"), seen(4000, 5990), False),
        (seen(4000, 6000, "image/tiff"), seen(1000, 1510), False),
        (seen(4000, 6000), seen(4000, 6000), False),
        (seen(4000, 6000, "image/tiff"), Seen(), False),
        (Seen(), Seen(), False),
    ],
)
def test_found_files_need_the_same_proportions_and_another_format_or_size(one: Seen, two: Seen, is_one: bool) -> None:
    for pair in ((one, two), (two, one)):
        assert confirm(FOUND, dict(zip("ab", pair, strict=True))) == (("a", "b") if is_one else ())


def test_stated_files_may_be_unread_and_alike_but_not_of_another_shape() -> None:
    big, turned = seen(4000, 6000), seen(6000, 4000, "image/tiff")
    assert confirm(STATED, {"a": big, "b": big}) == ("a", "b")
    assert confirm(STATED, {"a": Seen(), "b": big}) == confirm(STATED, {"a": Seen(), "b": Seen()}) == ("a", "b")
    assert len(confirm(STATED, {"a": turned, "b": big})) == 1


def test_a_square_thumbnail_is_left_out_and_does_not_part_the_others() -> None:
    group = Group(("a", "b", "t"), is_stated=False)
    sizes = {"a": seen(4000, 6000, "image/tiff"), "b": seen(2000, 3000), "t": seen(200, 200)}
    assert confirm(group, sizes) == ("a", "b")


def test_proportions_are_compared_to_a_pixel_of_the_smaller_picture() -> None:
    rng = random.Random(4)
    for _ in range(300):
        width, height, factor = rng.randint(800, 9000), rng.randint(800, 9000), rng.uniform(0.05, 1)
        small = seen(max(1, round(width * factor)), max(1, round(height * factor)))
        assert is_same_shape(seen(width, height), small)
        pixel = max(width, height) // min(width, height) + 1  # of the narrow side, measured on the other
        taller = seen(small.width or 1, (small.height or 1) + 2 * pixel)
        assert not is_same_shape(seen(width, height), taller)


def test_the_most_pixels_are_processed_and_of_equals_what_was_before_or_opens_soonest() -> None:
    tiff, jpeg, small = seen(40, 60, "image/tiff"), seen(40, 60), seen(20, 30)
    assert processed({"t": tiff, "s": small}) == "t"
    assert processed({"t": tiff, "j": jpeg, "s": small}) == "j"
    assert processed({"t": tiff, "j": jpeg}, before="t") == "t"
    assert processed({"t": tiff, "s": small}, before="s") == "t"
    assert processed({"t": Seen(), "s": small}) == "s"
    assert processed({"m": Seen(stated="Best Quality"), "z": Seen(stated="Good Quality")}) == "z"


def test_the_master_is_what_is_called_so_else_the_tiff_else_the_largest() -> None:
    tiff, jpeg, png = seen(20, 30, "image/tiff"), seen(40, 60), seen(40, 60, "image/png")
    assert roles({"t": tiff, "j": jpeg}) == {"t": "archival master", "j": "access copy"}
    assert roles({"t": tiff, "j": seen(40, 60, stated="Best Quality")})["j"] == "archival master"
    assert roles({"p": png, "j": jpeg})["p"] == "archival master"
    assert list(roles({"a": jpeg, "b": seen(20, 30)}).values()) == ["archival master", "access copy"]
