"""Looks for known vulnerabilities in all that is installed here, and says so if nobody can tell.

    python tools/audit.py

Ends with 0 if every package was looked up and is clean, 1 if one is vulnerable, and 2 if the data could not
be reached: pip-audit itself also ends with 0 where an index knows none of the packages.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

CLEAN, VULNERABLE, UNKNOWN = range(3)


def main() -> int:
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--progress-spinner", "off"]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip() or done.stdout.strip() or "no answer").splitlines()[-1]
        print(f"nothing was audited: the data could not be reached ({reason})")
        return UNKNOWN
    return told(packages)


def told(packages: list[dict[str, Any]]) -> int:
    """Say what was found, and how much of it was looked at."""
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    found = [package for package in packages if package.get("vulns")]
    for package in found:
        for each in package["vulns"]:
            fixed = ", ".join(each["fix_versions"]) or "no version yet"
            print(f"{package['name']} {package['version']}: {each['id']}, fixed in {fixed}")
    looked_up = len(packages) - len(skipped)
    print(f"{looked_up} of {len(packages)} packages were looked up; {len(found)} are vulnerable")
    if found:
        return VULNERABLE
    if skipped:
        print(f"not known to the index, and so not audited: {', '.join(skipped[:10])} ...")
        return UNKNOWN
    return CLEAN


if __name__ == "__main__":
    sys.exit(main())
