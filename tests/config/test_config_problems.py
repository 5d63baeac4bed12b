"""What is wrong with a file is said with the file, the key, the line, the value and the fix."""

import os
import pickle

import pytest

from steptrack_callbacks.config import ConfigError, load, parse
from steptrack_callbacks.config.lines import Lines


def said(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[step.plan]", 'line 1: step: is unknown; did you mean "steps"?'),
        ("version = 1", "line 1: version: is unknown; known are steps, personas, budgets, prices"),
        ("[steps.plan]\nmax_usdd = 1", 'line 2: steps.plan.max_usdd: is unknown; did you mean "max_usd"?'),
        ("[steps.plan]\nmax_usd = '1'", "steps.plan.max_usd: must be a number from 0, such as 0.05, not '1'"),
        ("[steps.plan]\nmax_usd = -1", "steps.plan.max_usd: must be a number from 0, such as 0.05, not -1"),
        ("[steps.plan]\nmax_usd = nan", "not nan"),
        ("[steps.plan]\nmax_usd = inf", "not inf"),
        ("[steps.plan]\nmax_usd = true", "not True"),
        ("[steps.plan]\nmax_usd = 2026-11-22", "not datetime.date(2026, 11, 22)"),
        ("[tools]\n'' = 'network'", 'line 2: tools."": a name must not be empty'),
        ("[prices.' ']\ninput_usd_per_mtok = 1", 'prices." ": a name must not be empty'),
        ("[steps.a]\nmax_tool_calls = {'' = 1}", 'steps.a.max_tool_calls."": a name must not be empty'),
        ("[steps.plan]\nmax_calls = 1.0", "must be a whole number from 0, such as 20, not 1.0"),
        ("[steps.plan]\nmax_calls = true", "must be a whole number from 0, such as 20, not True"),
        ("[steps.plan]\nmax_tokens = 0", "must be a whole number from 1, such as 4000, not 0"),
        ("[steps.plan]\nmax_seconds = 0", "must be a number above 0, such as 60, not 0"),
        ("[steps.plan]\nclamp = 1", "steps.plan.clamp: must be true or false, not 1"),
        ("[steps.plan]\nenforce = 'strikt'", '"observe", not \'strikt\'; did you mean "strict"?'),
        ("[steps.plan]\nmodel = 3", 'must be a string, such as "gpt-4o-mini", not 3'),
        (f"[steps.plan]\nmax_calls = 0x{'f' * 4000}", "not a number of thousands of digits"),
        (
            "[steps.plan]\nwrap_up_usd = 1",
            "line 2: steps.plan.wrap_up_usd: wrap_up_usd=1 is kept back from max_usd",
        ),
        ("[steps.plan]\nescalation = 'ask'", "escalation: is a function, which only code can give"),
        ("[steps.plan]\nparent = 'a'", "parent: is a running step, which only code can give"),
        ("[steps.plan]\nrun_id = 'a'", "run_id: names one run, and this file is for all"),
        ("[steps.plan]\nname = 'a'", "name: is the table's own name; leave it out"),
        ("[steps.plan]\nbudget = {max_usd = 1}", "budget: is not used here: write limits beside it"),
        ("[steps.plan.stages.a]", "steps.plan.stages: only a persona has stages"),
        ("[steps]\nplan = 3", "line 2: steps.plan: must be a table, not 3"),
        ("steps = []", "line 1: steps: must be a table, not []"),
        ('[steps."a/b"]', "steps.\"a/b\": a name must not be empty, nor contain '/'"),
        ('[steps." "]', "a name must not be empty"),
        (
            "[steps.gpt.four]\nmax_usd = 1",
            "steps.gpt.four: is a table where a value is expected; a name with a dot",
        ),
        ("[prices.gpt-4.1]\nsource = 'x'", 'a name with a dot is quoted: [prices."gpt-4.1"]'),
        ("[prices.m]", "prices.m: must be a table with something in it, not {}"),
        (
            "[prices.m]\nsource = 'x'",
            "prices.m: has no rate: give input_usd_per_mtok and output_usd_per_mtok",
        ),
        (
            "[prices.m]\ninput_usd_per_mtoken = 1",
            "did you mean 'input_usd_per_mtok' (US dollars per million tokens)?",
        ),
        (
            "[prices.m]\ninput_cost_per_tokn = 1e-6",
            "prices.m.input_cost_per_tokn: is unknown; did you mean 'input_cost_per_token' (US dollars per token)?",
        ),
        ("[prices.m]\nmax_output_tokns = 9", "did you mean 'max_output_tokens'?"),
        (
            "[prices.m]\ninput_usd_per_mtok = 1\ninput_cost_per_token = 1e-6",
            "line 1: prices.m: has one rate twice: 'input_usd_per_mtok' and 'input_cost_per_token' are",
        ),
        ("[prices.m]\ninput_usd_per_mtok = -1", "must be a number from 0, such as 0.15, not -1"),
        ("[budgets.a]", "line 1: budgets.a: set at least one of max_usd, max_tokens and max_calls"),
        ("[budgets.a]\nmax_usd = 1e8", "must be a number from 0 to 9,000,000, such as 50, not 100000000.0"),
        (
            "[budgets.a]\nmax_usd = 1\nwindow = '1y'",
            "must be a number and m, h, d, w or mo, such as \"1d\", not '1y'",
        ),
        ("[budgets.a]\nmax_usd = 1\nscope = 'team'", 'scope: must be one of "all", "key", not \'team\''),
        (
            "[budgets.a]\nmax_usd = 1\nmax_seconds = 1",
            "max_seconds: is unknown; known are max_usd, max_tokens",
        ),
        (
            "[budgets.a]\nmax_usd = 1\n[steps.s]\nbudgets = ['b']",
            "line 4: steps.s.budgets: there is no budget 'b'",
        ),
        (
            "[steps.s]\nbudgets = ['team-b']\n[budgets.team-a]\nmax_usd = 1",
            'did you mean "team-a"? If not, declare',
        ),
        ("[steps.s]\nbudgets = 'a'", "must be a list without repetitions, such as [\"team-a\"], not 'a'"),
        ("[steps.s]\nbudgets = ['a', 'a']\n[budgets.a]\nmax_usd = 1", "a list without repetitions"),
        ("[steps.s]\nbudgets = [3]", "a non-empty name without '/', such as \"plan\", not 3"),
        ("[personas.p.stages.plan]", "line 1: personas.p.stages.plan: there is no step 'plan' in this file"),
        ("[steps.plan]\n[personas.p.stages.plna]", 'did you mean "plan"? If not, declare it as [steps.plna]'),
        ("[steps.plan]\n[personas.p.stages.plan]\nmax_usd = 1", "stages.plan.max_usd: is unknown"),
        ("[tools]\nshell = 'netwrok'", 'did you mean "network"?'),
        ("[ledger]\nurl = 'steps.db'", "ledger.url: 'steps.db' is not a ledger"),
        ("[ledger]\nurl = ''", 'ledger.url: must be a non-empty string, such as "sqlite:///steps.db"'),
        ("[ledger]\nurl = 'sqlite:///a.db?timeout_s=x'", "line 2: ledger.url: timeout_s of"),
        ("[ledger]\non_store_error = 'ignore'", 'must be one of "refuse", "allow"'),
        ("[ledger]\nlease_s = 0", "must be a number above 0"),
        ("[proxy]\nmax_open_steps = 0", "must be a whole number from 1, such as 100, not 0"),
        (
            "[proxy]\nbudgets = ['nobody']",
            "proxy.budgets: there is no budget 'nobody' in this file; declare it as",
        ),
        ("[steps.plan\n", "line 1: is not TOML: Expected ']' at the end of a table declaration, column 12"),
        ("[steps.a]\n[steps.a]", "line 2: is not TOML: Cannot declare"),
        ("a = " + "[" * 100_000, "is nested too deeply"),
        ("a = " + "9" * 5000, "is not TOML"),
        ("\x1b[31m = 1", "is not TOML"),
    ],
)
def test_a_problem_names_key_value_and_fix(text, message):
    assert message in said(text)


