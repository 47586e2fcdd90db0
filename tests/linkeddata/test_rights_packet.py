"""Rights written into pictures: other libraries find them, the pixels stay, hostile text stays text."""

import io
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from linkeddata.rights_packet import Rights, put_in, rights_packet

RIGHTS = Rights(
    licence="https://creativecommons.org/licenses/by/4.0/", terms="CC BY 4.0", holder="Müller & <Söhne>",
    source="https://images.example.org/media/abc",
)  # fmt: skip


def picture(form: str, **options: object) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 255, (31, 47, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, form, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("form", "options"),
    [("JPEG", {}), ("PNG", {}), ("WEBP", {}), ("WEBP", {"lossless": True}), ("WEBP", {"exif": b"x"})],
)
def test_other_libraries_find_the_packet_and_the_same_pixels(form: str, options: dict[str, object]) -> None:
    before = picture(form, **options)
    after = put_in(before, rights_packet(RIGHTS))
    with Image.open(io.BytesIO(after)) as image, Image.open(io.BytesIO(before)) as plain:
        found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp", "").encode()
        assert (np.asarray(image) == np.asarray(plain)).all()
    text = found.decode("utf-8")
    for word in ("by/4.0/", "CC BY 4.0", "Müller &amp; &lt;Söhne&gt;", "/media/abc"):
        assert word in text


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_the_packet_is_xml_whatever_the_record_says(licence: str, terms: str, holder: str) -> None:
    packet = rights_packet(Rights(licence=licence, terms=terms, holder=holder))
    if licence or terms or holder:
        root = ET.fromstring(packet.decode("utf-8", "surrogatepass").encode("utf-8", "replace"))
        assert root.tag.endswith("xmpmeta")


def test_nothing_to_say_and_other_files_stay_as_they_are() -> None:
    assert rights_packet(Rights(source="https://x.example")) == b""
    for data in (b"", b"GIF89a", picture("JPEG")):
        assert put_in(data, b"") == data
    assert put_in(b"RIFF\0\0\0\0WEBPXXXX", b"x") == b"RIFF\0\0\0\0WEBPXXXX"
    huge = b"x" * 70_000
    assert put_in(picture("JPEG"), huge) == picture("JPEG")
