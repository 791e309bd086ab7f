"""Ask pip-audit for known vulnerabilities of what `pip install deltaforge` brings; called as `.ci/audit.py PIP-AUDIT`.

Whoever looks at this checkout without reach of the data gets one line that says so, and success. What is found fails
when there is a release that mends it: the newest that our bounds allow is installed here, so either a bound of ours
holds the mended one back, or it came out a moment ago. What has no such release is printed: nothing can be done here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from typing import Any

from packaging.requirements import Requirement

PRODUCT = "deltaforge"
NOT_RUN = "pip-audit was not run: its data cannot be reached from here"
WITHIN_S = 120.0


def brought_along() -> list[str]:
    """Every distribution that the product needs at run time, as `name==version`."""
    found: dict[str, str] = {}
    ahead = [Requirement(PRODUCT)]
    while ahead:
        wanted = ahead.pop()
        installed = distribution(wanted.name)
        key = f"{installed.name}[{','.join(sorted(wanted.extras))}]"
        if key in found:
            continue
        found[key] = f"{installed.name}=={installed.version}"
        for line in installed.requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)):
                ahead.append(needed)
    return sorted(set(found.values()) - {f"{PRODUCT}=={distribution(PRODUCT).version}"})


def judge(said: str) -> tuple[int, list[str]]:
    """Exit code and lines for what pip-audit printed as JSON; `said` is empty when it could not ask."""
    packages: list[dict[str, Any]] = json.loads(said)["dependencies"] if said.strip() else []
    audited = [package for package in packages if "skip_reason" not in package]
    if not audited:
        return 0, [NOT_RUN]
    lines, mendable = [f"pip-audit: {len(audited)} of {len(packages)} packages are known to it"], 0
    for package in audited:
        for found in package["vulns"]:
            mended = ", ".join(found["fix_versions"])
            mendable += bool(mended)
            lines.append(f"{package['name']} {package['version']}: {found['id']}, mended in {mended or 'no release'}")
    return int(mendable > 0), lines


def main() -> int:
    """Run pip-audit and print what came of it."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        wanted.write("\n".join(brought_along()))
        wanted.flush()
        command = [sys.argv[1], "--requirement", wanted.name, "--no-deps", "--disable-pip", "--format=json"]
        try:
            done = subprocess.run(  # noqa: S603 - our own command
                [*command, "--progress-spinner=off"], capture_output=True, text=True, timeout=WITHIN_S, check=False
            )
            said = done.stdout
        except subprocess.TimeoutExpired:
            said = ""
    code, lines = judge(said)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
