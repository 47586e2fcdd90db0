"""The optional adapter to an institution's own IPFS daemon (Kubo), through the library ``ipfshttpclient``.

Loaded only when a person asks for it. The library is from 2021: its version 0.8.0a2 speaks to daemons of today with a
warning, older ones refuse them; that is said plainly in docs/dependencies.md. Only open bytes are ever handed over.
"""

import warnings
from typing import Any

from cas.ids import ContentId


class KuboFailed(Exception):
    """The daemon could not be used; the message says why."""


def add_raw(api: str, cid: ContentId, data: bytes) -> str:
    """Stores bytes as one raw block in the daemon at ``api`` (a multiaddr) and pins it; returns its CID.

    Raises:
        KuboFailed: the library is missing, nobody answers, or the daemon computed another CID.
    """
    if len(data) > 2 * 1024 * 1024:
        raise KuboFailed("blocks above 2 MiB do not travel over IPFS: larger files need their UnixFS form")
    try:
        import ipfshttpclient
    except ImportError as error:
        raise KuboFailed('ipfshttpclient is missing: install "vasculum[ipfs]"') from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library warns that the daemon is newer than itself
            with ipfshttpclient.connect(api) as client:
                return _put(client, cid, data)
    except ipfshttpclient.exceptions.Error as error:
        raise KuboFailed(f"the daemon at {api} cannot be used: {type(error).__name__}: {error}") from error
    except ValueError as error:
        raise KuboFailed(f"{api} is no address of a daemon (like /ip4/127.0.0.1/tcp/5001): {error}") from error


def _put(client: Any, cid: ContentId, data: bytes) -> str:
    import io

    answer = client.block.put(io.BytesIO(data), opts={"cid-codec": "raw", "mhtype": "sha2-256", "pin": "true"})
    made = str(answer["Key"])
    if made != cid.to_cid():
        raise KuboFailed(f"the daemon says {made} where {cid.to_cid()} was expected: nothing was announced")
    return made
