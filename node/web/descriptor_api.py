"""``GET /.well-known/vasculum/node.json``: who this node is, signed by itself. It may be copied anywhere."""

from typing import Final

from aiohttp import web

from node.services.descriptor import DescriptorService

DESCRIPTOR = web.AppKey("descriptor", DescriptorService)
PATH: Final = "/.well-known/vasculum/node.json"


def routes() -> list[web.RouteDef]:
    """The routes of this module."""
    return [web.get(PATH, node_descriptor)]


async def node_descriptor(request: web.Request) -> web.Response:
    """The current descriptor."""
    envelope = await request.app[DESCRIPTOR].current()
    headers = {"Cache-Control": "public, max-age=300", "Access-Control-Allow-Origin": "*"}
    return web.json_response(envelope.to_json(), headers=headers)
