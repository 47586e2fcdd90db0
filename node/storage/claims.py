"""What a statement about an image claims, as text in SQL: of statements with one claim at most one is current.

The claim is the output contract. Several classifiers may say something about one image, so with ``classes/1`` it is the
contract and the name of the pipeline.
"""


def claim(alias: str) -> str:
    """The claim of a row that has ``output`` and ``pipeline``, under its name in a query."""
    return f"""({alias}.output || CASE {alias}.output WHEN 'classes/1' THEN
      coalesce((SELECT ' ' || p.name FROM pipeline p WHERE p.digest = {alias}.pipeline), '') ELSE '' END)"""  # noqa: S608
