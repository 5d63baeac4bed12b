"""May a call go, and what is it charged: accounts and calls, never a step or an integration.

To be read in this order: `amounts`, `limits`, `account`, `chain`; then `request`, `output_stats` and
`forecasts`, `holds` and `in_flight`, `estimating` and `room`; `reservation`, which decides, with its
`output_cap` and its `outcomes`; `queue` and `escalation`; `admission`, `open_call`, `call`, `streaming` and
`settlement`, with `thresholds` and `call_log`. What concerns ledgers is in `budget_account`, `replica`,
`ledger_amounts`, `lease` and `shared_reservation`; `swapping` chooses a cheaper model; `fast_path` is the
short way past most of it, and `allowance` the room that is set aside for it; `forking` says what a forked
child leaves to its parent.
"""
