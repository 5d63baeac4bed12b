"""What people look at: the tree of steps, with what each spent of what it had, as text, HTML and dicts."""

from .folding import Line
from .views import Report, report

__all__ = ["Line", "Report", "report"]
