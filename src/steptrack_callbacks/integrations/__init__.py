"""What the integrations share.

An integration is a folder of its own, such as `langchain/`, that turns the events of one package into calls.
The smallest is `tests/fake_framework.py`. A new one has to write

- a reader of requests, which returns a `Request` of `engine/request.py` (see `langchain/requests.py`),
- what happens before a request is sent: `new_call()` of `steps/attribution.py`, then `Call.admit()` or
  `admit_async()`, the `Call.max_tokens_to_set` that a limit may want, and what was refused as an error that
  the package does not try again (`errors.py`),
- a reader of answers, which gives `settling.settle()` what `usage.Reading` finds in one (see
  `langchain/usage.py`); `settling.fail()` and `settling.abandon()` are for those that fail, or never come,
- for streams, `Call.progress()`, which raises where one is to be cut, and when to ask it
  (`stream_pacing.py`),
- the places where it attaches, as data (`seams_langchain.py`), and `attach()` (see
  `langchain/attachment.py`).

It is registered in `_ATTACH` of `installation.py`, `_INTEGRATIONS` of `attachments.py`, `SEAMS` of
`all_seams.py`, `TESTED` of `versions.py`, `_BETWEEN` of `values/user_warnings.py`, `probes()` of
`cli/self_test.py`, and with its floor in `tests/test_floors.py` and `docs/design.md`.
`tests/integrations/test_registered_everywhere.py` says what is missing.
"""
