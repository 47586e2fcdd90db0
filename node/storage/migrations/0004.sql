-- Schema 4. What the metadata inside a file tells, and copies of the file without it (public originals).
CREATE TABLE luggage (
  image TEXT PRIMARY KEY,          -- sha256 hex of the file as the institution has it
  form INTEGER NOT NULL,           -- which way of looking found it
  tells TEXT NOT NULL,             -- JSON list of linkeddata.luggage.Luggage; empty: nothing
  public TEXT,                     -- sha256 hex of its newest public original
  public_bytes INTEGER, public_packet TEXT,     -- its size; digest of the rights that are written in it
  reason TEXT                      -- why there is none, when one was wanted
) STRICT, WITHOUT ROWID;

-- Every public original that was ever given out, so that their ids stay.
CREATE TABLE public_original (
  public TEXT PRIMARY KEY, image TEXT NOT NULL, created TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX public_original_image ON public_original (image);
