"""One work result as a public document: one annotation, its regions inside.

The shape follows openDS annotation 0.4.0 and the W3C Web Annotation model.

Invariants:
- Pure: version and times are added by the store that publishes.
- It cites what it was made from and with: content id of the image, pipeline, environment, conformance, job.
- Regions are whole pixels on the upright image; fractions and W3C selectors are derived from them.

It leaves out: whether it may be published (``node.services.annotate``).
"""

from cas.ids import ContentId
from linkeddata.context import with_context
from linkeddata.json_strict import Json
from linkeddata.outputs import ImageSize, Output, Region, UnitAnswer
from linkeddata.records import MEDIUM_FDO_TYPE


def build_annotation(
    *,
    iri: str,
    medium: str,
    image: ContentId,
    output: Output,
    contract: str,
    pipeline: str,
    pipeline_name: str,
    environment: str,
    conformance: str,
    job: str,
    answer: UnitAnswer,
) -> dict[str, Json]:
    """The public document of one work result: one annotation, its regions inside.

    Cites the bytes it was made from, the pipeline and the environment, so that it can be checked and repeated.
    """
    document: dict[str, Json] = {
        "@id": iri,
        "@type": "oa:Annotation",
        "dcterms:identifier": iri,
        "ods:status": "Active",
        "oa:motivation": "ods:adding",
        "oa:hasTarget": {
            "@id": medium,
            "@type": "ods:DigitalMedia",
            "dcterms:identifier": medium,
            "ods:fdoType": MEDIUM_FDO_TYPE,
            "vasculum:contentId": str(image),
            "exif:PixelXDimension": output.image.width,
            "exif:PixelYDimension": output.image.height,
        },
        "vasculum:outputContract": contract,
        "vasculum:pipeline": pipeline,
        "vasculum:environment": environment,
        "vasculum:conformance": conformance,
        "ods:jobID": job,
        "dcterms:creator": {"@type": "schema:SoftwareApplication", "schema:name": pipeline_name},
        "vasculum:answer": answer.answer,
    }
    regions: list[Json] = [_region(region, output.image) for region in output.regions()]
    if regions:
        document["vasculum:hasRegion"] = regions
    measures = output.measured()
    if measures:
        document["vasculum:measure"] = [
            {"@type": "vasculum:Measure", "schema:name": name, "schema:value": value}
            for name, value in sorted(measures.items())
        ]
    doubts = list(output.doubts)
    if doubts:
        document["vasculum:doubt"] = doubts
    return with_context(document)


def _region(region: Region, image: ImageSize) -> dict[str, Json]:
    x, y, w, h = region.box
    said: dict[str, Json] = {
        "@type": "ac:RegionOfInterest",
        "vasculum:x": x,
        "vasculum:y": y,
        "vasculum:width": w,
        "vasculum:height": h,
        "ac:xFrac": f"{x / image.width:.6f}",
        "ac:yFrac": f"{y / image.height:.6f}",
        "ac:widthFrac": f"{w / image.width:.6f}",
        "ac:heightFrac": f"{h / image.height:.6f}",
        "oa:hasSelector": {
            "@type": "oa:FragmentSelector",
            "dcterms:conformsTo": "http://www.w3.org/TR/media-frags/",
            "rdf:value": f"xywh=pixel:{x},{y},{w},{h}",
        },
    }
    if region.text:
        said["vasculum:text"] = region.text
    if region.score:
        said["vasculum:score"] = region.score
    if region.polygon:
        said["vasculum:polygon"] = region.polygon
    return {**said, **region.terms}
