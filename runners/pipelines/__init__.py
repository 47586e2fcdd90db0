"""The adapters: one module per pipeline, and the only modules that import model and imaging libraries."""
