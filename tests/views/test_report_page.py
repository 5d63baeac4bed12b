"""The report as a page: one file, whose numbers are the books', and that nobody can inject into."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import story
from hypothesis import given
from hypothesis import strategies as st

from spending import ask, open_call, spend
from steptrack_callbacks import (
    Budget,
    BudgetExhausted,
    CompletedStep,
    Grant,
    Step,
    Usage,
    peek_completed_steps,
    report,
    step,
    testing,
)
from steptrack_callbacks.reports import Report, page
from steptrack_callbacks.values import markup

EVIL = "</style><script>alert('x')</script><img src=x onerror=\"alert(1)\">&amp;"


class Elements(HTMLParser):
    """What a browser would find in a page: elements with attributes, and text."""

    def __init__(self, html):
        super().__init__()
        self.found, self.text, self.open = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "elements must nest"

    def handle_data(self, data):
        self.text.append(data)

    def attributes(self, name):
        return [attrs for _, attrs in self.found if name in attrs]


def told():
    with story.stopped() as clock:
        return story.tell(clock)


def test_the_numbers_of_the_page_are_those_of_the_books():
    told()
    whole = report()
    elements = Elements(whole.to_html())
    [(_, main)] = [each for each in elements.found if each[0] == "main"]
    assert main["data-cost-usd"] == str(whole.total.cost_usd)
    assert int(main["data-calls"]) == whole.total.calls
    rows = {row["data-step-id"]: row for row in elements.attributes("data-step-id")}
    assert set(rows) == {record.id for record in peek_completed_steps()}
    for record in peek_completed_steps():
        row = rows[record.id]
        assert row["data-cost-usd"] == str(record.usage.cost_usd)
        assert int(row["data-calls"]) == record.llm_calls
        assert int(row["data-input-tokens"]) == record.usage.input_tokens
        assert int(row["data-output-tokens"]) == record.usage.output_tokens
        assert row["data-status"] == record.status
    by_model = elements.attributes("data-model")
    assert sum(int(row["data-calls"]) for row in by_model) == whole.total.calls
    by_call = elements.attributes("data-call")
    assert sum(int(row["data-output-tokens"]) for row in by_call) == whole.total.output_tokens


def test_what_is_uncertain_is_shown_as_such():
    told()
    text = " ".join(" ".join(Elements(report().to_html()).text).split())
    for words in (
        "≥ ≈ $",
        "Estimated 1 call",
        "Unknown price 1 call",
        "Failed 1 call",
        "Refused 1 call",
        "Late 1 call",
        "writer/research: 1 call estimated, 1 failed, 1 refused",
        "writer/research/figures: 1 call settled late",
        "9 calls spent of 9",
        "of $0.2500 (budget team-a, 1d)",
        "summary: 1 call of unknown price",
        "1 step: ran out of budget, and the program went on without it",
        "writer/draft +$0.0200 the editor",
    ):
        assert words in text, words


def test_a_clean_total_has_no_marks():
    with step("plan"):
        spend()
    text = " ".join(Elements(report().to_html()).text)
    body = text.rpartition("≈ contains")[0]
    assert "≈" not in body
    assert "≥" not in body


def test_the_page_is_one_file_without_script_and_asks_nobody_for_anything():
    told()
    html = report().to_html()
    elements = Elements(html)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in elements.found}
    assert not re.search(r"https?:|url\(|@import", html)
    assert not [name for _, attrs in elements.found for name in attrs if name.startswith("on")]
    assert {"src", "href"} & {name for _, attrs in elements.found for name in attrs} == set()


def evil_run():
    name = EVIL.replace("/", "|")
    with pytest.raises(ValueError, match="alert"):
        with step(
            name, max_calls=1, error_boundary="escalate", escalation=lambda _: Grant(max_calls=1, by=EVIL)
        ):
            spend(model=EVIL)
            ask()
            raise ValueError(EVIL)


def test_nothing_that_somebody_chose_becomes_markup():
    told()
    clean = {tag for tag, _ in Elements(report().to_html()).found}
    testing.reset()
    evil_run()
    elements = Elements(report().to_html(title=EVIL))
    assert {tag for tag, _ in elements.found} <= clean
    assert not elements.attributes("onerror")
    text = "".join(elements.text)
    for times, what in ((2, EVIL), (1, f"ValueError: {EVIL}"), (2, EVIL.replace("/", "|"))):
        assert text.count(what) >= times


@pytest.mark.parametrize(
    "show",
    [
        lambda step: step._repr_html_(),
        lambda step: step.record()._repr_html_(),
        lambda step: report()._repr_html_(),
    ],
)
def test_nothing_that_somebody_chose_becomes_markup_in_a_notebook(show):
    with pytest.raises(BudgetExhausted) as caught:
        with step(EVIL.replace("/", "|"), max_calls=0) as evil:
            ask(model=EVIL)
    for html in (show(evil), caught.value._repr_html_()):
        elements = Elements(html)
        assert not {"script", "img"} & {tag for tag, _ in elements.found}
        assert "onerror=" in "".join(elements.text)


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=40), st.text(max_size=20))
def test_any_text_comes_out_as_text_and_can_be_written_to_a_file(text, attribute):
    html = markup.tag("b", text, title=attribute)
    html.encode("utf-8")
    elements = Elements(html)
    assert [tag for tag, _ in elements.found] == ["b"]
    if text.isprintable():
        assert "".join(elements.text) == text


def test_a_long_report_is_cut_and_says_so():
    [record] = [record_of_one()]
    many = [replace(record, id=str(number), name=f"step {number}") for number in range(page.PAGE_STEPS + 7)]
    elements = Elements(Report(records=tuple(many)).to_html())
    assert len(elements.attributes("data-step-id")) == page.PAGE_STEPS
    assert any("7 more steps are in the totals" in text for text in elements.text)
    [(_, main)] = [each for each in elements.found if each[0] == "main"]
    assert int(main["data-calls"]) == len(many)


def record_of_one():
    with step("plan"):
        spend()
    return peek_completed_steps()[-1]


def test_an_empty_report_is_a_page_that_says_so():
    assert "No steps to show." in report().to_html()
    assert "No steps to show." in report()._repr_html_()


def test_steps_without_calls_have_no_timeline():
    with step("plan"):
        pass
    assert "Timeline" not in report().to_html()


def test_where_nobody_knows_when_calls_ran_the_page_says_so():
    record_of_one()
    kept = Report(records=report().records)
    assert "When 1 call ran is not kept" in kept.to_html()
    assert "is not kept" not in report().to_html()


def test_a_page_can_be_written_to_a_file(tmp_path):
    told()
    path = report().write_html(tmp_path / "report.html", title="Tonight")
    assert path.read_text(encoding="utf-8") == report().to_html(title="Tonight")


def test_a_page_is_written_while_steps_run():
    with step("outer", max_usd=100), step("inner"):
        open_call().settle(Usage(input_tokens=10, output_tokens=5))
        waiting = open_call()
        html = report().to_html()
        waiting.withdraw()
    assert "still running" in html
    assert 'class="call running"' in html


def test_deep_trees_stay_on_the_page():
    def dig(depth):
        with step(f"level {depth}"):
            spend()
            if depth:
                dig(depth - 1)

    dig(30)
    depths = [int(row["data-depth"]) for row in Elements(report().to_html()).attributes("data-depth")]
    assert depths == list(range(31))
    assert max(int(found) for found in re.findall(r"--depth:(\d+)", report().to_html())) == 12


class TestCards:
    def test_a_step_shows_its_limits_before_and_its_spend_after(self):
        plan = step("plan", max_usd=100, max_tokens=4_000)
        assert "limits: max_usd $100.0000, max_tokens 4,000 tokens" in "".join(
            Elements(plan._repr_html_()).text
        )
        with plan:
            spend()
        text = " ".join(Elements(plan._repr_html_()).text)
        assert "15% of $100.0000" in text.replace("  ", " ")
        assert "completed" in text

    def test_a_record_shows_the_same_as_its_step(self):
        with step("plan", max_usd=100) as plan:
            spend()
        [record] = peek_completed_steps()
        assert isinstance(plan, Step)
        assert isinstance(record, CompletedStep)
        assert record._repr_html_() == plan._repr_html_()

    def test_an_exhaustion_shows_every_limit_without_room(self):
        with pytest.raises(BudgetExhausted) as caught:
            with step("plan", max_usd=1, max_calls=1):
                ask(price=lambda _: 0)
                ask(price=lambda _: 0)
        text = " ".join(" ".join(Elements(caught.value._repr_html_()).text).split())
        assert "plan is out of budget denied" in text
        assert "100% of 1 call" in text

    def test_a_card_has_bars_of_shared_budgets_and_says_when_they_begin_anew(self):
        with step("plan", budgets=[Budget("team-a", max_usd=60, window="1d")]) as plan:
            spend()
        elements = Elements(plan._repr_html_())
        [bar] = elements.attributes("data-budget")
        assert (bar["data-budget"], bar["data-limit"], bar["data-share"]) == ("team-a", "max_usd", "0.25")
        text = " ".join(" ".join(elements.text).split())
        assert "25% of $60.0000 (budget team-a, 1d)" in text
        assert "budget team-a resets at 20" in text

    def test_a_card_and_a_page_say_what_was_spent_before_and_what_was_granted(self):
        def grant(error):
            return Grant(max_calls=1, by="ops")

        for _ in range(2):
            with step("plan", max_calls=1, run_id="r", error_boundary="escalate", escalation=grant) as plan:
                ask()
        card = " ".join(Elements(plan._repr_html_()).text)
        whole = " ".join(Elements(report().to_html()).text)
        for text in (card, whole):
            assert "of which $15.0000 in 1 call before this start" in text
        assert "granted 1 call by ops" in card
        assert report().total.calls == 2


class TestTree:
    @pytest.fixture
    def html(self):
        with story.stopped() as clock:
            with step("nightly", run_id="tonight", max_usd=2000):
                for number in range(30):
                    with step("page", max_calls=2, error_boundary="continue"):
                        for _ in range(2 if number else 3):
                            ask()
                            clock.passes(1)
            clock.passes(100_000)
            with pytest.raises(BudgetExhausted), step("over", run_id="later", max_usd=10):
                spend()
        return report().to_html()

    @pytest.fixture
    def elements(self, html):
        return Elements(html)

    def test_many_steps_of_one_name_are_one_row_that_opens_without_a_script(self, elements):
        [row] = [each for tag, each in elements.found if tag == "tr" and each.get("class") == "folded"]
        assert (row["data-steps"], row["data-calls"]) == ("30", "60")
        assert "page ×30" in "".join(elements.text)
        assert len([each for tag, each in elements.found if tag == "li" and "data-step-id" in each]) == 30

    def test_each_run_has_its_id_and_its_start_with_a_zone(self, elements):
        runs = [each["data-run-id"] for tag, each in elements.found if "data-run-id" in each]
        assert runs == ["tonight", "later"]
        times = [each["datetime"] for tag, each in elements.found if tag == "time"]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", each) for each in times)

    def test_each_step_has_its_part_of_the_cost_of_its_run(self, elements):
        assert [float(each["data-share-of-run"]) for each in elements.attributes("data-share-of-run")] == [
            1,
            1,
            1,
        ]

    def test_what_is_over_a_limit_crosses_its_line(self, elements):
        [left] = [each["style"] for _, each in elements.found if each.get("class") == "over"]
        assert left == "left:66.67%"

    def test_refusals_are_counted_apart_from_calls(self, elements):
        assert "".join(elements.text).count("1 refused") >= 2

    def test_each_run_has_a_timeline_of_its_own_with_its_root_and_an_axis_in_units(self, elements):
        charts = [each for _, each in elements.found if each.get("class") == "chart"]
        assert len(charts) == 2
        text = "".join(elements.text)
        assert "nightlypage ×30" in text[text.index("Timeline") :]
        assert "0 s" in text
