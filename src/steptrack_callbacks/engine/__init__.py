"""May a call go, and what is it charged: accounts and calls, never a step or an integration.

To be read in this order: `amounts`, `account`, `chain`; then `request`, `holds`, `estimating` and `room`;
`reservation`, which decides, and its `outcomes`; `queue` and `escalation`; `admission`, `call`, `streaming`
and `settlement`. What concerns ledgers is in `budget_account`, `replica`, `ledger_amounts`, `lease` and
`shared_reservation`; `swapping` chooses a cheaper model; `fast_path` is the short way past most of it,
and `allowance` the room that is set aside for it.
"""
