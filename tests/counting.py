"""How many functions of this package run: counted, since a machine's mood changes times.

What another test has left to the garbage collector is not counted: it is not collected meanwhile.
"""

import gc
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import steptrack_callbacks

HOME = str(Path(steptrack_callbacks.__file__).parent)
INLINED = {"<listcomp>", "<dictcomp>", "<setcomp>"}  # frames of their own before Python 3.12


@contextmanager
def counted():
    found = Counter()

    def note(frame, event, _argument):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(HOME) and code.co_name not in INLINED:
            found[f"{code.co_filename.removeprefix(HOME)}: {code.co_name}"] += 1

    before = sys.getprofile(), gc.isenabled()
    gc.disable()
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(before[0])
        if before[1]:
            gc.enable()