@pytest.mark.parametrize("text", [5, None, b"[steps.plan]\nmax_calls = 1"])
def test_what_is_not_text_is_refused_with_what_to_give(text):
    with pytest.raises(
        TypeError, match=r"parse\(\) reads text of TOML, not .*: decode bytes, or load\(path\) a"
    ):
        parse(text)


def test_all_problems_are_told_at_once_in_the_order_of_the_file():
    text = (
        "[steps.a]\nmax_usd = 'x'\nclamp = 1\n\n[tools]\nt = 'x'\n\n[budgets.b]\n[proxy]\nbudgets = ['c']\n"
    )
    with pytest.raises(ConfigError) as caught:
        parse(text, source="limits.toml")
    keys = ["steps.a.max_usd", "steps.a.clamp", "tools.t", "budgets.b", "proxy.budgets"]
    assert [problem.key for problem in caught.value.problems] == keys
    assert [problem.line for problem in caught.value.problems] == [2, 3, 6, 8, 10]
    assert str(caught.value).startswith("limits.toml: 5 problems\n  line 2: steps.a.max_usd: ")


def test_no_more_are_told_than_anybody_reads():
    text = "\n".join(f"key{number} = 1" for number in range(1000))
    assert said(text).startswith("steptrack.toml: 50 or more problems")


