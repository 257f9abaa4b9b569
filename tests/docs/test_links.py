# SPDX-License-Identifier: Apache-2.0
"""Every link of a page to a file or a heading of this tree leads somewhere."""

from __future__ import annotations

from functools import cache
from pathlib import Path
import re

from markdown_it import MarkdownIt
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/*.md'), *ROOT.glob('docker/*.md')])


@cache
def parsed(page: Path) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the anchors of a page's headings, made as GitHub makes them, and where its links and images lead."""
    tokens = MarkdownIt().enable('table').parse(page.read_text(encoding='utf-8'))
    anchors, links = set(), []
    for at, token in enumerate(tokens):
        if token.type == 'heading_open':
            said = ''.join(part.content for part in tokens[at + 1].children)
            anchors.add(re.sub(r'[^\w\- ]', '', said.lower()).replace(' ', '-'))
        for part in token.children or ():
            links += [str(part.attrs[name]) for name in ('href', 'src') if name in part.attrs]
    return frozenset(anchors), tuple(links)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    lost = []
    for link in parsed(page)[1]:
        if re.match(r'[a-z]+:', link):
            continue
        name, _, anchor = link.partition('#')
        target = (page.parent / name) if name else page
        if not target.exists() or (anchor and anchor not in parsed(target)[0]):
            lost.append(link)
    assert not lost


def test_a_lost_heading_is_seen():
    anchors, links = parsed(ROOT / 'docs' / 'results.md')
    assert 'methods-and-tasks' in anchors and 'nowhere' not in anchors
    assert 'what-was-tried.md#kitting' in links
