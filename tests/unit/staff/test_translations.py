"""The catalog of Simplified Chinese: whole, and compiled from what it says."""

import gettext
import re
import subprocess
from pathlib import Path

import pytest

from config.settings import LOCALE_PATHS

FOLDER = Path(LOCALE_PATHS[0]) / "zh_Hans" / "LC_MESSAGES"
ROOT = FOLDER.parents[3]
TRANSLATED = re.compile(r"""\{%\s*translate\s+(?:"([^"]+)"|'([^']+)')""")


def entries() -> dict[str, str]:
    with (FOLDER / "django.mo").open("rb") as file:
        return gettext.GNUTranslations(file)._catalog


def test_every_phrase_of_the_templates_is_in_it():
    known = entries()
    templates = [*ROOT.glob("apps/*/templates/**/*.html"), *ROOT.glob("infra/*/templates/**/*.html")]
    phrases = {a or b for path in templates for a, b in TRANSLATED.findall(path.read_text())}
    assert len(phrases) > 100
    assert sorted(phrases - known.keys()) == []


def test_nothing_is_left_untranslated_or_uncertain():
    source = (FOLDER / "django.po").read_text()
    assert "fuzzy" not in source
    assert [text for key, text in entries().items() if key and not text] == []


@pytest.mark.needs("msgfmt")
def test_it_is_compiled_from_its_source(tmp_path):
    compiled = tmp_path / "django.mo"
    subprocess.run(["msgfmt", "--check-format", "-o", str(compiled), str(FOLDER / "django.po")], check=True)
    with compiled.open("rb") as file:
        assert gettext.GNUTranslations(file)._catalog == entries()
