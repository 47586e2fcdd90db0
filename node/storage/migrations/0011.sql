-- Schema 11. Which images have a vector: asked whenever something was written, and counted.
CREATE INDEX unit_embedded ON unit (pipeline, image) WHERE output = 'embed/1' AND state = 'done';
