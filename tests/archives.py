"""Small made archives: a core, extensions, and how they are written, in a few lines."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

DWC = "http://rs.tdwg.org/dwc/terms/"
DCTERMS = "http://purl.org/dc/terms/"
AC = "http://rs.tdwg.org/ac/terms/"
TABS = 'fieldsTerminatedBy="\\t" linesTerminatedBy="\\n" fieldsEnclosedBy=""'
CSV = 'fieldsTerminatedBy="," linesTerminatedBy="\\n" fieldsEnclosedBy=\'"\''


def table(kind: str, row_type: str, file: str, terms: list[str], *, form: str = TABS, id_index: int = 0) -> str:
    """One table of a meta.xml; ``kind`` is core or extension, terms are whole addresses (empty: no field)."""
    name = "id" if kind == "core" else "coreid"
    fields = "".join(f'<field index="{number}" term="{term}"/>' for number, term in enumerate(terms) if term)
    return (
        f'<{kind} rowType="{row_type}" {form}><files><location>{file}</location></files>'
        f'<{name} index="{id_index}"/>{fields}</{kind}>'
    )


def folder(path: Path, tables: str, files: Mapping[str, bytes], *, attributes: str = "") -> Path:
    """An unpacked archive."""
    path.mkdir(parents=True, exist_ok=True)
    meta = f'<archive xmlns="http://rs.tdwg.org/dwc/text/"{attributes}>{tables}</archive>'
    (path / "meta.xml").write_text(meta, "utf-8")
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def packed(source: Path, target: Path) -> Path:
    """The same as a zip."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for item in sorted(source.rglob("*")):
            archive.write(item, item.relative_to(source))
    return target
