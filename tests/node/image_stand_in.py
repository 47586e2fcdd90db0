"""A small IIIF Image API over the files of a test world, for tests of what stands on it. Nothing of it is production."""

import io

from aiohttp import web
from PIL import Image, ImageOps

from cas.errors import CasError
from cas.ids import ContentId
from node.web.keys import BLOBS, SETTINGS


def routes() -> list[web.RouteDef]:
    return [
        web.get("/iiif/3/{hex:[0-9a-f]{64}}", base),
        web.get("/iiif/3/{hex:[0-9a-f]{64}}/info.json", info),
        web.get("/iiif/3/{hex:[0-9a-f]{64}}/{region}/{size}/{rotation}/default.jpg", picture),
    ]


def read(request: web.Request) -> Image.Image:
    try:
        with request.app[BLOBS].open_blob(ContentId.from_hex(request.match_info["hex"])) as blob:
            data = blob.pread(0, blob.size)
    except CasError as error:
        raise web.HTTPNotFound from error
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")


async def base(request: web.Request) -> web.StreamResponse:
    raise web.HTTPSeeOther(request.path + "/info.json")


async def info(request: web.Request) -> web.StreamResponse:
    image, address = read(request), f"{request.app[SETTINGS].origin}/iiif/3/{request.match_info['hex']}"
    factors = [factor for factor in (1, 2, 4, 8, 16, 32) if factor == 1 or max(image.size) / factor >= 200]
    return web.json_response(
        {
            "@context": "http://iiif.io/api/image/3/context.json", "id": address, "type": "ImageService3",
            "protocol": "http://iiif.io/api/image", "profile": "level2", "width": image.width, "height": image.height,
            "tiles": [{"width": 512, "height": 512, "scaleFactors": factors}],
        },
        headers={"Access-Control-Allow-Origin": "*"},
    )  # fmt: skip


async def picture(request: web.Request) -> web.StreamResponse:
    image = read(request)
    region, size = request.match_info["region"], request.match_info["size"]
    if region != "full":
        x, y, w, h = (int(part) for part in region.split(","))
        image = image.crop((x, y, min(x + w, image.width), min(y + h, image.height)))
    if size != "max":
        width, height = (int(part) if part else 0 for part in size.split(","))
        image = image.resize(
            (width or round(image.width * height / image.height), height or round(image.height * width / image.width))
        )
    out = io.BytesIO()
    image.rotate(-int(request.match_info["rotation"]), expand=True).save(out, "JPEG", quality=90)
    return web.Response(body=out.getvalue(), content_type="image/jpeg", headers={"Access-Control-Allow-Origin": "*"})
