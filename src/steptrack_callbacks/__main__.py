"""`python -m steptrack_callbacks` is `steptrack`."""

from .cli import main

raise SystemExit(main())
