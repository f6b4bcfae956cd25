"""The documentation is a site in which every link leads somewhere, without a network."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = ["-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run([sys.executable, *words], cwd=root, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


def pages(site: Path) -> list[Path]:
    found = [*site.glob("*.html"), *site.glob("docs/*.html"), *site.glob("*/index.html")]
    return [page for page in found if page.name != "404.html"]


def test_every_document_is_a_page_that_is_led_to(root: Path, site: Path) -> None:
    start = (site / "index.html").read_text()
    for document in [*root.glob("docs/*.md"), root / "CONTRIBUTING.md", root / "CHANGELOG.md"]:
        name = document.relative_to(root).with_suffix(".html").as_posix()
        assert (site / name).is_file() and f'href="{name}"' in start, name


def test_every_link_leads_to_a_file_and_boards_to_their_pages(site: Path) -> None:
    followed = 0
    for page in pages(site):
        for target in re.findall(r'(?:href|src)="([^"#]+)(?:#[^"]*)?"', page.read_text()):
            if not target.startswith(("http://", "https://", "data:", "mailto:")):
                assert (page.parent / target).is_file(), f"{page.name}: {target}"
                followed += 1
    assert followed > 100
    assert 'href="leaderboards/industrial.html"' in (site / "index.html").read_text()
    assert "<svg" in (site / "leaderboards" / "industrial.html").read_text()


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in pages(site):
        for tag in re.findall(r"<(?:script|link|img|iframe)[^>]*>", page.read_text()):
            assert not re.search(r'(?:src|href)="(?:https?:)?//', tag), f"{page.name}: {tag}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//", style.read_text()), style.name
