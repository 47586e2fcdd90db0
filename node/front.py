"""Configurations for the server in front of a node (TLS, HTTP/2): nginx and caddy, filled in for one node.

Invariants:
- The front sets the visitor's address and announces itself; what a visitor writes into those headers never arrives.
- nginx: ``tcp_nopush off``. With ``on``, which Debian's own configuration sets, a 64 KiB range of a large file waits
  for 40 ms: 400 instead of 16,000 in a second (measured). Image viewers and IPFS ask for such ranges.
- nginx keeps no file open between requests (no ``open_file_cache``): a file that was replaced would be sent under the
  id of its successor for a minute.
- What nginx cannot read it asks the node for, which reads files with its own rights.

It leaves out: certificates, which caddy gets itself and nginx gets from certbot; starting and reloading them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from node.config import Settings
from node.web.accel import ANNOUNCES, OWNED_PREFIX, RENAMED, RENAMED_PREFIX, VOLUME_PREFIX

_READDED: Final = (
    "ETag", "Repr-Digest", "Link", "Vary", "X-Content-Type-Options", "Content-Security-Policy",
    "Access-Control-Allow-Origin", "Referrer-Policy", "Cross-Origin-Opener-Policy",
)  # fmt: skip
"""nginx drops these of an answer with X-Accel-Redirect; it keeps Content-Type."""

NGINX: Final = """\
# nginx in front of the node "{name}". Belongs into the http block: /etc/nginx/conf.d/vasculum.conf
# Made by `vasculum front {folder} nginx`; make it again when volumes come or go.
upstream vasculum_node {{
  server {node};
  keepalive 64;
}}
{plain_http}server {{
{listen}
  client_max_body_size {max_body};
  sendfile on;
  # Off, whatever nginx.conf says: with it a 64 KiB range of a large image waits 40 ms.
  tcp_nopush off;
  # The node has its own limits; a preview of a very large image may take a minute.
  proxy_connect_timeout 5s;
  proxy_read_timeout 150s;
  proxy_send_timeout 60s;
  proxy_http_version 1.1;
  proxy_redirect off;
  # Large images are passed on as they come, not through a temporary file.
  proxy_max_temp_file_size 0;

  location / {{
    proxy_pass http://vasculum_node;
{headers}
    proxy_set_header {announces} "{accel}";
  }}

  # Progress of jobs is seen when it happens.
  location ~ ^/(jobs|staff)(/|$) {{
    proxy_pass http://vasculum_node;
    proxy_buffering off;
{headers}
    proxy_set_header {announces} "";
  }}
{bytes}}}
"""
_PLAIN_HTTP: Final = """\
server {{
  listen 80;
  listen [::]:80;
  server_name {host};
  return 301 https://$host$request_uri;
}}
"""
_TLS: Final = """\
  listen 443 ssl http2;
  listen [::]:443 ssl http2;
  server_name {host};
  ssl_certificate /etc/letsencrypt/live/{host}/fullchain.pem;
  ssl_certificate_key /etc/letsencrypt/live/{host}/privkey.pem;"""
_HEADERS: Final = """\
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr;"""
_BYTES: Final = """\

  # Bytes that the node has named (X-Accel-Redirect); nobody can ask for these addresses.
  location ^~ /_o/ {{
    internal;
    alias "{owned}/";
    error_page 403 404 500 = @node_itself;
{readded}
  }}
  location ^~ /_v/ {{
    internal;
    error_page 404 = @node_itself;
    return 404;
  }}
{volumes}
  # What nginx cannot read, the node reads.
  location @node_itself {{
    proxy_pass http://vasculum_node$request_uri;
{headers}
    proxy_set_header {announces} "";
  }}
"""
_VOLUME: Final = """\
  location ^~ {prefix}{volume}/ {{
    internal;
    alias "{root}/";
    disable_symlinks on "from={root}/";
    error_page 403 404 500 = @node_itself;
{readded}
  }}
