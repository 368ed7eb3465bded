"""WhatsApp's text marks and links."""

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from desktop.timeline.marks import Span, Style, parse

B, I, S, C, K, L = Style.BOLD, Style.ITALIC, Style.STRIKE, Style.CODE, Style.BLOCK, Style.LINK  # noqa: E741 - as WhatsApp's menu


@pytest.mark.parametrize(
    ("body", "text", "styled"),
    [
        ("plain", "plain", []),
        ("*bold* x", "bold x", [("bold", B)]),
        ("_it_ ~no~ `c`", "it no c", [("it", I), ("no", S), ("c", C)]),
        ("*_both_*", "both", [("both", I), ("both", B)]),
        ("*a b*, c", "a b, c", [("a b", B)]),
        ("a*b*c and 2*3*4", "a*b*c and 2*3*4", []),
        ("* no * and ** and *", "* no * and ** and *", []),
        ("snake_case_name", "snake_case_name", []),
        ("*a\nb*", "*a\nb*", []),
        ("*a *b*", "*a b", [("b", B)]),
        ("*a _b* c_", "a _b c_", [("a _b", B)]),
        ("`*raw*` *b*", "*raw* b", [("*raw*", C), ("b", B)]),
        ("x\n```\na *b*\n```\ny", "x\na *b*\ny", [("a *b*", K)]),
        ("```one```", "one", [("one", K)]),
        ("``` ```", "``` ```", []),
        ("see https://a.b/c_d_e.", "see https://a.b/c_d_e.", [("https://a.b/c_d_e", L)]),
        ("(www.foo.de/a_(b))", "(www.foo.de/a_(b))", [("www.foo.de/a_(b)", L)]),
        ("*https://x.y/z*", "https://x.y/z", [("https://x.y/z", L), ("https://x.y/z", B)]),
        ("mail me@x.org!", "mail me@x.org!", [("me@x.org", L)]),
        ("*מודגש* x", "מודגש x", [("מודגש", B)]),
        ("*👍*", "👍", [("👍", B)]),
    ],
)
def test_marks(body: str, text: str, styled: list[tuple[str, Style]]) -> None:
    marked = parse(body)
    assert marked.text == text
    assert {(marked.text[span.start : span.end], span.style) for span in marked.spans} == set(styled)
    assert len(marked.spans) == len(styled)


def test_links_get_a_target() -> None:
    targets = [span.target for span in parse("www.a.de b@c.de http://d.e").spans]
    assert targets == ["https://www.a.de", "mailto:b@c.de", "http://d.e"]


PIECES = [*"*_~` \nab.(@:/1מא👍", "```", "https://a.b", "www.x.y"]
MESSY = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


@given(MESSY)
@example("*a* _b_ ~c~ `d` ```e```")
def test_only_marks_are_taken_away(body: str) -> None:
    """The text that is left is the body with some marks (and a block's line breaks) removed, in order."""
    left = iter(body)
    for char in parse(body).text:
        for skipped in left:
            if skipped == char:
                break
            assert skipped in "*_~`\n"
        else:
            pytest.fail("a character that was not in the body")
    assert all(char in "*_~`\n" for char in left)


@given(MESSY)
def test_spans_lie_in_the_text_and_nest(body: str) -> None:
    text, spans = parse(body)
    for span in spans:
        assert 0 <= span.start < span.end <= len(text)
    for one in spans:
        for other in spans:
            apart = one.end <= other.start or other.end <= one.start
            inside = (one.start <= other.start and other.end <= one.end) or (
                other.start <= one.start and one.end <= other.end
            )
            assert apart or inside or L in {one.style, other.style}


@given(st.text().filter(lambda text: not re.search(r"[*_~`@]|://|www\.", text)))
def test_text_without_marks_stays(body: str) -> None:
    assert parse(body) == (body, ())


@pytest.mark.parametrize(
    "body",
    [
        "```" + "a" * 60_000,
        "`" * 60_000,
        "*a " * 20_000,
        "_a* " * 15_000,
        "a@" * 30_000,
        "(" * 30_000 + ")" * 30_000,
    ],
)
def test_no_message_takes_long(body: str) -> None:
    start = time.process_time()
    parse(body)
    assert time.process_time() - start < 2


def test_styles_keep_their_place_after_emoji() -> None:
    assert parse("👍 *b*").spans == (Span(2, 3, Style.BOLD),)
