"""node.toml: defaults, limits, and errors that help."""

import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from node.config import ConfigError, Settings, load_settings, parse_settings

ROOT = Path(__file__).parents[2]
MINIMAL = '[node]\nname = "Hortus"\npublic_url = "https://hortus.example.org"\n'


def parse(text: str) -> Settings:
    return parse_settings(tomllib.loads(text), Path("/nowhere"))


def test_the_reference_file_shows_every_default() -> None:
    """node.toml at the top of the repository is the reference: parsing it gives exactly the defaults."""
    shown = load_settings(ROOT)
    bare = parse(MINIMAL)
    for section in ("server", "federation", "images", "jobs", "policy"):
        assert getattr(shown, section) == getattr(bare, section), section


def test_the_reference_file_names_every_key() -> None:
    text = (ROOT / "node.toml").read_text("utf-8")

    def names(kind: type) -> set[str]:
        found = set()
        for item in fields(kind):
            found.add(item.name)
            if is_dataclass(item.type):
                found |= names(item.type)
        return found

    from node import config

    keys: set[str] = set()
    for kind in (
        config.NodeSection, config.ServerSection, config.FederationSection, config.ImagesSection, config.JobsSection,
        config.PolicySection, config.PolicyRule, config.FileRule, config.AccessRule, config.SourceSettings,
        config.SensitiveTaxon,
    ):  # fmt: skip
        keys |= {item.name for item in fields(kind)}
    missing = {key for key in keys - {"rules", "files"} if f"{key} = " not in text}
    assert not missing


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MINIMAL + '[polcy]\npreset = "open"\n', "unknown key polcy (did you mean policy?)"),
        (MINIMAL + '[policy]\npresets = "open"\n', "unknown key policy.presets (did you mean preset?)"),
        (MINIMAL + '[policy]\npreset = "opn"\n', "policy.preset must be one of closed, reading, open"),
        (MINIMAL + '[server]\nport = "80"\n', "server.port must be a whole number"),
        (MINIMAL + "[server]\nport = true\n", "server.port must be a whole number"),
        (MINIMAL + "[server]\nport = 70000\n", "port must be 0 to 65535"),
        (MINIMAL + "[jobs]\nworkers = 0\n", "jobs.workers must be larger than 0"),
        (MINIMAL + '[jobs]\npipelines = ["label-txt"]\n', "did you mean label-text?"),
        (MINIMAL + '[sources.Herb]\npath = "x"\n', "lower-case"),
        (MINIMAL + '[sources.h]\n[[sources.h.files]]\nmatch = "("\npath = "x"\n', "not a regular expression"),
        (MINIMAL + '[[sensitive]]\nvalue = "x"\ncategory = 9\n', "category must be 1, 2, 3 or 4"),
        (MINIMAL + "folder = 3\n", "unknown key node.folder"),
        ('[node]\nname = "x"\n', "node lacks public_url"),
        ('[node]\nname = "x"\npublic_url = "http://a.example"\n', "must begin with https://"),
        ('[node]\nname = "x"\npublic_url = "https://a.example/path"\n', "without a path"),
        ("x = 1\n", "needs a table [node]"),
        (
            '[node]\nname = "x"\npublic_url = "http://127.0.0.1:1"\n[server]\nhost = "0.0.0.0"\n'
            "[federation]\ninsecure_loopback = true\n",
            "binds to this machine only",
        ),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_write(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_broken_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run `vasculum init"):
        load_settings(tmp_path)
    (tmp_path / "node.toml").write_bytes(b"[node\n")
    with pytest.raises(ConfigError, match=r"node\.toml"):
        load_settings(tmp_path)
    (tmp_path / "node.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError):
        load_settings(tmp_path)


def test_sources_and_rules_become_types() -> None:
    settings = parse(
        MINIMAL
        + '[[policy.rules]]\ndecide = "hold"\nmax_images = 10\n'
        + '[sources.herbarium]\nlicence = "CC0"\n[[sources.herbarium.files]]\nmatch = "(.+)"\npath = "scans/{1}"\n'
        + '[[sensitive]]\nvalue = "Cypripedium calceolus"\ncategory = 1\n'
    )
    assert settings.policy.rules[0].max_images == 10
    assert settings.sources["herbarium"].files[0].path == "scans/{1}"
    assert settings.sensitive[0].category == 1
