"""The parser of image requests against an oracle that was written from the specification in another way."""

import math
import re
from decimal import Decimal
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from linkeddata.iiif_image import (
    IiifRequestError,
    confined_size,
    level_sizes,
    offered_size,
    parse_target,
    resolve,
)
from linkeddata.iiif_info import info_document

ID = "0" * 64


def half_up(value: Decimal) -> int:
    return math.floor(value + Decimal("0.5"))


def oracle(region: str, size: str, rotation: str, last: str, width: int, height: int, area: int | None) -> str | None:
    """The canonical form by regular expressions and decimals, or None where the specification wants 400."""
    number = r"(\d{1,10}(?:\.\d{1,10})?)"
    if region == "full":
        x, y, w, h = 0, 0, width, height
    elif region == "square":
        w = h = min(width, height)
        x, y = (width - w) // 2, (height - h) // 2
    elif found := re.fullmatch(r"(\d{1,10}),(\d{1,10}),(\d{1,10}),(\d{1,10})", region, re.ASCII):
        x, y, w, h = map(int, found.groups())
    elif found := re.fullmatch(f"pct:{number},{number},{number},{number}", region, re.ASCII):
        parts = [Decimal(item) for item in found.groups()]
        if not parts[2] or not parts[3]:
            return None
        x, y = half_up(parts[0] * width / 100), half_up(parts[1] * height / 100)
        w, h = max(1, half_up(parts[2] * width / 100)), max(1, half_up(parts[3] * height / 100))
    else:
        return None
    if not w or not h or x >= width or y >= height:
        return None
    w, h = min(w, width - x), min(h, height - y)
    big_w, big_h = w, h
    if area is not None and w * h > area:
        big_w, big_h = math.isqrt(area * w // h), math.isqrt(area * h // w)
        if not big_w:
            big_w, big_h = 1, min(h, area)
        elif not big_h:
            big_w, big_h = min(w, area), 1
    enlarge, rest = (True, size[1:]) if size.startswith("^") else (False, size)
    if rest == "max":
        if enlarge and (big_w, big_h) == (w, h):
            return None
        a, b = big_w, big_h
    elif found := re.fullmatch(f"pct:{number}", rest, re.ASCII):
        share = Decimal(found[1])
        a, b = half_up(share * w / 100), half_up(share * h / 100)
    elif found := re.fullmatch(r"(\d{1,10}),", rest, re.ASCII):
        a = int(found[1])
        b = max(1, (2 * h * a + w) // (2 * w)) if a else 0
    elif found := re.fullmatch(r",(\d{1,10})", rest, re.ASCII):
        b = int(found[1])
        a = max(1, (2 * w * b + h) // (2 * h)) if b else 0
    elif found := re.fullmatch(r"(\d{1,10}),(\d{1,10})", rest, re.ASCII):
        a, b = int(found[1]), int(found[2])
    elif found := re.fullmatch(r"!(\d{1,10}),(\d{1,10})", rest, re.ASCII):
        box_w, box_h = int(found[1]), int(found[2])
        if not box_w or not box_h or (enlarge and box_w > w and box_h > h):
            return None
        # The side that binds is the one with the smallest share of the region; compared without dividing.
        limits = [(box_w, w), (box_h, h), (big_w, w), (big_h, h)]
        top, bottom = limits[0]
        for one, other in limits[1:]:
            if one * bottom < top * other:
                top, bottom = one, other
        a = max(1, min(box_w, (2 * w * top + bottom) // (2 * bottom)))
        b = max(1, min(box_h, (2 * h * top + bottom) // (2 * bottom)))
    else:
        return None
    if not a or not b or a > w or b > h or (area is not None and a * b > area):
        return None
    turn = re.fullmatch(r"(!?)(0|90|180|270)(\.0{1,10})?", rotation, re.ASCII)
    kind = re.fullmatch(r"(default|color|gray|bitonal)\.(jpg|png|webp)", last, re.ASCII)
    if not turn or not kind:
        return None
    where = "full" if (x, y, w, h) == (0, 0, width, height) else f"{x},{y},{w},{h}"
    what = "max" if (a, b) == (big_w, big_h) else f"{a},{b}"
    return f"{where}/{what}/{turn[1]}{turn[2]}/{'default' if kind[1] == 'color' else kind[1]}.{kind[2]}"


INTS = st.one_of(st.integers(0, 40), st.integers(0, 9000), st.sampled_from([0, 1, 10**10 - 1, 10**10]))
DECIMALS = st.one_of(
    INTS.map(str), st.decimals(0, 120, places=3, allow_nan=False).map(lambda value: f"{value:f}"),
    st.sampled_from(["1e3", ".5", "5.", "-1", "+1", "٣", "0.12345678901", "100.0", "033"]),
)  # fmt: skip
REGIONS = st.one_of(
    st.sampled_from(["full", "square", "", "Full", "smart", "pct:", "1,2,3", "1,2,3,4,5", "0,0,0,1", "pct:0,0,0,5"]),
    st.tuples(INTS, INTS, INTS, INTS).map(lambda box: ",".join(map(str, box))),
    st.tuples(DECIMALS, DECIMALS, DECIMALS, DECIMALS).map(lambda box: "pct:" + ",".join(box)),
)
SIZES = st.builds(
    lambda mark, rest: mark + rest,
    st.sampled_from(["", "", "", "^"]),
    st.one_of(
        st.sampled_from(["max", "full", "", ",", "!", "!5,", "!,5", "pct:", "pct:0", "^max", "!!5,5", "5,5,"]),
        INTS.map(lambda side: f"{side},"), INTS.map(lambda side: f",{side}"), DECIMALS.map(lambda part: f"pct:{part}"),
        st.tuples(st.sampled_from(["", "!"]), INTS, INTS).map(lambda item: f"{item[0]}{item[1]},{item[2]}"),
    ),
)  # fmt: skip
ROTATIONS = st.sampled_from(
    ["0", "90", "180", "270", "!0", "!90", "90.0", "360", "361", "45", "-90", "", "!", "!!0", "0!", "22.5", "1e2"]
)
LASTS = st.sampled_from(
    ["default.jpg", "color.png", "gray.webp", "bitonal.png", "default", ".jpg", "default.tif", "native.jpg",
     "default.jpg.png", "Default.jpg", "default.JPG", ""]
)  # fmt: skip
SIDES = st.one_of(st.integers(1, 40), st.integers(1, 9000))


def ours(parts: list[str], width: int, height: int, area: int | None) -> str | None:
    try:
        target = parse_target("/".join([ID, *(quote(part, safe="") for part in parts)]))
        if target.kind != "image":
            return None
        return resolve(target.image, width=width, height=height, max_area=area).canonical
    except IiifRequestError as error:
        assert str(error)
        return None


@settings(max_examples=400)
@given(REGIONS, SIZES, ROTATIONS, LASTS, SIDES, SIDES, st.one_of(st.none(), st.integers(1, 200_000)))
@example("full", "!5,5", "0", "default.jpg", 1, 9000, 3)
@example("pct:33.3,0,33.4,100", "max", "0", "default.jpg", 3, 1, None)
def test_the_parser_agrees_with_the_oracle(
    region: str, size: str, rotation: str, last: str, width: int, height: int, area: int | None
) -> None:
    assert ours([region, size, rotation, last], width, height, area) == oracle(
        region, size, rotation, last, width, height, area
    )


@given(REGIONS, SIZES, SIDES, SIDES, st.one_of(st.none(), st.integers(1, 200_000)))
def test_the_canonical_form_names_the_same_picture(
    region: str, size: str, width: int, height: int, area: int | None
) -> None:
    try:
        first = resolve(
            parse_target(f"{ID}/{quote(region)}/{quote(size)}/0/default.jpg").image, width=width, height=height,
            max_area=area,
        )  # fmt: skip
    except IiifRequestError:
        return
    assert 0 <= first.x < first.x + first.w <= width
    assert 0 <= first.y < first.y + first.h <= height
    assert 1 <= first.width <= first.w
    assert 1 <= first.height <= first.h
    assert area is None or first.width * first.height <= area
    again = resolve(parse_target(f"{ID}/{first.canonical}").image, width=width, height=height, max_area=area)
    assert again == first


@given(st.text(max_size=80))
def test_no_text_breaks_the_parser(text: str) -> None:
    for raw in (text, f"{ID}/{text}", f"{ID}/{text}/max/0/default.jpg", f"{ID}/full/{text}/0/default.jpg"):
        try:
            target = parse_target(raw)
            if target.kind == "image":
                resolve(target.image, width=100, height=80)
        except IiifRequestError as error:
            assert str(error)


@given(SIDES, SIDES, st.sampled_from([256, 512, 1024]))
def test_aligned_tiles_are_those_that_lie_whole_on_the_grid_of_a_level(width: int, height: int, tile: int) -> None:
    levels = level_sizes(width, height, tile)
    seen = set()
    for level in range(len(levels)):
        side = tile << level
        for column in range(min(3, -(-width // side))):
            for row in range(min(3, -(-height // side))):
                x, y = column * side, row * side
                w, h = min(side, width - x), min(side, height - y)
                out = f"{-(-w >> level)},{-(-h >> level)}"
                found = resolve(
                    parse_target(f"{ID}/{x},{y},{w},{h}/{out}/0/default.jpg").image, width=width, height=height
                )
                place = found.aligned_tile(width, height, tile)
                is_whole = w == h == side and (w, h) != (width, height)
                assert place == ((level, column, row) if is_whole else None)
                seen.add(place)
    assert max(levels[-1]) <= tile


@pytest.mark.parametrize(
    "rest",
    ["1,0,512,512/512,512/0/default.jpg", "0,0,512,512/511,512/0/default.jpg", "0,0,512,512/max/90/default.jpg",
     "0,0,512,512/max/!0/default.jpg", "0,0,512,512/max/0/gray.jpg", "0,0,512,512/max/0/default.png",
     "0,0,1536,1536/512,512/0/default.jpg", "0,0,1024,512/512,512/0/default.jpg", "512,0,1024,1024/512,512/0/default.jpg",
     "8704,0,296,512/max/0/default.jpg", "full/512,512/0/default.jpg"],
)  # fmt: skip
def test_other_regions_are_no_tiles(rest: str) -> None:
    found = resolve(parse_target(f"{ID}/{rest}").image, width=9000, height=9000)
    assert found.aligned_tile(9000, 9000, 512) is None


@given(SIDES, SIDES, st.integers(1, 500))
def test_sizes_in_a_square_and_for_limited_viewers_stay_inside(width: int, height: int, longest: int) -> None:
    for size in (confined_size(width, height, longest), offered_size(width, height, longest)):
        assert 1 <= size[0] <= min(width, longest)
        assert 1 <= size[1] <= min(height, longest)
    whole = resolve(parse_target(f"{ID}/full/!{longest},{longest}/0/default.jpg").image, width=width, height=height)
    assert (whole.width, whole.height) == confined_size(width, height, longest)
    assert offered_size(width, height, None) == (width, height)


def test_the_three_kinds_of_address() -> None:
    assert parse_target(ID).kind == "base"
    assert parse_target(f"{ID}/").kind == "base"
    assert parse_target(f"{ID}/info.json").kind == "info"
    assert parse_target("a%2Fb/info.json").identifier == "a/b"
    with pytest.raises(IiifRequestError, match="5 parts"):
        parse_target(f"{ID}/info.json/x")


@given(SIDES, SIDES, st.one_of(st.none(), st.integers(1, 100_000)))
def test_every_size_and_scale_of_the_document_can_be_asked_for(width: int, height: int, area: int | None) -> None:
    document = info_document(address="x", width=width, height=height, tile_px=256, max_area=area)
    for size in document["sizes"]:
        found = resolve(
            parse_target(f"{ID}/full/{size['width']},{size['height']}/0/default.jpg").image, width=width, height=height,
            max_area=area,
        )  # fmt: skip
        assert (found.width, found.height) == (size["width"], size["height"])
    (tiles,) = document["tiles"]
    assert tiles["scaleFactors"] == [1 << level for level in range(len(tiles["scaleFactors"]))]
