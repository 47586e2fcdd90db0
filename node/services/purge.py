"""What was public and must not be any more: the remains of earlier versions of records that became sensitive.

The transaction that publishes the generalised version has already removed the older ones, withdrawn what was read from
the image, and made the search rows again (``node.storage.records``, ``node.services.publish_row``). It left a mark.
What follows here, and what a kill leaves at each point:

1. Files drawn from the images: previews, pyramids. Without them nothing is lost; a kill leaves the rest of them.
2. Both databases are rewritten, as for a withdrawal (``node.services.withdraw.clean``), because deleted rows live on in
   free pages, in the write-ahead log and in the full-text index.
3. The mark goes. Until then ``purge_waits`` says so: the next ingest, or ``vasculum withdraw --finish``, goes on.

It leaves out: the rows as received, which are the institution's own and stay precise; backups; what others copied.
"""

import shutil
from collections.abc import Callable
from typing import Final

from cas.ids import ContentId
from node.folder import NodeFolder
from node.services.withdraw import clean, derived_files
from node.storage.db import Database
from node.storage.records import TO_PURGE

_IMAGES: Final = """
  SELECT DISTINCT i.image FROM
    (SELECT iri, image FROM medium UNION SELECT iri, image FROM medium_version) i JOIN medium m ON m.iri = i.iri
  WHERE i.image IS NOT NULL AND (m.sensitive = 1 OR EXISTS (
    SELECT 1 FROM medium_specimen s JOIN record r ON r.iri = s.specimen WHERE s.medium = m.iri AND r.sensitive = 1))"""


def purge_waits(database: Database) -> bool:
    """Whether remains of something that became sensitive may still be in the node's files."""
    with database.reader() as conn:
        return conn.execute("SELECT 1 FROM meta WHERE key = ?", (TO_PURGE,)).fetchone() is not None


def purge(folder: NodeFolder, *, say: Callable[[str], None] = lambda _: None) -> bool:
    """Does it, when it is due; returns whether it was.

    Raises:
        CleaningHeld: the databases were not rewritten; the message says what to do. The files of step 1 are gone.
    """
    if not purge_waits(folder.database):
        return False
    drop_derived(folder)
    clean(folder, say=say)
    return True


def drop_derived(folder: NodeFolder) -> int:
    """Removes what was drawn from images of sensitive specimens; returns how many files or folders."""
    with folder.database.reader(limit_s=None) as conn:
        images = [row["image"] for row in conn.execute(_IMAGES)]
    count = 0
    for image in images:
        for path in derived_files(folder.settings, ContentId.from_hex(image)):
            count += 1
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    return count
