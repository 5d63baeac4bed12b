"""A batch over a CSV file with a pool of threads: the pool shares the budget, and what was not done is known.

Each row is one call. When the budget is used up, the rows that are left keep an empty summary, so that the
next run can go on with them.
"""

import csv
import io
from concurrent.futures import ThreadPoolExecutor

import litellm

import steptrack_callbacks as steptrack
from steptrack_callbacks import BudgetExhausted, step

steptrack.install()
REVIEWS = "review\n" + "".join(f"The parcel came {days} days late.\n" for days in range(1, 41))


def summarise(review: str) -> str:
    response = litellm.completion(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": f"Summarise in three words: {review}"}],
        max_tokens=20,
        mock_response="Parcel was late.",
    )
    return str(response.choices[0].message.content)


def summary_or_nothing(row: dict[str, str]) -> str:
    try:
        return summarise(row["review"])
    except BudgetExhausted:
        return ""


rows = list(csv.DictReader(io.StringIO(REVIEWS)))
with step("reviews", max_calls=25) as reviews, ThreadPoolExecutor(8) as pool:
    summaries = list(pool.map(summary_or_nothing, rows))

done = [summary for summary in summaries if summary]
print(f"{len(done)} of {len(rows)} rows summarised for ${reviews.cost_usd}")
