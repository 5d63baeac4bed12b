"""Lua's numbers are exact up to 2^53; the sums of the scripts are exact up to 2^63."""

import json
from importlib import resources

from hypothesis import given, settings
from hypothesis import strategies as st

from steptrack_callbacks import ledgers

MOST = 2**63 - 1
sums = st.integers(-MOST, MOST) | st.sampled_from(
    [0, 1, -1, 10**10, -(10**10), 10**10 - 1, 2**53 + 1, MOST, -MOST]
)
ASK = """
local answers = {}
for i, pair in ipairs(asked.pairs) do
  local one, other = pair[1], pair[2]
  answers[i] = {plus(one, other), minus(one, other), less(one, other) and 1 or 0, write(parse(one)),
                fits_books(plus(one, other)) and 1 or 0}
end
return answers
"""


@settings(max_examples=60)
@given(pairs=st.lists(st.tuples(sums, sums), min_size=1, max_size=60))
def test_the_sums_of_the_scripts_are_those_of_python(redis_server, pairs):
    script = (resources.files(ledgers) / "lua" / "common.lua").read_text() + ASK
    client = redis_server.client()
    asked = json.dumps({"pairs": [[str(one), str(other)] for one, other in pairs]})
    answers = client.eval(script, 1, "{sums}", asked)
    client.close()
    for (one, other), answer in zip(pairs, answers, strict=True):
        assert answer == [
            str(one + other),
            str(one - other),
            int(one < other),
            str(one),
            int(-MOST <= one + other <= MOST),
        ]
