"""How right the pipelines are on real specimen images: one section per pipeline, one table, one gallery of overlays."""
