"""Which addresses are never fetched: asked of the host once, with the answer that the whole address would have."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from federation.errors import FetchRefused
from federation.safe_fetch import check_url
from node.config import FederationSection, NodeSection, Settings
from node.services.remote_rules import why_never_fetched


def whole(url: str, *, insecure_loopback: bool) -> str:
    try:
        check_url(url, insecure_loopback=insecure_loopback)
    except FetchRefused as error:
        return str(error)
    return ""


SETTINGS = {
    loopback: Settings(
        folder=Path("/nowhere"), node=NodeSection(name="N", public_url="https://n.example"),
        federation=FederationSection(insecure_loopback=loopback),
    )
    for loopback in (False, True)
}  # fmt: skip
SCHEMES = st.sampled_from(["https://", "http://", "HTTPS://", "ftp://", "https:", "//", "", "https:///"])
HOSTS = st.one_of(
    st.sampled_from(["images.example.org", "127.0.0.1", "[::1]", "10.0.0.1", "a@b.org", "u:p@b.org", "x.local", "nodots",
                     "169.254.169.254", "0x7f.1", "[fe80::1%25eth0]", "", "example.org:8443", "example.org:x", "ex ample.org"]),
    st.text(alphabet="abc.-:@[]%0", max_size=8),
)  # fmt: skip
ENDS = st.one_of(
    st.sampled_from(["", "/", "/a.jpg", "?q=1", "#f", "/a b", "/@x", "/%zz", "/a/../b", "//b.org", "/\n", "/[", "/" + "a" * 2000]),
    st.text(max_size=6),
)  # fmt: skip


@given(SCHEMES, HOSTS, ENDS, st.booleans())
def test_the_answer_of_the_origin_is_that_of_the_whole_address(
    scheme: str, host: str, end: str, loopback: bool
) -> None:
    url = scheme + host + end
    assert why_never_fetched(url, SETTINGS[loopback]) == whole(url, insecure_loopback=loopback)
