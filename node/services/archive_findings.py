"""Codes of findings about archives and files, with what was seen and what to do: the second half of the reference.

Issues of records have codes in capitals and stand in ``linkeddata.issues``.
"""
# ruff: noqa: E501 - a table whose cells are sentences

from collections.abc import Mapping
from typing import Final

ABOUT_ARCHIVES: Final[Mapping[str, tuple[str, str]]] = {
    "empty-id": ("A row has no id; it is known by its content, so any change makes it another record.", "Give every specimen an occurrenceID or a catalogue number."),
    "duplicate-id": ("An id stands more than once; the first row counts.", "Correct the export."),
    "changed-id": ("A known record came under another id; it keeps its address.", "Nothing, if that is right."),
    "vanished": ("A known record is no longer in the archive; it was kept, or withdrawn with `--prune`.", "Look whether the export is whole."),
    "vanished-image": ("No row names a known image any more.", "The same."),
    "ends-early": ("A table is cut off.", "Export again."),
    "short-rows": ("Rows have fewer cells than meta.xml says; they are filled up with empty ones.", "Look for line breaks inside values."),
    "blank-rows": ("Blank rows were left out.", "Nothing."),
    "encoding-repaired": ("Cells are not in the stated encoding and were read as windows-1252.", "State the encoding that the export has."),
    "media-not-image": ("Media rows are no images or have no address; they were left out.", "Nothing, if they are sounds or pages."),
    "xml-not-abcd": ("A file among ABCD documents is XML of another kind; it was left out.", "Take it away, if it does not belong there."),
    "identification-not-preferred": ("Units have several identifications and none is flagged as preferred; the first was taken.", "Set PreferredFlag in the export."),
    "orphan-media-rows": ("Media rows belong to no specimen.", "Look at their coreid."),
    "eml-missing": ("meta.xml names a description of the dataset that is not there.", "Add it, or take its name out."),
    "eml-odd": ("The description of the dataset could not be read whole.", "Look at the file."),
    "unnamable-files": ("Names of files are not UTF-8, so no record can name them.", "Rename them."),
    "orphan-file": ("An image file that no row names.", "Add a media row, or take the file away."),
    "file-not-found": ("A media row names a file that is not there.", "Add the file, or a rule under `[[sources.NAME.files]]`."),
    "file-unreadable": ("A file cannot be read.", "Look at its rights and at the drive."),
    "image-unreadable": ("A file is no image that can be read, or is larger than the limits of `[images]`.", "Scan or export it again."),
    "variant-differs": ("A row states that a file is of the same exposure as another, and its proportions are not the same; it stays an image of its own.", "Look at both files: one is cropped or turned, or the row is wrong."),
    "variant-not-replaced": ("An image was replaced by another picture, and its other files were not.", "Make the copies anew, or look whether they are of another scan."),
    "not-fetched": ("An image lies at an address and was not fetched.", "Use `--fetch`, or `fetch` of the source in node.toml."),
    "withdrawn": ("Bytes that the institution withdrew came again; they were not taken in.", "Take them out of the export."),
    "column-left-out": ("A column of a plain table has no term in its mapping; its values were left out.", "Give it a term in the mapping file."),
}  # fmt: skip
"""Code of a finding about an archive or a file -> what was seen, what to do."""
