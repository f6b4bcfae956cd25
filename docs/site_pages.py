"""Which files the site is made of, for MkDocs: pages lie where they lie in the repository.

So all their links hold: those to other pages, to code and cards, which the site shows as they are,
and to boards and their records. Boards are pages of their own already, as HTML; where a text links
to one in Markdown, the site leads there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent

PAGES = ("*.md", "docs/*.md", "*/README.md")
AS_THEY_ARE = (
    "CITATION.cff",
    "LICENSE",
    "algorithms/*.py",
    "benchmarks/*.py",
    "datasets/*.yaml",
    "presets/*.yaml",
    "docs/*.ipynb",
    "docs/*.svg",
    "genrec_bench/**/*.py",
    "genrec_bench/**/*.yaml",
    "leaderboards/*.csv",
    "leaderboards/*.html",
    "leaderboards/v*/**/record.json",
)


def on_config(config: Any) -> Any:
    """Lead to pages that `mkdocs.yml` does not name yet, after the others."""
    named = str(config.nav)
    rest = [
        path for path in sorted((ROOT / "docs").glob("*.md")) if f"'docs/{path.name}'" not in named
    ]
    if rest:
        config.nav.append({"More": [path.relative_to(ROOT).as_posix() for path in rest]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Take the repository's files in place of those of one folder; the theme's own stay."""
    found = Files([file for file in files if file.src_dir != config.docs_dir])
    for pattern in (*PAGES, *AS_THEY_ARE):
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            found.append(File.generated(config, name, abs_src_path=str(path)))
    return found


def on_page_markdown(markdown: str, page: Page, **kwargs: Any) -> str:
    """Lead links to boards in Markdown to their pages of HTML."""
    here = (ROOT / page.file.src_uri).parent

    def lead(found: re.Match[str]) -> str:
        return f"]({found[1]}.html)" if (here / f"{found[1]}.html").is_file() else found[0]

    return re.sub(r"\]\(([^)#:]+)\.md\)", lead, markdown)
