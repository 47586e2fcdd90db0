-- Schema 13. Which images have vectors of their objects: asked whenever something was written, and counted.
CREATE INDEX unit_embedded_objects ON unit (pipeline, image) WHERE output = 'embed-objects/1' AND state = 'done';
