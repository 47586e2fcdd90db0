"""Output contracts: what a pipeline may say about an image, typed, bounded and quantised.

Results are the one thing that leaves a node, and they come from a worker that has seen the pixels. So everything is
checked here, in the parent process: shape, range, size; scores are cut to three digits, coordinates to whole pixels
inside the image, text to characters and lengths that labels have. What does not fit is refused, never repaired.

One module per contract. Each has a class of output (``linkeddata.outputs.shape.Output`` says what every one can do)
and a function ``parse`` that makes it from a worker's body; ``linkeddata.outputs.contracts`` lists them.
"""

from linkeddata.outputs.barcode import MAX_CODES, MAX_PAYLOAD_CHARS, Barcodes, Code
from linkeddata.outputs.chart import Chart
from linkeddata.outputs.contracts import CONTRACTS, STEPS, parse_output
from linkeddata.outputs.label_text import MAX_LINE_CHARS, MAX_LINES, MAX_TEXT_CHARS, LabelText, ReadLine
from linkeddata.outputs.network_probe import NetworkProbe
from linkeddata.outputs.quality import Quality
from linkeddata.outputs.scale import Scale
from linkeddata.outputs.shape import MAX_BODY_BYTES, Answer, Box, ImageSize, Output, Region, UnitAnswer

__all__ = [
    "CONTRACTS",
    "MAX_BODY_BYTES",
    "MAX_CODES",
    "MAX_LINES",
    "MAX_LINE_CHARS",
    "MAX_PAYLOAD_CHARS",
    "MAX_TEXT_CHARS",
    "STEPS",
    "Answer",
    "Barcodes",
    "Box",
    "Chart",
    "Code",
    "ImageSize",
    "LabelText",
    "NetworkProbe",
    "Output",
    "Quality",
    "ReadLine",
    "Region",
    "Scale",
    "UnitAnswer",
    "parse_output",
]