"""
_SKIPPED: Final = "  # Volume {volume}: its path has characters that nginx cannot name; the node sends its files.\n"
_FILE: Final = """\
    etag off;
    if_modified_since off;
    max_ranges 1;
    add_header Last-Modified "";"""

CADDY: Final = """\
# caddy in front of the node "{name}". /etc/caddy/Caddyfile, or imported there; caddy gets the certificate itself.
# Made by `vasculum front {folder} caddy`.
{address} {{
{bind}	request_body {{
		max_size {max_body}
	}}
	reverse_proxy {node} {{
		# Caddy sets X-Forwarded-For itself and believes no visitor.
		header_up -{announces}
		# Progress of jobs and large images are passed on as they come.
		flush_interval -1
		transport http {{
			dial_timeout 5s
			response_header_timeout 150s
		}}
	}}
}}
"""


class NoFront(Exception):
    """The node cannot stand behind a front as it is configured; the message says what to change."""


def nginx_configuration(settings: Settings, volumes: Mapping[str, Path]) -> str:
    """A file for nginx's http block. ``volumes``: names of the store's volumes and where they lie.

    Raises:
        NoFront: front and node would have the same address.
    """
    url = urlsplit(settings.origin)
    is_plain = url.scheme == "http"
    accel = settings.server.accel
    listen = f"  listen {_plain_address(settings)};" if is_plain else _TLS.format(host=url.hostname)
    return NGINX.format(
        name=_comment(settings.node.name), folder=settings.folder.name, node=_node_address(settings),
        plain_http="" if is_plain else _PLAIN_HTTP.format(host=url.hostname), listen=listen,
        max_body=settings.server.max_body_bytes, headers=_HEADERS, announces=ANNOUNCES, accel=accel,
        bytes=_nginx_bytes(settings, volumes) if accel == "nginx" else "",
    )  # fmt: skip


def _nginx_bytes(settings: Settings, volumes: Mapping[str, Path]) -> str:
    sent_as = {name: name for name in _READDED} | {name: RENAMED_PREFIX + name for name in RENAMED}
    names = "\n".join(
        f"    add_header {name} $upstream_http_{sent.lower().replace('-', '_')};" for name, sent in sent_as.items()
    )
    readded = f"{_FILE}\n{names}"
    owned = settings.blobs_path / "owned"
    if not _is_nameable(owned):
        raise NoFront(f"nginx cannot name {owned} (quotes, $, control characters): move the node's folder")
    places = [
        _VOLUME.format(prefix=VOLUME_PREFIX, volume=name, root=root, readded=readded)
        if _is_nameable(root)
        else _SKIPPED.format(volume=_comment(name))
        for name, root in sorted(volumes.items())
    ]
    assert OWNED_PREFIX == "/_o/"
    return _BYTES.format(
        owned=owned, readded=readded, volumes="\n".join(places), headers=_HEADERS, announces=ANNOUNCES
    )  # fmt: skip


def caddy_configuration(settings: Settings) -> str:
    """A site for a Caddyfile.

    Raises:
        NoFront: front and node would have the same address.
    """
    url = urlsplit(settings.origin)
    is_plain = url.scheme == "http"
    return CADDY.format(
        name=_comment(settings.node.name), folder=settings.folder.name,
        address=f"http://{_plain_address(settings)}" if is_plain else url.netloc,
        bind=f"\tbind {url.hostname}\n" if is_plain else "", max_body=settings.server.max_body_bytes,
        node=_node_address(settings), announces=ANNOUNCES,
    )  # fmt: skip


def _node_address(settings: Settings) -> str:
    host = settings.server.host
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where the front reaches it
    return f"[{host}]:{settings.server.port}" if ":" in host else f"{host}:{settings.server.port}"


def _plain_address(settings: Settings) -> str:
    url = urlsplit(settings.origin)
    if (url.port or 80) == settings.server.port:
        raise NoFront(
            f"the node listens on the port of its public address ({settings.server.port}): give it another one, "
            "[server] port, and the front has the public one"
        )
    return url.netloc if url.port else f"{url.netloc}:80"


def _is_nameable(path: Path) -> bool:
    text = str(path)
    return text.isprintable() and not any(sign in text for sign in '"\\$')


def _comment(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)
