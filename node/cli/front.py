"""``vasculum front``: the configuration of nginx or caddy for this node."""

from pathlib import Path
from typing import Literal

import click

from node.cli.errors import UserError
from node.cli.store_work import opened
from node.front import NoFront, caddy_configuration, nginx_configuration


@click.command(epilog="Example: vasculum front hortus/ nginx > /etc/nginx/conf.d/vasculum.conf")
@click.argument("node_dir", type=click.Path(path_type=Path, file_okay=False))
@click.argument("server", type=click.Choice(["nginx", "caddy"]))
def front(node_dir: Path, server: Literal["nginx", "caddy"]) -> None:
    """Print the configuration of a front server for NODE_DIR: TLS, HTTP/2, the visitor's address.

    Changes nothing. For nginx, if [server] accel says so, with every volume of the node: nginx then sends the files.
    """
    with opened(node_dir) as node:
        try:
            if server == "caddy":
                text = caddy_configuration(node.settings)
            else:
                volumes = {name: row.root for name, row in node.blobs.index.volumes().items()}
                text = nginx_configuration(node.settings, volumes)
        except NoFront as error:
            raise UserError(str(error)) from error
    click.echo(text, nl=False)
    if not node.settings.server.trusted_proxies:
        click.echo(
            'note: name the front in node.toml, [server] trusted_proxies = ["127.0.0.1"]: '
            "without it all visitors are counted as one",
            err=True,
        )