@pytest.mark.parametrize(
    "url",
    [
        "rediz://me:hunter2@host:port",
        "reds://me:hunter2@host/0",
        "hunter2 redis://:hunter2@host",
        "http://:hunter2@h",
    ],
)
def test_a_password_is_not_repeated(url):
    assert "me:hunter2" not in said(f"[ledger]\nurl = '{url}'\n")
    assert ":hunter2" not in said(f"[ledger]\nurl = ['{url}']\n")


def test_a_value_of_any_length_is_shortened():
    assert len(said(f"[steps.plan]\nmodel = {['x' * 1000] * 100}")) < 500
    assert len(said(f"{'x' * 100_000} = 1")) < 500


def test_what_a_terminal_would_act_on_is_written_out():
    assert "\x1b" not in said('[steps.plan]\n"a\\u001b[31m" = "\\u001b[31m"\nmax_usd = "\\u001b[31m"')


def test_the_error_survives_pickling():
    with pytest.raises(ConfigError) as caught:
        parse("a = 1\nb = 2")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.source, again.problems, str(again)) == (
        caught.value.source,
        caught.value.problems,
        str(caught.value),
    )


def of_file(path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value)


def test_files_that_cannot_be_read_are_told_apart(tmp_path):
    file = tmp_path / "steptrack.toml"
    assert of_file(file) == f"{file}: there is no such file"
    assert "is a directory; name the file in it" in of_file(tmp_path)
    assert "there is no such file" in of_file("a\0b")
    assert "is not a plain file" in of_file("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    assert "is not a plain file" in of_file(tmp_path / "pipe")
    assert "there is no such file" in of_file(file / "below")
    assert of_file("x" * 5000).startswith("xxx")
    file.write_bytes(b"# fine\nmodel = '\xff'\n")
    assert of_file(file) == f"{file}: line 2: is not UTF-8: save it as UTF-8"
    file.write_text("[steps.plan]", encoding="utf-16")
    assert "it looks like UTF-16; save it as UTF-8" in of_file(file)
    file.write_bytes(b"#" * 1_000_001)
    assert "is larger than 1,000,000 bytes" in of_file(file)


def test_a_byte_order_mark_and_windows_lines_do_no_harm(tmp_path):
    file = tmp_path / "steptrack.toml"
    file.write_bytes(b"\xef\xbb\xbf[steps.plan]\r\nmax_calls = 3\r\n")
    assert load(file).steps["plan"].max_calls == 3


def test_lines_are_found_around_values_of_many_lines():
    text = '# a\n\n[a]\nx = """\n[b]\ny = 1\n"""\n\n# b\n[b]\ny = [\n  1,\n\n  2,\n]\nz = 3\n[c]\n'
    lines = Lines(text)
    keys = [("a",), ("a", "x"), ("b",), ("b", "y"), ("b", "z"), ("c",)]
    assert [lines.line_of(key) for key in keys] == [3, 4, 10, 11, 16, 17]
    assert lines.line_of(("b", "no")) is None


def test_a_line_that_is_too_much_work_to_find_is_left_out():
    text = '[steps.a]\nx = """\n' + "\n" * 5000 + '"""\ny = 1\n'
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert [problem.key for problem in caught.value.problems] == ["steps.a.x", "steps.a.y"]
    assert None in {problem.line for problem in caught.value.problems}
